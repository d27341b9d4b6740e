"""Streams that are withheld to their end: one that is cut is begun anew, nobody hears two beginnings, and all is paid for."""

import asyncio
from unittest.mock import AsyncMock, Mock

import pytest

from sentinel_gateway.core.caching import Store
from sentinel_gateway.core.circuit import CircuitRules
from sentinel_gateway.core.routing import Conduct, Route, Target
from sentinel_gateway.core.standing import StandingRules
from sentinel_gateway.errors import UpstreamBroken, UpstreamRefused, UpstreamTimeout
from sentinel_gateway.pipeline.handle import Cached, Live
from sentinel_gateway.pipeline.recovery import WITHHELD_BYTES
from tests.fakes import FakeStream, chunk, delta, spoken, turns
from tests.pipeline.conftest import Path, question

pytestmark = pytest.mark.anyio

ROLE, WORD, END, USED = spoken("Paris.")
ASKED = question(stream=True, model="both")


def raws(*batches):
    return [one.raw for batch in batches for one in batch]


def cut(*script):
    """A stream that ends before its end."""
    return FakeStream(*(script or (ROLE, WORD)), done=False)


def reserving(path, tokens):
    """A buffered journey whose caller has so many tokens taken."""
    journey = path.journey(buffered=True)
    grant = journey.grant = Mock(
        reserved=tokens,
        uncounted=False,
        has_budget=False,
        enter=AsyncMock(),
        reserve=AsyncMock(),
        settle_now=Mock(return_value=False),
    )
    grant.settle = AsyncMock(side_effect=lambda *_: setattr(grant, "reserved", None))
    return journey


@pytest.mark.parametrize(
    ("script", "ending"),
    [
        ((ROLE, WORD), ("broken", "io_error", 2)),
        ((ROLE,), ("broken", "io_error", 1)),
        ((ROLE, WORD, UpstreamTimeout("silent")), ("timeout", "upstream_timeout", 2)),
        ((ROLE, WORD, UpstreamBroken("x", failure="json_error")), ("broken", "json_error", 2)),
        ((ROLE, WORD, END, UpstreamBroken("reset")), ("broken", "upstream_error", 3)),
    ],
    ids=["cut", "after the role", "silent", "nonsense", "after its last word"],
)
async def test_one_that_breaks_is_begun_anew_elsewhere(path, script, ending):
    broken = cut(*script)
    said = [[chunk(delta(role="assistant", content=""))], [chunk(delta(content="Lyon?"))], END, USED]
    path.first.replies.append(broken)
    path.second.replies.append(FakeStream(*said))
    _, journey = await path.ask(ASKED, path.journey(buffered=True))
    assert path.said == raws(*said[:-1]), "the second's words, and none of the first's"
    assert [(a.ending, a.error, a.completion_tokens) for a in path.events.attempts] == [
        ending,
        ("answered", "", 5),
    ]
    assert (journey.attempts, journey.target) == (2, "second/n")
    assert journey.completion_tokens == ending[-1] + 5, "what was generated in vain was paid for"
    assert isinstance(journey.kept, Store)
    assert (broken.opened, broken.closed) == (1, 1)


async def test_done_without_a_word_on_why_it_ended_is_no_end(path):
    path.first.replies.append(FakeStream(ROLE, WORD))
    path.second.replies.append(FakeStream(ROLE, WORD, END, USED))
    _, journey = await path.ask(ASKED, path.journey(buffered=True))
    assert (journey.target, path.said) == ("second/n", raws(ROLE, WORD, END))
    assert [(a.ending, a.error) for a in path.events.attempts] == [("broken", "io_error"), ("answered", "")]


async def test_why_it_ended_is_an_end_without_done(path):
    path.first.replies.append(cut(ROLE, WORD, END))
    _, journey = await path.ask(ASKED, path.journey(buffered=True))
    assert (journey.target, path.said) == ("first/m", raws(ROLE, WORD, END))


async def test_nothing_is_told_before_the_end(path):
    hold = asyncio.Event()
    path.first.replies.append(FakeStream(ROLE, WORD, hold, END, USED))
    asking = asyncio.create_task(path.handle(ASKED, journey := path.journey(buffered=True)))
    await turns()
    assert not asking.done()
    hold.set()
    live = await asking
    assert isinstance(live, Live)
    await path.read(live, journey)
    assert path.said == raws(ROLE, WORD, END)
    assert (journey.attempts, journey.completion_tokens) == (1, 5)


async def test_who_does_not_ask_for_it_hears_each_word_and_the_error(path):
    path.first.replies.append(cut())
    with pytest.raises(UpstreamBroken, match="cut"):
        await path.ask(ASKED)
    assert path.said == raws(ROLE, WORD)
    assert path.second.calls == []


async def test_where_all_break_off_the_error_is_told_and_nothing_else(path):
    path.first.replies.append(cut())
    path.second.replies.append(FakeStream(ROLE, UpstreamTimeout("silent")))
    journey = reserving(path, 100)
    with pytest.raises(UpstreamTimeout):
        await path.handle(ASKED, journey)
    await turns()
    assert (journey.attempts, journey.completion_tokens) == (2, 3)
    assert (path.near.puts, path.far.puts) == (0, 0)
    journey.grant.settle.assert_awaited_once_with(journey.prompt_tokens + journey.completion_tokens, journey.cost)
    assert journey.prompt_tokens == 200, "both were asked"


async def test_three_attempts_are_all_there_are():
    path = Path(standing=StandingRules(CircuitRules(failures=1_000)))
    path.chance = 0.5
    path.first.replies += [cut() for _ in range(4)]
    with pytest.raises(UpstreamBroken):
        await path.handle(question(stream=True), journey := path.journey(buffered=True))
    assert (journey.attempts, len(path.first.calls)) == (3, 3)
    assert path.slept == [0.5, 1.0], "the same target is asked again after a pause"


async def test_a_refusal_on_the_way_ends_it(path):
    path.first.replies.append(FakeStream(ROLE, UpstreamRefused("filtered", upstream_status=400)))
    with pytest.raises(UpstreamRefused):
        await path.handle(ASKED, path.journey(buffered=True))
    assert path.second.calls == []


async def test_a_target_that_must_not_be_asked_in_vain_is_not_followed_by_another():
    targets = Target("first", "m"), Target("second", "n")
    path = Path(aliases={"both": Route(targets, conduct=Conduct(careful=frozenset(targets[:1])))})
    path.first.replies.append(cut())
    with pytest.raises(UpstreamBroken, match="cut"):
        await path.handle(ASKED, journey := path.journey(buffered=True))
    assert (journey.attempts, path.second.calls) == (1, [])


async def test_limits_are_booked_for_both_attempts(path):
    path.first.replies.append(cut())
    path.second.replies.append(FakeStream(ROLE, WORD, END, USED))
    journey = reserving(path, 50)
    await path.ask(ASKED, journey)
    await turns()
    assert (journey.prompt_tokens, journey.completion_tokens) == (50 + 3, 2 + 5)
    journey.grant.settle.assert_awaited_once_with(60, journey.cost)


async def test_who_leaves_before_the_end_pays_for_what_was_said(path):
    stream = FakeStream(ROLE, WORD, asyncio.Event())
    path.first.replies.append(cut())
    path.second.replies.append(stream)
    journey = reserving(path, 50)
    asking = asyncio.create_task(path.handle(ASKED, journey))
    await turns(20)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await turns()
    assert [(a.ending, a.completion_tokens) for a in path.events.attempts] == [("broken", 2), ("left", 2)]
    assert (journey.attempts, journey.completion_tokens, stream.closed) == (2, 4, 1)
    journey.grant.settle.assert_awaited_once_with(104, journey.cost)


async def test_more_than_is_withheld_is_passed_on_and_begun_no_more(path):
    long = [[chunk(delta(content="w" * 1_000_000))] for _ in range(6)]
    path.first.replies.append(cut(ROLE, *long))
    with pytest.raises(UpstreamBroken, match="cut"):
        await path.ask(ASKED, journey := path.journey(buffered=True))
    assert path.said == raws(ROLE, *long)
    assert sum(map(len, path.said)) > WITHHELD_BYTES
    assert (path.second.calls, journey.attempts, journey.completion_tokens) == ([], 1, 7)


async def test_it_shares_no_flight_with_those_who_want_each_word(path):
    hold = asyncio.Event()
    path.first.replies += [FakeStream(ROLE, WORD, hold, END, USED) for _ in range(2)]
    plain = asyncio.create_task(path.handle(ASKED, path.journey()))
    journeys = [path.journey(buffered=True) for _ in range(2)]
    withheld = [asyncio.create_task(path.handle(ASKED, journey)) for journey in journeys]
    await turns(20)
    assert plain.done()
    assert not any(one.done() for one in withheld)
    hold.set()
    await path.read(await plain, path.journey())
    for one, journey in zip(withheld, journeys, strict=True):
        await path.read(await one, journey)
        assert path.said == raws(ROLE, WORD, END)
    assert path.calls == 2, "those who ask alike share one"
    assert [journey.outcome for journey in journeys] == ["miss", "coalesced"]


async def test_what_is_recovered_is_kept_like_any_other(path):
    path.first.replies.append(cut())
    path.second.replies.append(FakeStream(ROLE, WORD, END, USED))
    await path.ask(ASKED, path.journey(buffered=True))
    reply, _ = await path.ask(question(model="both"))
    assert isinstance(reply, Cached)
    assert (reply.hit.entry.completion_tokens, reply.hit.entry.model) == (5, "second/n"), "the answer's own tokens"
