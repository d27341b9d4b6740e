"""The path of embeddings over fakes: who asks, who waits, what is kept, and what is given back."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import msgspec
import pytest

from sentinel_gateway.api.wire.embeddings import read_embeddings
from sentinel_gateway.core.caching import NotStorable, Selector, Store
from sentinel_gateway.core.limits import Limits
from sentinel_gateway.core.routing import Directory
from sentinel_gateway.core.tokens import TokenCount
from sentinel_gateway.errors import CounterBusy, InvalidField, NotCached, Overloaded, TokensLimited, UpstreamBroken
from sentinel_gateway.pipeline.callers import LimitRules
from sentinel_gateway.pipeline.embed import LOOKED_UP_AT_ONCE, Embedding, Measures
from sentinel_gateway.pipeline.limiting import Limiter
from sentinel_gateway.pipeline.plan import Planner
from sentinel_gateway.ports import Embedded
from sentinel_gateway.stores.memory_limits import MemoryLimits
from tests.fakes import Connecting, FakeProvider, turns
from tests.pipeline.conftest import ALIASES, MAX_BYTES, Path
from tests.pipeline.test_limiting import Key

pytestmark = pytest.mark.anyio


class Counter:
    """A token a character, whose number is its id."""

    busy = False

    async def texts(self, ids, *, encoding):
        assert encoding == "cl100k"
        if self.busy:
            raise CounterBusy("told to be")
        return ["".join(map(chr, item)) for item in ids] if max(map(max, ids)) < 128 else None

    async def count(self, texts, *, encoding):
        return TokenCount(sum(map(len, texts)), exact=encoding == "cl100k")


class Vectoriser(FakeProvider):
    """A vector that names its item, after the events and errors in `replies`; `tokens` are what it tells, one a character."""

    tells = True
    size = 0

    async def embed(self, call):
        self.calls.append(call)
        self.reached.set()
        while self.replies:
            reply = self.replies.popleft()
            if isinstance(reply, Exception):
                raise reply
            await reply.wait()
        asked = call.fields["input"]
        items = [asked] if isinstance(asked, str) else asked
        written = tuple(msgspec.json.encode([len(item), *[0] * self.size]) for item in items)
        return Embedded(written, sum(map(len, items)) if self.tells else None)


IDS = "first/text-embedding-3-small"
"""A model that knows token ids."""


class World:
    """The path, and the party who asks where there are limits."""

    def __init__(self, *, far: bool = True, sleep: Callable[[float], Awaitable[None]] | None = None) -> None:
        self.first = Vectoriser("first")
        self.path = Path(far=far, first=self.first, sleep=sleep)
        self.counter = Counter()
        self.waited = 0
        self.gate = asyncio.Event()
        """Closed, nobody who waits goes on."""
        self.gate.set()
        directory = Directory(aliases=ALIASES, providers=("first", "second"), catalogues={}, known={})
        self.embedding = Embedding(
            Planner("embeddings", partial(read_embeddings, max_depth=64), lambda: directory),
            self.path.tiers,
            self.path.dispatch,
            self.path.settlement,
            admission=self.path.pipeline.admission,
            measures=Measures(self.counter),
        )
        self.limits = Limiter(MemoryLimits(clock=self.path.clock), rules=LimitRules(), clock=self.path.clock, chance=lambda: 0.0)
        self.key = Key(limits=Limits(tokens_per_minute=100))

    async def ask(self, asked, journey=None, **fields):
        """The bodies of the vectors, and what the request met."""
        journey = journey or self.path.journey()
        raw = msgspec.json.encode({"model": "alias", "input": asked, **fields})
        answer = await self.embedding.handle(raw, journey, waiting=self._wait)
        assert answer.model == fields.get("model", "first/m").partition("/")[2]
        return [vector.body for vector in answer.vectors], journey

    async def _wait(self, _):
        self.waited += 1
        await self.gate.wait()

    def limited(self):
        journey = self.path.journey()
        journey.grant = self.limits.grant(self.key)
        return journey

    async def left(self) -> int:
        """Tokens that the party may still use."""
        journey = self.limited()
        await journey.grant.enter(model="alias")
        requests, tokens = journey.grant.standings()
        assert requests is None
        return tokens.remaining


@pytest.fixture
def world():
    return World()


def vector(length: int) -> bytes:
    return b'"embedding":[%d]}' % length


async def test_from_the_farther_tier_to_the_nearer(world):
    _, first = await world.ask(["a", "bb"])
    assert isinstance(first.kept, Store)
    assert first.attempts == 1
    assert (first.outcome, first.target, first.prompt_tokens) == ("miss", "first/m", 3)
    world.path.near.clear(Selector(), 0.0)
    found, again = await world.ask(["bb", "a", "bb"])
    assert found == [vector(2), vector(1), vector(2)]
    assert (again.outcome, again.tier, again.target, again.prompt_tokens) == ("exact", "disk", "first/m", 5)
    assert (await world.ask("a"))[1].tier == "memory"
    assert len(world.first.calls) == 1
    assert repr(world.embedding) == "<Embedding 0 items under way>"


async def test_a_tier_that_is_down_is_a_miss(world):
    world.path.far.down = True
    _, journey = await world.ask([str(number) for number in range(LOOKED_UP_AT_ONCE + 1)])
    assert journey.miss.steps[0].detail == "tier-down"
    assert len(world.first.calls) == 1


async def test_without_a_farther_tier():
    world = World(far=False)
    await world.ask("a")
    assert (await world.ask(["a"]))[1].tier == "memory"


async def test_wishes(world):
    with pytest.raises(NotCached):
        await world.ask("a", world.path.journey(only_if_cached=True))
    _, kept_out = await world.ask("a", world.path.journey(bypass=True, read=False, write=False))
    assert (kept_out.outcome, kept_out.kept) == ("bypass", NotStorable("bypass"))
    assert (await world.ask("a", world.path.journey(ttl=0.0)))[1].kept == NotStorable("ttl-0")
    assert (await world.ask("a", world.path.journey(write=False)))[1].kept == NotStorable("no-store")
    assert (await world.ask("a", world.path.journey(read=False)))[1].outcome == "miss"
    assert (await world.ask("a"))[1].outcome == "exact"
    assert len(world.first.calls) == 4
    assert world.waited == 4


async def test_a_vector_that_is_too_long_is_not_kept(world):
    world.first.size = MAX_BYTES
    assert (await world.ask("a"))[1].kept == NotStorable("too-large")


async def test_cleared_meanwhile(world):
    go = asyncio.Event()
    world.first.replies += [go]
    asking = asyncio.create_task(world.ask("a"))
    await world.first.reached.wait()
    await world.path.tiers.clear(Selector())
    second = asyncio.create_task(world.ask("a"))
    await turns()
    assert len(world.first.calls) == 2, "who asks after a clear gets nothing from before it"
    go.set()
    assert (await asking)[1].kept == NotStorable("cleared-meanwhile")
    assert isinstance((await second)[1].kept, Store)


async def test_a_provider_without_vectors(world):
    with pytest.raises(InvalidField, match="'second' makes no embeddings"):
        await world.ask("a", model="second/n")


# --- at the same time ---


async def test_what_is_under_way_is_waited_for(world):
    go = asyncio.Event()
    world.first.replies += [go]
    first = asyncio.create_task(world.ask(["a", "bb"]))
    await world.first.reached.wait()
    second, third = asyncio.create_task(world.ask("bb")), asyncio.create_task(world.ask(["bb", "ccc"]))
    await turns()
    assert [call.fields["input"] for call in world.first.calls] == [["a", "bb"], ["ccc"]]
    go.set()
    ((_, own), (of_second, coalesced), (of_third, mixed)) = await asyncio.gather(first, second, third)
    assert (of_second, of_third) == ([vector(2)], [vector(2), vector(3)])
    assert [journey.outcome for journey in (own, coalesced, mixed)] == ["miss", "coalesced", "miss"]
    assert [journey.prompt_tokens for journey in (own, coalesced, mixed)] == [3, 0, 3], "each token is told once"
    assert [journey.attempts for journey in (own, coalesced, mixed)] == [1, 0, 1], "and each attempt"
    assert coalesced.target == "first/m"


async def test_who_will_have_nothing_stored_waits_for_nobody(world):
    go = asyncio.Event()
    world.first.replies += [go]
    first = asyncio.create_task(world.ask("a"))
    await world.first.reached.wait()
    await world.ask("a", world.path.journey(bypass=True, read=False, write=False))
    assert len(world.first.calls) == 2
    go.set()
    await first


async def test_an_error_is_told_to_all_who_wait_and_to_nobody_else(world):
    go = asyncio.Event()
    world.first.replies += [go, UpstreamBroken("It broke.")]
    both = [asyncio.create_task(world.ask("a")) for _ in range(2)]
    await world.first.reached.wait()
    go.set()
    assert [type(error) for error in await asyncio.gather(*both, return_exceptions=True)] == [UpstreamBroken] * 2
    assert (await world.ask("a"))[0] == [vector(1)]


async def test_the_first_may_leave_and_the_last_ends_it(world):
    world.first.replies += [asyncio.Event()]
    first, second = [asyncio.create_task(world.ask("a")) for _ in range(2)]
    await world.first.reached.wait()
    await turns()
    first.cancel()
    await turns()
    assert repr(world.embedding) == "<Embedding 1 items under way>"
    world.gate.clear()
    third = asyncio.create_task(world.ask("a"))
    await turns()
    second.cancel()
    world.gate.set()
    assert (await third)[0] == [vector(1)], "nobody boards what is being ended"
    await asyncio.gather(first, second, return_exceptions=True)
    assert len(world.first.calls) == 2
    assert repr(world.embedding) == "<Embedding 0 items under way>"


async def test_whoever_joins_is_aboard_before_it_waits_for_its_limits(world):
    go, booked = asyncio.Event(), asyncio.Event()
    world.first.replies += [go]
    first = asyncio.create_task(world.ask("a"))
    await world.first.reached.wait()
    journey, settle = world.limited(), world.limits.store.settle
    await journey.grant.enter(model="alias")

    async def late(corrections):
        await booked.wait()
        await settle(corrections)

    world.limits.store.settle = late
    second = asyncio.create_task(world.ask("a", journey))
    await turns()
    first.cancel()
    await turns()
    booked.set()
    go.set()
    assert (await second)[0] == [vector(1)]
    assert len(world.first.calls) == 1
    await asyncio.gather(first, return_exceptions=True)


async def test_of_two_calls_one_fails(world):
    """The other one goes on for those who wait for it, and ends where nobody does."""
    go = asyncio.Event()
    world.first.replies += [go]
    first = asyncio.create_task(world.ask("a"))
    await world.first.reached.wait()
    world.first.replies += [asyncio.Event()]
    second = asyncio.create_task(world.ask(["a", "bb"]))
    await turns()
    world.first.replies += [UpstreamBroken("It broke.")]
    go.set()
    results = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(error) for error in results] == [UpstreamBroken] * 2
    await turns()
    assert repr(world.embedding) == "<Embedding 0 items under way>"
    assert (await world.ask("bb"))[0] == [vector(2)]


# --- limits ---


async def test_tokens_are_taken_for_what_is_not_stored(world):
    await world.ask("aaaa", world.limited())
    assert await world.left() == 96
    await world.ask(["aaaa", "bb"], world.limited())
    assert await world.left() == 94
    await world.ask(["aaaa", "bb"], world.limited())
    assert await world.left() == 94
    with pytest.raises(TokensLimited):
        await world.ask("c" * 95, world.limited())
    assert len(world.first.calls) == 2


@pytest.mark.parametrize("error", [UpstreamBroken("It broke."), TypeError("A fault of ours.")])
async def test_what_failed_costs_nothing(world, error):
    world.first.replies += [error]
    with pytest.raises(type(error)):
        await world.ask("aaaa", world.limited())
    assert await world.left() == 100


@pytest.mark.parametrize(
    ("cools", "held", "left"), [(True, asyncio.Event, 100), (False, asyncio.Event, 96), (False, Connecting, 100)]
)
async def test_who_leaves_pays_for_what_was_sent_and_for_nothing_else(cools, held, left):
    pauses = asyncio.Event()

    async def sleep(_):
        pauses.set()
        await asyncio.Event().wait()

    world = World(sleep=sleep)
    world.first.replies += [held()]
    if cools:
        world.path.circuits.standings.of("first/m").cooled_until = world.path.clock() + 1
    asking = asyncio.create_task(world.ask("aaaa", world.limited()))
    await (pauses if cools else world.first.reached).wait()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await turns()
    assert (len(world.first.calls), await world.left()) == (not cools, left)


async def test_what_was_asked_by_another_costs_nothing(world):
    go = asyncio.Event()
    world.first.replies += [go]
    first = asyncio.create_task(world.ask("aaaa"))
    await turns()
    second = asyncio.create_task(world.ask("aaaa", world.limited()))
    await turns()
    go.set()
    await asyncio.gather(first, second)
    assert await world.left() == 100


async def test_what_nobody_counts_stays_as_it_was_estimated(world):
    world.first.tells = False
    _, journey = await world.ask([[1, 2, 3], [4]], world.limited(), model=IDS)
    assert (journey.prompt_tokens, journey.basis) == (4, "estimated")
    assert await world.left() == 96


# --- token ids ---


async def test_openai_s_models_are_asked_for_ids(world):
    await world.ask([[72, 105], [72]], model=IDS)
    assert world.first.calls[0].fields["input"] == [[72, 105], [72]]


async def test_others_are_asked_for_texts(world):
    found, _ = await world.ask([72, 105])
    assert world.first.calls[0].fields["input"] == ["Hi"]
    assert (await world.ask("Hi"))[0] == found
    assert len(world.first.calls) == 1, "the text is known by now"
    for unreadable in ([[1000]], [[0], [1000]]):
        with pytest.raises(InvalidField, match="send texts"):
            await world.ask(unreadable)


async def test_who_can_not_be_read_now_is_told_when_to_come_again(world):
    world.counter.busy = True
    with pytest.raises(Overloaded, match="token ids") as refused:
        await world.ask([72, 105])
    assert refused.value.retry_after is not None
    assert 1.0 <= refused.value.retry_after <= 3.0
    await world.ask("Hi")
    assert len(world.first.calls) == 1, "texts need not be read"
