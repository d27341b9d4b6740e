"""How often an address may send wrong keys."""

from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.core.backoff import Backoff


def backoff(addresses=100) -> Backoff:
    return Backoff(burst=3, pause=10.0, addresses=addresses)


def test_a_burst_then_one_a_pause():
    rule = backoff()
    assert [rule.failed("1.2.3.4", 0.0) for _ in range(5)] == [0, 0, 0, 10, 10]
    assert rule.failed("1.2.3.4", 4.0) == 6
    assert rule.failed("1.2.3.4", 10.0) == 0
    assert rule.failed("1.2.3.4", 10.0) == 10
    assert [rule.failed("1.2.3.4", 1000.0) for _ in range(4)] == [0, 0, 0, 10]


def test_how_long_to_wait_is_told_without_counting():
    rule = backoff()
    for _ in range(3):
        assert rule.wait("1.2.3.4", 0.0) == 0
        rule.failed("1.2.3.4", 0.0)
    assert [rule.wait("1.2.3.4", now) for now in (0.0, 0.0, 4.0, 10.0)] == [10, 10, 6, 0]
    assert rule.wait("1.2.3.5", 0.0) == 0


def test_addresses_do_not_share():
    rule = backoff()
    for _ in range(4):
        rule.failed("1.2.3.4", 0.0)
    assert rule.failed("1.2.3.5", 0.0) == 0


def test_the_addresses_of_one_ipv6_network_do():
    rule = backoff()
    assert [rule.failed(f"2001:db8::{n}", 0.0) for n in range(1, 5)] == [0, 0, 0, 10]
    assert rule.failed("2001:db8:0:1::1", 0.0) == 0
    assert rule.failed("fe80::1%eth0:x:y", 0.0) == 0
    assert rule.failed("not:an:address", 0.0) == 0


def test_memory_is_bounded_and_the_oldest_goes_first():
    rule = backoff(addresses=2)
    for _ in range(3):
        rule.failed("old", 0.0)
    for number in range(1000):
        for _ in range(4):
            rule.failed("guesser", 0.0)
        rule.failed(f"10.0.{number // 256}.{number % 256}", 0.0)
        assert len(rule) <= 2
    assert rule.failed("guesser", 0.0) == 10
    assert rule.failed("old", 0.0) == 0
    assert repr(rule) == "<Backoff 2 of 2 addresses>"


@given(st.lists(st.floats(0, 20), max_size=60))
def test_in_any_time_no_more_than_the_burst_and_one_a_pause(gaps):
    rule, now, within = backoff(), 0.0, []
    for gap in gaps:
        now += gap
        if not rule.failed("a", now):
            within.append(now)
    for first, start in enumerate(within):
        for count, end in enumerate(within[first:], 1):
            assert count <= 3 + (end - start) / 10 + 1e-9
