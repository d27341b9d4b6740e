"""What is booked of a request's tokens when all who waited for its answer have left before anything of it came."""

import asyncio

import pytest

from sentinel_gateway.core.circuit import CircuitRules
from sentinel_gateway.core.routing import Conduct, Hedge, Route, Target
from sentinel_gateway.core.standing import StandingRules
from sentinel_gateway.core.tokens import Expected
from sentinel_gateway.errors import UpstreamBroken, UpstreamLimited
from sentinel_gateway.pipeline.callers import LimitRules
from sentinel_gateway.pipeline.fleet import Fleet
from sentinel_gateway.pipeline.limiting import Limiter
from sentinel_gateway.stores.memory_limits import MemoryLimits
from tests.fakes import Connecting, FakeHandover, completion, turns
from tests.pipeline.conftest import MAX_BYTES, FakeTokens, Party, Path, question, tokens_left, told

pytestmark = pytest.mark.anyio

TARGETS = (Target("first", "m"),)
ROUTES = {
    "kept": Route(TARGETS, conduct=Conduct(drain=True)),
    "alias": Route(TARGETS),
    "quick": Route(TARGETS, conduct=Conduct(hedge=Hedge(2.0, 0.5))),
}
MINUTE, RESERVED, OUTPUT = 100, 60, 40


def estimate(_):
    return FakeTokens(Expected(RESERVED, RESERVED), told())


class Asker:
    """Somebody with a limit of tokens, on one node."""

    def __init__(self, **path):
        self.path = Path(aliases=ROUTES, estimate=estimate, **path)
        clock = self.path.clock
        self.limiter = Limiter(MemoryLimits(clock=clock), rules=LimitRules(), clock=clock, chance=lambda: 0.0)

    async def ask(self, *, model="alias", stream=False):
        """A request under way; its output is bound, so of what is reserved the rest is its input."""
        journey = self.path.journey()
        journey.grant = self.limiter.grant(Party())
        body = question(model=model, stream=stream, max_tokens=OUTPUT)
        asking = asyncio.create_task(self.path.ask(body, journey))
        await turns(50)
        assert not asking.done()
        assert await self.left() == MINUTE - RESERVED
        return asking

    async def left(self):
        await turns()
        return await tokens_left(self.limiter)


async def leave(asking):
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


@pytest.mark.parametrize("stream", [False, True])
async def test_what_was_sent_is_paid(stream):
    asker = Asker()
    asker.path.first.replies.append(asyncio.Event())
    await leave(await asker.ask(stream=stream))
    assert asker.path.calls == 1
    assert await asker.left() == MINUTE - (RESERVED - OUTPUT)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["alias", "quick"])
async def test_what_was_not_sent_yet_is_not_paid(model, stream):
    asker = Asker()
    asker.path.first.replies.append(Connecting())
    await leave(await asker.ask(model=model, stream=stream))
    assert asker.path.calls == 1
    [attempt] = asker.path.events.attempts
    assert (attempt.ending, attempt.prompt_tokens) == ("left", 0)
    assert await asker.left() == MINUTE


@pytest.mark.parametrize("model", ["alias", "quick"])
async def test_what_a_fault_of_ours_ends_is_not_paid(model):
    asker = Asker()
    asker.path.first.replies += [go_on := asyncio.Event(), TypeError("A fault of ours.")]
    asking = await asker.ask(model=model)
    go_on.set()
    with pytest.raises(TypeError):
        await asking
    [attempt] = asker.path.events.attempts
    assert (attempt.ending, attempt.prompt_tokens) == ("left", 0)
    assert await asker.left() == MINUTE


@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_drained_is_paid_when_the_gateway_stops(stream):
    asker = Asker()
    asker.path.drains.most = 1
    asker.path.first.replies.append(asyncio.Event())
    await leave(await asker.ask(model="kept", stream=stream))
    assert await asker.left() == MINUTE - RESERVED, "it goes on"
    await asker.path.drains.close()
    assert [attempt.ending for attempt in asker.path.events.attempts] == ["left"]
    assert await asker.left() == MINUTE - (RESERVED - OUTPUT)


async def test_who_waited_for_another_node_has_sent_nothing():
    handover = FakeHandover()
    nodes = [Asker(fleet=Fleet(handover.of(name), patience=5.0, max_bytes=MAX_BYTES)) for name in "ab"]
    nodes[0].path.first.replies += [go_on := asyncio.Event(), completion()]
    first = await nodes[0].ask()
    await leave(await nodes[1].ask())
    assert [node.path.calls for node in nodes] == [1, 0]
    assert await nodes[1].left() == MINUTE
    go_on.set()
    await first


async def test_who_waited_for_a_target_that_cools_has_sent_nothing():
    async def sleep(_):
        await asyncio.Event().wait()

    asker = Asker(standing=StandingRules(CircuitRules()), sleep=sleep)
    asker.path.circuits.standings.of("first/m").failed(0, UpstreamLimited("slow down", retry_after=9.0), asker.path.clock())
    await leave(await asker.ask())
    assert asker.path.calls == 0
    assert await asker.left() == MINUTE
    await asker.path.circuits.close()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["alias", "quick"])
async def test_who_leaves_between_two_calls_pays_nothing(model, stream):
    async def sleep(_):
        await asyncio.Event().wait()

    asker = Asker(standing=StandingRules(CircuitRules()), sleep=sleep)
    asker.path.chance = 0.5
    asker.path.first.replies.append(UpstreamBroken("down"))
    await leave(await asker.ask(model=model, stream=stream))
    [attempt] = asker.path.events.attempts
    assert (attempt.ending, attempt.prompt_tokens) == ("broken", 0)
    assert await asker.left() == MINUTE
    await asker.path.circuits.close()
