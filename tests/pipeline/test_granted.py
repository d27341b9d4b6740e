"""A request and its caller's limits, on the whole path: what it takes, what it gives back, and how long it holds its place."""

import asyncio
from fractions import Fraction

import msgspec
import pytest

from sentinel_gateway.core.access import caller_of
from sentinel_gateway.core.budgets import NO_BUDGET, Budget
from sentinel_gateway.core.caching import Wish
from sentinel_gateway.core.limits import NO_LIMITS, Limits
from sentinel_gateway.core.pricing import Price, Rates, yocto
from sentinel_gateway.core.routing import Conduct, Hedge, Route, Target
from sentinel_gateway.core.tokens import Expected, about
from sentinel_gateway.errors import ConcurrencyLimited, ModelNotAllowed, RequestError, RequestsLimited
from sentinel_gateway.pipeline.budgeting import Costing
from sentinel_gateway.pipeline.callers import LimitRules
from sentinel_gateway.pipeline.limiting import Limiter
from sentinel_gateway.pipeline.reply import Cached, Whole
from sentinel_gateway.stores.memory_limits import MemoryLimits
from tests.core.keys import KEY
from tests.fakes import FakeIdempotency, FakeStream, chunk, completion, delta, spoken, turns
from tests.pipeline.conftest import MAX_BYTES, FakeTokens, Party, Path, question, tokens_left

pytestmark = pytest.mark.anyio


NEVER = Expected(10**9, 70)
"""Never so few that nobody need count them."""


class Asker:
    """Somebody who may ask for so much. How many tokens a request may cost is known once it is `reserving`, or `at_once`."""

    def __init__(
        self, limits: Limits = NO_LIMITS, budget: Budget = NO_BUDGET, *, at_once=False, most=NEVER, store=MemoryLimits, **path
    ) -> None:
        self.reserving = asyncio.Event()
        tokens = FakeTokens(Expected(60, 70), None if at_once else self.reserving, most)
        self.path = Path(estimate=lambda _: tokens, **path)
        self.party = Party(limits=limits, budget=budget)
        clock = self.path.clock
        self.limiter = Limiter(store(clock=clock), rules=LimitRules(), clock=clock, chance=lambda: 0.0)

    def journey(self, **fields):
        journey = self.path.journey()
        journey.grant = self.limiter.grant(self.party)
        for name, value in fields.items():
            setattr(journey, name, value)
        return journey

    async def ask(self, body=None, **fields):
        return await self.path.ask(body or question(), self.journey(**fields))


async def test_a_request_that_can_t_be_understood_costs_one():
    asker = Asker(Limits(requests_per_minute=2))
    for body in ({"model": 1}, question(model="nobody/x")):
        with pytest.raises(RequestError):
            await asker.ask(body)
    with pytest.raises(RequestsLimited):
        await asker.ask()


@pytest.mark.parametrize("landed", [False, True], ids=["on its way", "landed"])
async def test_who_finds_the_answer_once_its_tokens_are_reserved_gives_them_back(landed):
    asker, hold = Asker(Limits(tokens_per_minute=100)), asyncio.Event()
    path, mine = asker.path, asker.journey()
    path.first.replies += [hold, completion()]
    asking = asyncio.create_task(path.ask(question(), mine))
    await turns()
    others = asyncio.create_task(path.ask(question()))
    await path.first.reached.wait()
    if landed:
        hold.set()
        await others
    asker.reserving.set()
    await turns()
    hold.set()
    reply, _ = await asking
    assert (isinstance(reply, Cached), mine.outcome) == ((True, "exact") if landed else (False, "coalesced"))
    assert path.calls == 1
    assert await tokens_left(asker.limiter) == 100


@pytest.mark.parametrize("has", ["models", "budget"])
async def test_who_may_not_ask_for_all_has_no_provider_ask_others(has):
    asker = Asker(budget=Budget(day=1_000_000) if has == "budget" else Budget())
    key = msgspec.structs.replace(KEY, models=("first/m",) if has == "models" else ())
    with pytest.raises(ModelNotAllowed) as refused:
        await asker.ask(question(fallbacks=["second/n"]), caller=caller_of(key))
    assert (refused.value.param, asker.path.calls) == ("fallbacks", 0)


class Elsewhere(MemoryLimits):
    """One that has to wait before it takes anything, as Redis has."""

    def take_now(self, charges, now, hold=None):
        return None

    async def take(self, charges, hold=None):
        return super().take_now(charges, self._clock(), hold)


@pytest.mark.parametrize("bound", [None, 50], ids=["unbounded", "bounded"])
@pytest.mark.parametrize("at_once", [True, False], ids=["estimated at once", "estimated"])
@pytest.mark.parametrize("store", [MemoryLimits, Elsewhere])
async def test_tokens_and_money_are_taken_once_whatever_has_to_wait(store, at_once, bound):
    """A dollar a million tokens: of the input 70 are held, of the output what is allowed, else all that the budget buys."""
    rate = yocto(Fraction(1))
    price, budget = Price(Rates.of({"input": rate, "output": rate})), 1_000_000
    limits = {"limits": Limits(tokens_per_minute=100), "budget": Budget(day=budget)}
    asker = Asker(**limits, at_once=at_once, store=store, costing=Costing(lambda _: price, output=4096))
    path, hold = asker.path, asyncio.Event()
    path.prices["first/m"] = 1
    path.first.replies += [hold, completion()]
    asker.reserving.set()
    asking = asyncio.create_task(asker.ask(question() if bound is None else question(max_tokens=bound)))
    await path.first.reached.wait()
    other = asker.limiter.grant(asker.party)
    await other.enter(model="first/m")
    [(_, account)] = other.budgets()
    output = (budget - 70_000) // 1000 if bound is None else bound
    assert (other.standings()[1].remaining, account.held) == (40, (70 + output) * 1000)
    hold.set()
    _, journey = await asking
    await other.enter(model="first/m")
    [(_, account)] = other.budgets()
    used = journey.prompt_tokens + journey.completion_tokens
    assert (other.standings()[1].remaining, account.held, account.settled) == (100 - used, 0, used * 1000)


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(("model", "buffered", "times"), [("first/m", False, 1), ("first/m", True, 3), ("quick", False, 3)])
async def test_what_it_may_cost_is_held_once_for_each_time_that_it_may_be_paid(at_once, model, buffered, times):
    rate = yocto(Fraction(1))
    costing = Costing(lambda _: Price(Rates.of({"input": rate, "output": rate})), output=4096, attempts=3)
    routes = {"quick": Route((Target("first", "m"),), conduct=Conduct(hedge=Hedge(2.0, 0.5)))}
    limits = {"limits": Limits(tokens_per_minute=100), "budget": Budget(day=1_000_000)}
    asker, hold = Asker(**limits, at_once=at_once, costing=costing, aliases=routes), asyncio.Event()
    asker.path.first.replies += [hold, completion()]
    asker.reserving.set()
    asking = asyncio.create_task(asker.ask(question(model=model, max_tokens=40), wish=Wish(buffered=buffered)))
    await asker.path.first.reached.wait()
    other = asker.limiter.grant(asker.party)
    await other.enter(model="first/m")
    [(_, account)] = other.budgets()
    assert (other.standings()[1].remaining, account.held) == (40, times * (70 + 40) * 1000)
    hold.set()
    await asking


@pytest.mark.parametrize("spent", [0, 1])
async def test_nobody_counts_where_little_of_a_limit_is_spent(spent):
    """Six tokens at most are less than a sixteenth of a hundred; seven are more."""
    asker, hold = Asker(Limits(tokens_per_minute=100), at_once=bool(spent), most=Expected(6, 70)), asyncio.Event()
    asker.path.first.replies += [hold, completion()]
    await (await entered(asker)).reserve(spent)
    asking = asyncio.create_task(asker.ask())  # it would wait for a count that never ends
    await asker.path.first.reached.wait()
    assert (await entered(asker)).standings()[1].remaining == (94 if not spent else 100 - 1 - 60)
    hold.set()
    await asking
    assert (await entered(asker)).standings()[1].remaining == 100 - spent - 8


@pytest.mark.parametrize(("most", "taken"), [(Expected(6, 70), 6), (NEVER, 60)], ids=["uncounted", "counted"])
async def test_an_untold_usage_is_billed_as_it_was_counted_else_by_four_bytes_a_token(most, taken):
    """Of the limit goes what was reserved, whichever it was."""
    asker = Asker(Limits(tokens_per_minute=100), at_once=True, most=most)
    asker.path.first.replies.append(FakeStream([chunk(delta(content="Paris."))], [chunk(delta("stop"))]))
    body = question(stream=True)
    await asker.ask(body)
    (attempt,) = asker.path.events.attempts
    assert attempt.prompt_tokens == (60 if taken == 60 else about(body))
    assert (await entered(asker)).standings()[1].remaining == 100 - taken - 2, "two chunks were heard"


async def entered(asker):
    grant = asker.limiter.grant(asker.party)
    await grant.enter(model="first/m")
    return grant


async def test_who_had_to_wait_for_nothing_looks_once_for_what_came_meanwhile():
    asker = Asker(Limits(tokens_per_minute=100), at_once=True)
    asker.path.first.replies.append(completion())
    await asker.ask()
    slow = Asker(Limits(tokens_per_minute=100))
    slow.reserving.set()
    slow.path.first.replies.append(completion())
    await slow.ask()
    assert len(slow.path.near.asked) - len(asker.path.near.asked) == 1


@pytest.mark.parametrize("at_once", [True, False])
async def test_what_is_asked_for_anew_is_reserved_for_anew(at_once):
    """Who joined a stream that can't be put together asks by itself; what it had not reserved for it is taken then."""
    asker = Asker(Limits(tokens_per_minute=100), at_once=at_once)
    path, hold = asker.path, asyncio.Event()
    asker.reserving.set()
    path.first.replies += [FakeStream(*spoken("x" * MAX_BYTES)), hold, completion()]
    live = await path.handle(question(stream=True), path.journey())
    path.first.reached.clear()
    whole = asyncio.create_task(asker.ask())
    await path.first.reached.wait()
    assert await tokens_left(asker.limiter) == 40
    hold.set()
    reply, journey = await whole
    assert isinstance(reply, Whole)
    assert (journey.outcome, journey.attempts) == ("miss", 1), "it shares nobody's call"
    assert await tokens_left(asker.limiter) == 100 - journey.prompt_tokens - journey.completion_tokens
    await path.pipeline.close(live, path.journey())


async def test_work_that_goes_on_without_its_caller_keeps_the_place_and_is_told_once_it_has_ended():
    asker, told, hold = Asker(Limits(concurrency=1), idempotency=FakeIdempotency()), [], asyncio.Event()
    asker.path.first.replies += [hold, completion()]
    journey = asker.journey(idempotency_key="k")
    asking = asyncio.create_task(asker.path.ask(question(), journey))
    await asker.path.first.reached.wait()
    assert journey.goes_on
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    journey.report = lambda one: told.append((one, one.outcome))
    await journey.grant.leave()
    with pytest.raises(ConcurrencyLimited):
        await asker.ask()
    hold.set()
    await turns(50)
    assert (told, journey.goes_on) == ([(journey, "miss")], False)
    asker.path.first.replies.append(completion())
    await asker.ask(question("Is there a place again?"))
