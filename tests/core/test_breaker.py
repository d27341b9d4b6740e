"""The breaker, step by step."""

from sentinel_gateway.core.breaker import Breaker


def opened(now=0.0) -> Breaker:
    breaker = Breaker(failures=3, pause=5.0)
    assert [breaker.failed(now) for _ in range(3)] == [False, False, True]
    return breaker


def test_a_success_between_failures_keeps_it_closed():
    breaker = Breaker(failures=3, pause=5.0)
    for _ in range(10):
        assert not breaker.failed(0.0)
        assert not breaker.failed(0.0)
        assert not breaker.succeeded()
    assert breaker.allows(0.0)
    assert not breaker.is_open


def test_while_open_one_goes_through_each_pause():
    breaker = opened()
    assert [breaker.allows(now) for now in (0.0, 4.9, 5.0, 5.1, 9.9, 10.0, 10.1)] == [
        False,
        False,
        True,
        False,
        False,
        True,
        False,
    ]


def test_a_failed_probe_is_no_news_and_starts_the_pause_again():
    breaker = opened()
    assert breaker.allows(6.0)
    assert not breaker.failed(7.0)
    assert not breaker.allows(11.9)
    assert breaker.allows(12.0)


def test_one_success_closes_it_and_the_count_starts_again():
    breaker = opened()
    assert breaker.allows(5.0)
    assert breaker.succeeded()
    assert not breaker.succeeded()
    assert breaker.allows(5.0)
    assert not breaker.failed(5.0)


def test_it_tells_its_state():
    assert repr(opened()) == "<Breaker open, 3 failures in a row>"
