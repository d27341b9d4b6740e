"""A request and its caller's limits, on the whole path: what it takes, what it gives back, and how long it holds its place."""

import asyncio

import msgspec
import pytest

from sentinel_gateway.core.access import caller_of
from sentinel_gateway.core.budgets import Budget
from sentinel_gateway.core.limits import Limits
from sentinel_gateway.core.tokens import Expected
from sentinel_gateway.errors import ConcurrencyLimited, ModelNotAllowed, RequestError, RequestsLimited
from sentinel_gateway.pipeline.callers import LimitRules
from sentinel_gateway.pipeline.limiting import Limiter
from sentinel_gateway.pipeline.reply import Cached
from sentinel_gateway.stores.memory_limits import MemoryLimits
from tests.core.keys import KEY
from tests.fakes import FakeIdempotency, completion, turns
from tests.pipeline.conftest import Party, Path, question, tokens_left

pytestmark = pytest.mark.anyio


class Asker:
    """Somebody who may ask for so much. How many tokens a request may cost is known once it is `reserving`."""

    def __init__(self, limits: Limits = Limits(), *, budget: Budget = Budget(), **path) -> None:  # noqa: B008 - frozen
        self.path = Path(estimate=self._estimate, **path)
        self.party = Party(limits=limits, budget=budget)
        clock = self.path.clock
        self.limiter = Limiter(MemoryLimits(clock=clock), rules=LimitRules(), clock=clock, chance=lambda: 0.0)
        self.reserving = asyncio.Event()

    async def _estimate(self, *_):
        await self.reserving.wait()
        return Expected(60, 60)

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
