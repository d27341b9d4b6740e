"""What is the memory store's alone: its bound, and what end users beyond it meet."""

import subprocess
import sys

import pytest

from sentinel_gateway.core.limits import UNIT, charge
from sentinel_gateway.stores.memory_limits import MOST_USERS, SMALL, MemoryLimits
from tests.fakes import FakeClock, at_once

MOST = 8


def user(name, *, kind="requests", limit=60, amount=1, key="k"):
    return charge(f"{kind}:{key}:{name}", kind, "user", limit=limit, amount=amount, spill=f"{kind}:{key}:others")


def key(limit=1_000_000, name="k"):
    return charge(f"requests:{name}", "requests", "key", limit=limit, amount=1)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def store(clock):
    return MemoryLimits(clock=clock, most_users=MOST)


def admitted(store, *charges):
    return at_once(store.take(charges)).refused is None


def test_users_beyond_the_bound_share_one_bucket(store):
    assert sum(admitted(store, user(n)) for n in range(1000)) == MOST + 60
    assert store.buckets() == MOST + 1
    assert not admitted(store, user("late"))


def test_who_has_a_bucket_keeps_it_through_a_flood(store):
    assert [admitted(store, user("mine", limit=3)) for _ in range(2)] == [True, True]
    for n in range(1000):
        admitted(store, user(n))
    assert [admitted(store, user("mine", limit=3)) for _ in range(2)] == [True, False]


def test_no_user_gets_a_fresh_limit_by_a_flood(store, clock):
    """Spent to the end, a user stays refused whatever others do."""
    while admitted(store, user("greedy", limit=3)):
        pass
    for n in range(5000):
        clock.now += 0.001
        admitted(store, user(n, limit=3))
        assert not admitted(store, user("greedy", limit=3))


def test_another_key_feels_nothing(store):
    for n in range(1000):
        admitted(store, user(n))
    assert all(admitted(store, user(n, key="other")) for n in range(MOST))


def test_the_key_that_floods_is_still_limited_itself(store):
    assert sum(admitted(store, key(10), user(n)) for n in range(1000)) == 10


def test_whole_buckets_make_room_for_newcomers_and_are_looked_for_once_a_second(store, clock):
    for n in range(MOST):
        assert admitted(store, user(n))
    while admitted(store, user("shared")):
        pass
    clock.now += 0.999
    assert not admitted(store, user("newcomer"))
    clock.now += 0.001
    assert [admitted(store, user("newcomer", limit=2)) for _ in range(3)] == [True, True, False]


def test_places_taken_from_the_shared_bucket_go_back_there(store):
    for n in range(MOST):
        assert admitted(store, user(n, kind="concurrency", limit=1))
    assert admitted(store, user("a", kind="concurrency", limit=1))
    assert not admitted(store, user("b", kind="concurrency", limit=1))
    at_once(store.settle([user("a", kind="concurrency", limit=1, amount=-1)]))
    assert admitted(store, user("b", kind="concurrency", limit=1))
    for n in range(MOST):
        at_once(store.settle([user(n, kind="concurrency", limit=1, amount=-1)]))
    at_once(store.settle([user("b", kind="concurrency", limit=1, amount=-1)]))
    assert store.buckets() == 0


def test_tokens_that_are_given_back_never_refill_the_shared_bucket(store, clock):
    assert admitted(store, user("mine", kind="tokens", amount=30))
    clock.now += 60
    for n in range(MOST):
        assert admitted(store, user(n, kind="tokens"))
    store.buckets()
    assert admitted(store, user("shared", kind="tokens", amount=60))
    at_once(store.settle([user("mine", kind="tokens", amount=-30)]))
    assert not admitted(store, user("shared", kind="tokens"))


def test_looking_takes_no_room(store):
    for n in range(100):
        assert admitted(store, user(n, amount=0))
    assert sum(admitted(store, user(n)) for n in range(100, 100 + MOST)) == MOST
    assert store.buckets() == MOST


def test_more_tokens_than_were_reserved_are_booked_on_the_user(store):
    at_once(store.settle([user("mine", kind="tokens", amount=61)]))
    assert not admitted(store, user("mine", kind="tokens"))
    assert admitted(store, user("other", kind="tokens"))


def test_what_another_store_says_is_known(store, clock):
    store.learn(key(60), 30 * UNIT)
    assert store.spent("requests:k") == 30 * UNIT
    clock.now += 10
    assert store.known() == {"requests:k": (20 * UNIT, int(clock.now * 1000), 60)}
    assert sum(admitted(store, key(60)) for _ in range(60)) == 40
    store.learn(key(60), 0)
    assert store.buckets() == 0
    assert store.spent("requests:k") == 0


def test_places_in_flight_are_not_what_refills_by_itself(store):
    assert admitted(store, user("mine", kind="concurrency"), key(60))
    assert list(store.known()) == ["requests:k"]


def test_what_another_store_says_of_users_is_bounded_as_well(store):
    for n in range(1000):
        store.learn(user(n), UNIT)
    assert store.buckets() == MOST
    assert sum(admitted(store, user(n, limit=1)) for n in range(MOST)) == 0


def test_what_was_learnt_is_dropped_when_it_is_whole(store, clock):
    for n in range(SMALL):
        store.learn(key(name=n), 1)
    clock.now += 60
    store.learn(key(name="one more"), 1)
    assert repr(store) == "<MemoryLimits 1 buckets>"


def test_whole_buckets_are_dropped_when_the_table_has_doubled(store, clock):
    for n in range(SMALL):
        assert admitted(store, key(name=n))
    assert repr(store) == f"<MemoryLimits {SMALL} buckets>"
    clock.now += 60
    assert admitted(store, key(name="one more"))
    assert repr(store) == "<MemoryLimits 1 buckets>"


FLOOD = """
import resource, types
import sentinel_gateway.app  # what a gateway loads anyway
from sentinel_gateway.core.budgets import NO_BUDGET
from sentinel_gateway.core.limits import Limits
from sentinel_gateway.errors import RateLimited
from sentinel_gateway.pipeline.callers import LimitRules
from sentinel_gateway.pipeline.limiting import Limiter
from sentinel_gateway.stores.memory_limits import MemoryLimits
from tests.fakes import FakeClock, at_once

def rss():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()

clock = FakeClock()
store = MemoryLimits(clock=clock)
limiter = Limiter(store, rules=LimitRules(), clock=clock, chance=float)
party = types.SimpleNamespace(id="key_0123456789abcdef", tenant="t", limits=Limits(), user_limits=Limits(1, 1), budget=NO_BUDGET)
before = rss()
for n in range(100_000):
    clock.now += 0.0001
    grant = limiter.grant(party)
    try:
        at_once(grant.enter(model="m", user=f"user-{n}"))
        at_once(grant.reserve(1))
    except RateLimited:
        pass
print((rss() - before) / before, before / 2**20, store.buckets())
"""


@pytest.mark.long
def test_a_hundred_thousand_random_users_add_less_than_two_percent_of_memory():
    """D10: limits so low that no bucket becomes whole meanwhile."""
    run = subprocess.run([sys.executable, "-c", FLOOD], capture_output=True, text=True, check=True, timeout=120)
    share, mebibytes, buckets = map(float, run.stdout.split())
    print(f"{share:.2%} of {mebibytes:.0f} MiB, {buckets:.0f} buckets")
    assert buckets == 2 * MOST_USERS + 2
    assert share < 0.02
