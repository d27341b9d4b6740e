"""Token buckets: exact sums, and a naive model that the store in memory never leaves (X3)."""

from fractions import Fraction
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from sentinel_gateway.core.budgets import Account, Allowance
from sentinel_gateway.core.limits import LARGEST, UNIT, Limits, Standing, Verdict, charge, judge, refilled, share
from sentinel_gateway.stores.memory_limits import MemoryLimits
from tests.fakes import FakeClock, at_once

MINUTE = 60_000
limits = st.one_of(st.integers(1, 20), st.integers(1, LARGEST))


def judged(charges, states, now):
    """By their buckets' states, in the order of the charges."""
    known = iter(states)
    return judge(charges, lambda _: next(known), now)


def requests(limit, amount=1, **changes):
    return charge("r", **{"kind": "requests", "scope": "key", "limit": limit, "amount": amount} | changes)


@given(limits, st.integers(0, MINUTE * 3))
def test_a_minute_brings_the_whole_limit_back_and_a_part_of_it_its_part(limit, elapsed):
    spent = limit * UNIT
    assert refilled((spent, 5, limit), 5 + elapsed) == max(0, spent - limit * elapsed)
    assert refilled((spent, 5, limit), 5 + MINUTE) == 0


@given(limits, st.integers(0, MINUTE), st.lists(st.integers(0, MINUTE)))
def test_looking_often_brings_back_what_looking_once_does(limit, start, steps):
    once = refilled((limit * UNIT, start, limit), start + sum(steps))
    now, spent = start, limit * UNIT
    for step in steps:
        spent, now = refilled((spent, now, limit), now + step), now + step
    assert spent == once


@given(limits, st.integers(0, MINUTE), st.integers(1, MINUTE))
def test_a_jump_backwards_gives_nothing(limit, now, jump):
    assert refilled((limit * UNIT, now, limit), now - jump) == limit * UNIT


@given(limits, st.data())
def test_after_the_wait_that_is_told_it_fits_and_not_a_millisecond_before(limit, data):
    amount = data.draw(st.integers(1, limit))
    spent = data.draw(st.integers((limit - amount) * UNIT + 1, 3 * limit * UNIT))
    wanted = [requests(limit, amount)]
    refused = judged(wanted, [(spent, 0, limit)], 0)
    assert refused.refused is wanted[0]
    wait = round(refused.retry_after * 1000)
    assert judged(wanted, [(spent, 0, limit)], wait).refused is None
    assert judged(wanted, [(spent, 0, limit)], wait - 1).refused is wanted[0]
    assert refused.later(wait).refused is None
    assert refused.later(wait - 1).retry_after == 0.001


# -- shares


@given(limits, st.integers(1, 9), st.lists(st.tuples(st.integers(0, 8), st.integers(0, 2000)), max_size=60))
def test_nodes_that_know_nothing_of_each_other_keep_to_the_limit_together(limit, nodes, takes):
    """However the requests fall to them: never more than one bucket for all, where each has room for one at all."""
    limit, now, admitted, states = max(limit, nodes), 0, 0, [None] * nodes
    for node, pause in takes:
        now += pause
        one = share(requests(limit), nodes)
        verdict = judged([one], [states[node % nodes]], now)
        if verdict.refused is None:
            states[node % nodes] = verdict.spent[0], now, one.rate
            admitted += 1
        assert admitted * UNIT <= limit * UNIT + limit * now


@given(limits, st.integers(1, 9))
def test_the_share_of_a_limit_is_all_of_it_for_one_and_half_of_it_for_two(limit, nodes):
    clock = FakeClock()
    store = MemoryLimits(clock=clock)
    one = share(requests(limit, max(1, limit // nodes)), nodes)
    assert at_once(store.take([one])).refused is None
    assert nodes == 1 or limit >= nodes or at_once(store.take([one])).refused is one
    assert share(requests(limit), 1) == requests(limit)


def test_what_fits_the_limit_fits_its_share_if_nothing_else_was_spent():
    """It waits so much the longer for the next, so all nodes together still keep to the limit."""
    large = share(requests(10, 8), 4)
    first = judged([large], [None], 0)
    assert first.refused is None
    assert judged([large], [(first.spent[0], 0, large.rate)], 0).retry_after == 4 * 8 * 60 / 10
    hopeless = share(requests(10, 11), 4)
    assert judged([hopeless], [None], 0).refused.hopeless


@given(st.integers(1, 50), st.integers(1, 9), st.integers(1, 50), st.lists(st.tuples(st.integers(0, 8), st.integers(0, 90_000))))
def test_large_requests_of_all_nodes_are_one_each_at_once_and_the_limit_over_time(limit, nodes, amount, takes):
    """The whole limit at once, or one of these requests on each node, whichever is more; then what comes back."""
    one, now, admitted, states = share(requests(limit, amount), nodes), 0, 0, [None] * nodes
    for node, pause in takes:
        now += pause
        verdict = judged([one], [states[node % nodes]], now)
        if verdict.refused is None:
            states[node % nodes] = verdict.spent[0], now, one.rate
            admitted += amount
        assert admitted * UNIT <= max(limit, nodes * amount) * UNIT + limit * now
    assert admitted == 0 if amount > limit else admitted >= amount or not takes


@pytest.mark.parametrize(("limit", "nodes", "places"), [(6, 2, 3), (7, 2, 3), (1, 3, 1), (5, 1, 5)])
def test_places_in_flight_are_divided_and_everybody_has_one(limit, nodes, places):
    one = share(requests(limit, kind="concurrency"), nodes)
    assert one.capacity == places * UNIT
    assert one.cost == UNIT


@given(limits, limits)
def test_what_was_taken_is_exactly_what_was_asked_for(limit, amount):
    verdict = judged([requests(limit, amount)], [None], 0)
    assert (verdict.refused is None) == (amount <= limit)
    assert verdict.spent == [amount * UNIT if amount <= limit else 0]


def test_more_than_the_whole_limit_never_fits():
    verdict = judged([requests(10), requests(10, 11)], [(10 * UNIT, 0, 10), None], 0)
    assert verdict.refused == requests(10, 11)
    assert verdict.refused.hopeless
    assert verdict.retry_after is None


def test_of_several_that_do_not_fit_the_longest_wait_is_told():
    slow, fast = requests(1), requests(600)
    verdict = judged([fast, slow, fast], [(600 * UNIT, 0, 600), (UNIT, 0, 1), None], 0)
    assert (verdict.refused, verdict.retry_after) == (slow, 60.0)


def test_a_place_in_flight_has_no_time():
    place = charge("c", "concurrency", "key", limit=2, amount=1)
    full = (2 * UNIT, 0, 0)
    verdict = judged([place], [full], 10**9)
    assert (verdict.refused, verdict.retry_after) == (place, None)
    timed = judged([place, requests(60)], [full, (60 * UNIT, 0, 60)], 0)
    assert (timed.refused, timed.retry_after) == (requests(60), 1.0)


def test_looking_is_never_refused():
    assert judged([requests(1, 0)], [(5 * UNIT, 0, 1)], 0).refused is None


def test_the_tightest_bucket_is_told():
    charges = [requests(100), requests(50, scope="tenant"), charge("c", "concurrency", "key", limit=3, amount=1)]
    verdict = judged(charges, [(30 * UNIT, 0, 100), None, None], 0)
    assert verdict.standings() == (Standing(50, 49, 1200), None), "and of places in flight nothing"


@pytest.mark.parametrize("kind", ["requests", "tokens"])
def test_the_tightest_bucket_is_told_whichever_comes_first(kind):
    charges = [requests(50, kind=kind), requests(100, kind=kind, scope="tenant")]
    for order in (charges, charges[::-1]):
        told = judged(order, [None, None], 0).standings()
        assert told[kind == "tokens"].remaining == 49
        assert told[kind == "requests"] is None


def test_an_account_is_told_of_the_very_allowance_that_was_asked_about():
    day, month = Allowance("a", "key", "day", 5, 1), Allowance("a", "key", "month", 9, 2)
    verdict = Verdict((), (), accounts=((day, Account(1)), (month, Account(2))))
    assert (verdict.account(day), verdict.account(month)) == (Account(1), Account(2))


def test_a_debt_leaves_nothing_and_takes_longer_to_come_back():
    standing = Verdict([requests(60, 0)], [120 * UNIT]).standings()[0]
    assert (standing.remaining, standing.reset) == (0, 120_000)


@given(st.integers(1, 100), st.integers(0, 100 * UNIT))
def test_what_remains_is_whole_ones_and_the_reset_is_when_all_is_back(limit, spent):
    standing = Verdict([requests(limit, 0)], [spent]).standings()[0]
    assert standing.remaining == max(0, Fraction(limit) - Fraction(spent, UNIT)) // 1
    whole = standing.reset
    assert refilled((spent, 0, limit), whole) == 0
    assert not spent or refilled((spent, 0, limit), whole - 1) > 0


def test_limits_of_ones_own_stand_above_the_defaults():
    assert Limits(1, None, 3).or_else(Limits(10, 20, 30)) == Limits(1, 20, 3)
    assert Limits(None, 2, None).or_else(Limits(10, 20, 30)) == Limits(10, 2, 30)


class Naive:
    """Fractions of requests; an entry for every bucket."""

    def __init__(self):
        self.spent = {}

    def look(self, name, now):
        spent, at, limit = self.spent.get(name, (Fraction(0), now, 0))
        return max(Fraction(0), spent - Fraction(limit) * max(0, now - at) / MINUTE)

    def book(self, booked, now):
        left = max(Fraction(0), self.look(booked.bucket, now) + booked.amount)
        self.spent[booked.bucket] = left, now, 0 if booked.kind == "concurrency" else booked.limit

    def take(self, charges, now):
        asked = [one for one in charges if one.amount]
        if any(self.look(one.bucket, now) + one.amount > one.limit for one in asked):
            return False
        for one in asked:
            self.book(one, now)
        return True


NAMES = ("requests", "tokens", "concurrency")


class Machine(RuleBasedStateMachine):
    """Takes, corrections, changed limits and time, on a few buckets of each kind."""

    @initialize(start=st.integers(0, 10**12))
    def begin(self, start):
        self.clock = FakeClock()
        self.clock.now = start / 1000
        self.store = MemoryLimits(clock=self.clock)
        self.model = Naive()

    @property
    def now(self):
        return int(self.clock.now * 1000)

    @rule(
        picks=st.lists(
            st.tuples(st.sampled_from(NAMES), st.integers(0, 2), st.sampled_from([1, 2, 7, 60, 1000]), st.integers(0, 4)),
            min_size=1,
            max_size=5,
            unique_by=lambda pick: pick[:2],
        )
    )
    def take(self, picks):
        charges = [charge(f"{kind}{n}", kind, "key", limit=limit, amount=amount) for kind, n, limit, amount in picks]
        spent = [self.model.look(charge.bucket, self.now) for charge in charges]
        verdict = at_once(self.store.take(charges))
        admitted = self.model.take(charges, self.now)
        assert (verdict.refused is None) == admitted
        assert verdict.spent == [(s + c.amount * admitted) * UNIT for s, c in zip(spent, charges, strict=True)]

    @rule(
        pick=st.tuples(st.sampled_from(NAMES), st.integers(0, 2), st.sampled_from([1, 2, 7, 60, 1000])),
        amount=st.integers(-5, 5),
    )
    def settle(self, pick, amount):
        kind, n, limit = pick
        correction = charge(f"{kind}{n}", kind, "key", limit=limit, amount=amount)
        at_once(self.store.settle([correction]))
        self.model.book(correction, self.now)

    @rule(milliseconds=st.one_of(st.integers(0, 50), st.integers(0, 3 * MINUTE), st.integers(-2000, 0)))
    def wait(self, milliseconds):
        self.clock.now = max(0, self.now + milliseconds) / 1000

    @rule()
    def count(self):
        # What is whole when it is counted stays so, even if the clock then jumps back.
        self.model.spent = {name: kept for name, kept in self.model.spent.items() if self.model.look(name, self.now)}
        assert self.store.buckets() == len(self.model.spent)


@pytest.mark.hypothesis
@pytest.mark.parametrize("runs", [10, pytest.param(1000, marks=pytest.mark.long)])
def test_the_store_against_a_naive_model(runs):
    run_state_machine_as_test(Machine, settings=settings(max_examples=runs, stateful_step_count=100, deadline=None))


@pytest.mark.parametrize("limit", [10, 60, 333, 1000, 10_000])
@pytest.mark.parametrize("seed", range(3))
def test_bursts_are_admitted_as_a_continuous_bucket_does(limit, seed):
    """L8 in one process: within 1 % or 1 of a bucket in real numbers, whatever the bursts."""
    chance, clock = Random(seed), FakeClock()
    store = MemoryLimits(clock=clock)
    level, admitted, expected = float(limit), 0, 0
    for _ in range(400):
        pause = chance.expovariate(2)
        clock.now += pause
        level = min(limit, level + limit / 60 * pause)
        for _ in range(chance.randrange(1, 2 + limit // 20)):
            admitted += at_once(store.take([requests(limit)])).refused is None
            if level >= 1:
                level -= 1
                expected += 1
    assert expected > limit
    assert abs(admitted - expected) <= max(1, expected / 100)
