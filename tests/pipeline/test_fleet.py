"""Several nodes, one upstream call: the whole path of each, over fakes, with one handover between them."""

import asyncio
import time
from collections import deque

import msgspec
import pytest

from sentinel_gateway.core.caching import Selector
from sentinel_gateway.core.routing import Conduct, Route, Target
from sentinel_gateway.errors import UpstreamBroken
from sentinel_gateway.pipeline.fleet import Fleet
from sentinel_gateway.pipeline.reply import Live, Whole
from sentinel_gateway.ports import Landed
from tests.fakes import FakeHandover, FakeStream, completion, spoken, turns
from tests.pipeline.conftest import MAX_BYTES, question
from tests.still import undisturbed

pytestmark = pytest.mark.anyio

TICK = 0.001
"""Seconds: the loop's timers know no less, and may be early by that."""


@pytest.fixture
def handover():
    return FakeHandover()


@pytest.fixture
def node(make_path, handover):
    """node(name) is one gateway."""

    def make(name, *, patience=60.0, silence=60.0, **more):
        own = Fleet(handover.of(name), patience=patience, silence=silence, max_bytes=MAX_BYTES)
        path = make_path(fleet=own, **more)
        if name == "b":
            path.first.replies += [completion()] * 2
        return path

    return make


async def flying(path, **fields):
    """A request under way, and the event that lets the provider answer."""
    go_on = asyncio.Event()
    path.first.replies += [go_on]
    task = asyncio.create_task(path.ask(question(**fields)))
    await turns(50)
    assert path.calls == 1
    return task, go_on


async def test_the_other_node_gets_the_finished_answer(node):
    a, b = node("a"), node("b")
    first, go_on = await flying(a)
    second = asyncio.create_task(b.ask(question()))
    await asyncio.sleep(0.05)
    assert not second.done()
    a.first.replies += [completion("Paris.")]
    go_on.set()
    (said, _), (heard, journey) = await first, await second
    assert isinstance(heard, Whole)
    assert heard.completion.answer.fields == said.completion.answer.fields
    assert (a.calls, b.calls) == (1, 0)
    assert (journey.outcome, journey.target) == ("coalesced", "first/m")
    assert (journey.prompt_tokens, journey.completion_tokens) == (0, 0), "the leader's key has paid for them"
    assert b.near.entries == {}, "what may be kept was kept by the one who asked"


async def test_a_stream_is_handed_over_when_it_is_whole(node):
    a, b = node("a"), node("b")
    go_on = asyncio.Event()
    begin, *rest = spoken("Par", "is.")
    a.first.replies.append(FakeStream(begin, go_on, *rest))
    live = await a.handle(question(stream=True), journey := a.journey())
    assert isinstance(live, Live)
    second = asyncio.create_task(b.ask(question(stream=True)))
    third = asyncio.create_task(b.ask(question()))
    await asyncio.sleep(0.05)
    go_on.set()
    await a.read(live, journey)
    for waited in (second, third):
        heard, theirs = await waited
        assert isinstance(heard, Whole)
        assert heard.completion.answer.fields["choices"][0]["message"]["content"] == "Paris."
        assert theirs.outcome == "coalesced"
    assert (a.calls, b.calls) == (1, 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_what_was_cleared_meanwhile_is_handed_to_nobody(node, stream):
    """Those who wait for it ask for themselves: they may have come after the clear."""
    a, b = node("a"), node("b")
    go_on = asyncio.Event()
    a.first.replies += [go_on, FakeStream(*spoken("Par", "is.")) if stream else completion("Paris.")]
    first = asyncio.create_task(a.handle(question(stream=stream), journey := a.journey()))
    await turns(50)
    second = asyncio.create_task(b.ask(question(stream=False)))
    await asyncio.sleep(0.05)
    await a.tiers.clear(Selector())
    go_on.set()
    reply = await first
    if isinstance(reply, Live):
        await a.read(reply, journey)
    _, theirs = await second
    assert (b.calls, theirs.outcome) == (1, "miss")


async def test_what_may_not_be_kept_is_handed_over_as_well(node):
    a, b = node("a"), node("b")
    first, go_on = await flying(a)
    second = asyncio.create_task(b.ask(question()))
    a.first.replies += [completion("Par", finish="length")]
    go_on.set()
    _, journey = await first
    assert not a.near.entries, journey.kept
    await second
    assert b.calls == 0


async def test_when_the_first_fails_it_is_the_next_ones_turn(node):
    a, b = node("a"), node("b")
    first, go_on = await flying(a)
    second = asyncio.create_task(b.ask(question()))
    await asyncio.sleep(0.05)
    a.first.replies += [UpstreamBroken("cut", failure="io_error")]
    go_on.set()
    with pytest.raises(UpstreamBroken):
        await first
    _, journey = await second
    assert (b.calls, journey.outcome) == (1, "miss")


async def test_when_the_first_is_left_by_all_it_is_the_next_ones_turn(node):
    a, b = node("a"), node("b")
    first, _ = await flying(a)
    second = asyncio.create_task(b.ask(question()))
    await asyncio.sleep(0.05)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await second
    assert b.calls == 1


async def test_a_stream_that_was_cut_is_nobodys_answer(node):
    a, b = node("a"), node("b")
    go_on = asyncio.Event()
    begin, *_ = spoken("Par", "is.")
    a.first.replies.append(FakeStream(begin, go_on, UpstreamBroken("cut", failure="io_error")))
    b.first.replies = deque([FakeStream(*spoken("Rome."))])
    live = await a.handle(question(stream=True), journey := a.journey())
    second = asyncio.create_task(b.ask(question(stream=True)))
    await asyncio.sleep(0.05)
    go_on.set()
    with pytest.raises(UpstreamBroken):
        await a.read(live, journey)
    await second
    assert b.calls == 1


async def test_one_that_is_too_long_to_hand_over_is_asked_for_again(node):
    a, b = node("a"), node("b")
    first, go_on = await flying(a)
    second = asyncio.create_task(b.ask(question()))
    a.first.replies += [completion("x" * 2 * MAX_BYTES)]
    go_on.set()
    await first
    await second
    assert (a.calls, b.calls) == (1, 1)


async def test_patience_ends(node):
    a, b = node("a"), node("b", patience=0.1)
    first, go_on = await flying(a)
    a.first.replies += [completion()]
    _, journey = await b.ask(question())
    assert (b.calls, journey.outcome) == (1, "miss")
    go_on.set()
    await first


@undisturbed
async def test_the_time_of_a_route_counts_while_another_node_is_waited_for(node, handover):
    """Half of it is left for a call of its own: no more, and no less."""
    handover.landed.clear()  # by an attempt before, which nobody would ask for again
    short = {"alias": Route((Target("first", "m"),), conduct=Conduct(total=1.2))}
    a, b = node("a", aliases=short), node("b", aliases=short)
    first, go_on = await flying(a, model="alias")
    a.first.replies += [completion()]
    started = time.monotonic()
    try:
        _, journey = await b.ask(question(model="alias"))
        took = time.monotonic() - started
    finally:
        go_on.set()
        await first
    assert (b.calls, journey.outcome) == (1, "miss")
    assert 0.6 - TICK <= took < 1.0
    (call,) = b.first.calls
    assert call.deadlines is not None
    assert 0.2 < call.deadlines.total <= 0.6


async def test_without_redis_each_node_asks_for_itself(node, handover):
    handover.down = True
    a, b = node("a"), node("b")
    a.first.replies += [completion()]
    for path in (a, b):
        _, journey = await path.ask(question())
        assert (path.calls, journey.outcome) == (1, "miss")


@pytest.mark.parametrize(
    "wish", [{"bypass": True, "read": False, "write": False}, {"read": False}, {"write": False}, {"ttl": 0.0}]
)
async def test_who_wants_an_answer_of_its_own_neither_claims_nor_waits(node, handover, wish):
    a, b = node("a"), node("b")
    first, go_on = await flying(a)
    before = dict(handover.holders)
    assert before
    _, journey = await b.ask(question(), b.journey(**wish))
    assert b.calls == 1
    assert handover.holders == before
    a.first.replies += [completion()]
    go_on.set()
    await first
    await b.ask(question("Another?"), b.journey(**wish))
    assert not handover.holders
    assert journey.outcome in ("miss", "bypass")


async def test_all_of_one_node_wait_together(node):
    a, b = node("a"), node("b")
    first, go_on = await flying(a)
    others = [asyncio.create_task(b.ask(question(stream=bool(number % 2)))) for number in range(20)]
    await asyncio.sleep(0.05)
    a.first.replies += [completion()]
    go_on.set()
    await first
    assert {journey.outcome for _, journey in await asyncio.gather(*others)} == {"coalesced"}
    assert b.calls == 0


async def test_after_a_clear_the_next_flight_of_a_node_is_the_one_that_others_wait_for(node):
    """What the earlier one brings, which nobody boards any more, takes nothing from it."""
    a, b = node("a"), node("b")
    first, go_on = await flying(a)
    await a.tiers.clear(Selector())
    later = asyncio.Event()
    a.first.replies += [later]
    second = asyncio.create_task(a.ask(question()))
    await turns(50)
    assert a.calls == 2
    a.first.replies += [completion("Paris, once.")]
    go_on.set()
    await first
    third = asyncio.create_task(b.ask(question()))
    await asyncio.sleep(0.05)
    a.first.replies += [completion("Paris, now.")]
    later.set()
    await second
    heard, journey = await third
    assert (b.calls, journey.outcome) == (0, "coalesced")
    assert heard.completion.answer.fields["choices"][0]["message"]["content"] == "Paris, now."


async def test_who_has_waited_gets_what_is_not_fresh_any_more(node, handover):
    """As where it was held up itself."""
    a, b = node("a"), node("b")
    first, go_on = await flying(a)
    second = asyncio.create_task(b.ask(question()))
    await asyncio.sleep(0.05)
    handover.old = True
    a.first.replies += [completion("Paris.")]
    go_on.set()
    await first
    _, journey = await second
    assert (b.calls, journey.outcome) == (0, "coalesced")


async def test_who_has_waited_gets_nothing_from_before_a_clear(node, handover):
    a, b = node("a"), node("b")
    first, go_on = await flying(a)
    second = asyncio.create_task(b.ask(question()))
    await asyncio.sleep(0.05)
    handover.old = True
    await b.tiers.clear(Selector())
    a.first.replies += [completion("Paris.")]
    go_on.set()
    await first
    _, journey = await second
    assert (b.calls, journey.outcome) == (1, "miss")


async def test_one_late_answer_ends_no_waiting(node, handover):
    a, b = node("a"), node("b")
    first, go_on = await flying(a)
    second = asyncio.create_task(b.ask(question()))
    await asyncio.sleep(0.05)
    handover.down = True
    await asyncio.sleep(0.3)
    handover.down = False
    a.first.replies += [completion("Paris.")]
    go_on.set()
    await first
    _, journey = await second
    assert (b.calls, journey.outcome) == (0, "coalesced")


async def test_who_waits_asks_for_itself_when_nobody_was_heard_of_for_longer_than_a_claim_lives(node, handover):
    a, b = node("a"), node("b", silence=0.2)
    first, go_on = await flying(a)
    begun = time.monotonic()
    second = asyncio.create_task(b.ask(question()))
    await asyncio.sleep(0.05)
    handover.down = True
    _, journey = await second
    assert (b.calls, journey.outcome) == (1, "miss")
    assert time.monotonic() - begun > 0.2
    a.first.replies += [completion("Paris.")]
    go_on.set()
    await first


@pytest.mark.parametrize("body", [b"{", b"{}"])
async def test_what_a_newer_node_may_have_meant_is_asked_for_again(node, handover, body):
    path = node("b")
    handover.landed[flying_key(path)] = Landed(body, "first/m")
    _, journey = await path.ask(question())
    assert (path.calls, journey.outcome) == (1, "miss")


def flying_key(path):
    """Under which the usual question is asked."""
    return path.pipeline._planner.plan(msgspec.json.encode(question()), tenant="", namespace="").key  # noqa: SLF001 - its own


async def test_it_tells_whose_it_is(handover):
    assert repr(Fleet(handover, patience=1.0, max_bytes=1)) == f"<Fleet {handover!r}>"
