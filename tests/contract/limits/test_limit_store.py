"""What every store of limits does. Times are short enough to be waited for, where a store has a clock of its own."""

import asyncio

import pytest

from sentinel_gateway.core.budgets import Allowance, Hold
from sentinel_gateway.core.limits import UNIT, charge

pytestmark = pytest.mark.anyio

FAST = 6000
"""A minute: one comes back each 10 ms."""
SLOW = 2
"""A minute: none comes back while a test runs."""


def requests(limit=SLOW, amount=1, *, name="requests"):
    return charge(f"{{t}}:{name}", "requests", "key", limit=limit, amount=amount)


def tokens(limit=SLOW, amount=1):
    return charge("{t}:tokens", "tokens", "key", limit=limit, amount=amount)


def places(limit=2, amount=1):
    return charge("{t}:concurrency", "concurrency", "key", limit=limit, amount=amount)


async def admitted(store, *charges):
    return (await store.take(charges)).refused is None


async def test_a_whole_limit_at_once_and_then_none(bench):
    assert [await admitted(bench.store, requests(3)) for _ in range(4)] == [True, True, True, False]
    verdict = await bench.store.take([requests(3)])
    assert verdict.refused == requests(3)
    assert 0 < verdict.retry_after <= 20


async def test_it_comes_back_by_and_by(bench):
    assert await admitted(bench.store, requests(FAST, FAST))
    while (refused := await bench.store.take([requests(FAST, 10)])).refused is None:
        pass  # a machine that is busy has brought so many back already
    assert 0 < refused.retry_after <= 0.1
    await bench.wait(refused.retry_after + 0.001)
    assert await admitted(bench.store, requests(FAST, 10))
    assert not await admitted(bench.store, requests(FAST, FAST))


async def test_what_is_left_is_told(bench):
    first = (await bench.store.take([requests(4), tokens(100, 30)])).standings()[0]
    assert (first.limit, first.remaining) == (4, 3)
    assert 10_000 < first.reset <= 15_000
    second = (await bench.store.take([requests(4), tokens(100, 0)])).standings()[1]
    assert (second.limit, second.remaining) == (100, 70)


async def test_all_or_nothing(bench):
    assert await admitted(bench.store, tokens(SLOW, SLOW))
    verdict = await bench.store.take([requests(), tokens(), places()])
    assert verdict.refused == tokens()
    untouched = await bench.store.take([requests(amount=0), places(amount=0)])
    assert list(untouched.spent) == [0, 0]


async def test_looking_takes_nothing_and_is_never_refused(bench):
    for _ in range(5):
        assert await admitted(bench.store, requests(amount=0))
    await bench.store.settle([requests(amount=5)])
    assert await admitted(bench.store, requests(amount=0))
    assert not await admitted(bench.store, requests())


async def test_more_than_the_limit_is_refused_for_good(bench):
    verdict = await bench.store.take([tokens(10, 11)])
    assert verdict.refused.hopeless
    assert verdict.retry_after is None


async def test_what_was_not_used_is_given_back_and_never_more(bench):
    await bench.store.take([tokens(10, 8)])
    await bench.store.settle([tokens(10, -5)])
    assert (await bench.store.take([tokens(10, 0)])).standings()[1].remaining == 7
    await bench.store.settle([tokens(10, -50)])
    assert (await bench.store.take([tokens(10, 0)])).standings()[1].remaining == 10


@pytest.mark.parametrize("unused", [5, 3])
async def test_what_is_booked_without_waiting_is_booked_once(bench, unused):
    await bench.store.take([tokens(10, 8)])
    if not bench.store.settle_now([tokens(10, -unused)]):  # it has to wait, and nothing is booked yet
        await bench.store.settle([tokens(10, -unused)])
    assert (await bench.store.take([tokens(10, 0)])).standings()[1].remaining == 2 + unused


async def test_more_than_was_reserved_is_a_debt(bench):
    await bench.store.take([tokens(10, 8)])
    await bench.store.settle([tokens(10, 12)])
    verdict = await bench.store.take([tokens(10, 1)])
    assert verdict.refused == tokens(10, 1)
    assert 50 < verdict.retry_after <= 66


async def test_a_debt_has_a_bottom(bench):
    """A provider may say anything of what it has cost; in a hundred minutes all is well again."""
    for _ in range(3):
        await bench.store.settle([tokens(10, 2**53)])
    verdict = await bench.store.take([tokens(10, 10)])
    assert 5_990 < verdict.retry_after <= 6_000


async def test_places_are_held_until_they_are_given_back(bench):
    assert [await admitted(bench.store, places()) for _ in range(3)] == [True, True, False]
    assert (await bench.store.take([places()])).retry_after is None
    await bench.wait(0.05)
    assert not await admitted(bench.store, places())
    await bench.store.settle([places(amount=-1)])
    assert await admitted(bench.store, places())
    assert not await admitted(bench.store, places())


async def test_a_limit_that_was_lowered_or_raised_counts_what_was_spent(bench):
    assert await admitted(bench.store, requests(10, 5))
    assert not await admitted(bench.store, requests(5))
    assert await admitted(bench.store, requests(100, 94))


async def test_buckets_are_apart(bench):
    assert await admitted(bench.store, requests(1))
    assert await admitted(bench.store, requests(1, name="others"))
    assert not await admitted(bench.store, requests(1))


async def test_a_crowd_at_once_gets_no_more_than_there_is(bench):
    taken = await asyncio.gather(*(bench.store.take([requests(7), places(5)]) for _ in range(30)))
    assert sum(verdict.refused is None for verdict in taken) == 5
    assert (await bench.store.take([requests(7, 0)])).spent[0] > 4 * UNIT


async def test_buckets_in_use_are_counted(bench):
    assert bench.store.buckets() == 0
    await bench.store.take([requests(300), places()])
    assert bench.store.buckets() == 2
    await bench.wait(0.21)
    assert bench.store.buckets() == 1
    await bench.store.settle([places(amount=-1)])
    assert bench.store.buckets() == 0


# --- budgets ---


def budget(limit=10, amount=0, *, name="day"):
    return Hold((Allowance(f"{{t}}:budget:{name}", "key", "day", limit, 4_000_000_000),), amount)


def is_apart(request):
    """Nothing was drawn while Redis was there, so nothing is held without it."""
    return request.node.callspec.params["bench"] == "apart"


async def held(store, hold):
    verdict = await store.take([], hold)
    return verdict.refused is None


async def test_what_is_held_and_settled_is_never_more_than_the_budget(bench, request):
    if is_apart(request):
        verdict = await bench.store.take([], budget(10, 1))
        [(allowance, account)] = verdict.accounts
        assert (verdict.refused, account.sure) == (allowance, False), "nobody knows what others have spent of it"
        return
    store = bench.store
    assert [await held(store, budget(10, 4)) for _ in range(3)] == [True, True, False]
    await store.settle([], budget(10, 4), 1)
    [(_, account)] = (await store.take([], budget())).accounts
    assert (account.settled, account.held) == (1, 4)
    assert [await held(store, budget(10, 5)) for _ in range(2)] == [True, False]
    for hold in (4, 5):
        await store.settle([], budget(10, hold), hold)
    refused = await store.take([requests()], budget())
    assert refused.refused == budget().allowances[0], "all is settled: what costs nothing is refused too"
    assert list((await store.take([requests(amount=0)])).spent) == [0]
    assert await held(store, budget(11))


async def test_what_was_held_and_came_to_more_counts_whole(bench, request):
    if is_apart(request):
        return
    assert await held(bench.store, budget(10, 4))
    await bench.store.settle([], budget(10, 4), 25)
    [(_, account)] = (await bench.store.take([], budget(100))).accounts
    assert (account.settled, account.held) == (25, 0)
    assert not await held(bench.store, budget(10, 1))


async def test_of_several_budgets_all_are_held_or_none(bench, request):
    if is_apart(request):
        return
    both = Hold(budget(10).allowances + budget(5, name="month").allowances, 4)
    assert await held(bench.store, both)
    verdict = await bench.store.take([requests()], both)
    assert verdict.refused == both.allowances[1]
    assert [account.held for _, account in verdict.accounts] == [4, 4]
    assert list((await bench.store.take([requests(amount=0)])).spent) == [0]


async def test_a_limit_that_does_not_fit_holds_nothing(bench, request):
    if is_apart(request):
        return
    assert await admitted(bench.store, requests(1))
    assert (await bench.store.take([requests(1)], budget(10, 4))).refused == requests(1)
    assert (await bench.store.take([], budget())).accounts[0][1].held == 0


async def test_a_crowd_at_once_holds_no_more_than_the_budget(bench, request):
    if is_apart(request):
        return
    fit = await asyncio.gather(*(held(bench.store, budget(50, 1)) for _ in range(200)))
    assert sum(fit) == 50


async def test_who_is_cancelled_holds_nothing(bench, request):
    if is_apart(request):
        return
    for _ in range(5):
        taking = asyncio.create_task(bench.store.take([], budget(10, 2)))
        await asyncio.sleep(0)
        taking.cancel()
        (found,) = await asyncio.gather(taking, return_exceptions=True)
        if not isinstance(found, asyncio.CancelledError):  # a store in process is faster
            await bench.store.settle([], budget(10, 2))
    for _ in range(3000):
        if await held(bench.store, budget(10, 10)):
            return
        await asyncio.sleep(0.01)
    pytest.fail("something is held")
