"""Answers that are read to their end after all who waited have left: which, how many, and what becomes of them."""

import asyncio
from unittest.mock import AsyncMock, Mock

import pytest

from sentinel_gateway.core.routing import Conduct, Route, Target
from sentinel_gateway.errors import UpstreamBroken
from sentinel_gateway.pipeline.handle import Cached
from tests.fakes import FakeStream, completion, spoken, turns
from tests.pipeline.conftest import Path, question

pytestmark = pytest.mark.anyio

ROUTES = {"kept": Route((Target("first", "m"),), conduct=Conduct(drain=True)), "alias": Route((Target("first", "m"),))}


@pytest.fixture
async def path():
    path = Path(aliases=ROUTES)
    path.drains.most = 2
    yield path
    await path.drains.close()


async def leave(path, *, stream, model="kept", text="Capital of France?", began=True, **wish):
    """Ask, and leave before the end; what lets the provider go on."""
    go_on = asyncio.Event()
    first, *rest = spoken("Par", "is.")
    if stream:
        path.first.replies.append(FakeStream(first, go_on, *rest) if began else go_on)
    else:
        path.first.replies += [go_on, completion("Paris.")]
    if stream and not began:
        path.first.replies.append(FakeStream(first, *rest))
    asking = asyncio.create_task(path.ask(question(text, model=model, stream=stream), path.journey(**wish)))
    await turns()
    assert not asking.done()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await turns()
    return go_on


async def stored(path, text="Capital of France?", model="kept"):
    reply, _ = await path.ask(question(text, model=model), path.journey(only_if_cached=True))
    return isinstance(reply, Cached)


@pytest.mark.parametrize(("stream", "began"), [(False, False), (True, False), (True, True)])
async def test_it_is_read_to_the_end_and_kept(path, stream, began):
    go_on = await leave(path, stream=stream, began=began)
    assert path.events.attempts == []
    assert "1 of 2" in repr(path.drains)
    go_on.set()
    await turns(30)
    (attempt,) = path.events.attempts
    assert (attempt.ending, attempt.prompt_tokens, attempt.completion_tokens) == ("answered", 3, 5)
    ((name, fields),) = path.events.notes
    assert (name, fields["sentinel_id"], fields["target"], fields["completion_tokens"]) == ("answer_drained", "s", "first/m", 5)
    assert await stored(path)
    assert "0 of 2" in repr(path.drains)


@pytest.mark.parametrize("stream", [False, True])
async def test_elsewhere_the_call_is_closed(path, stream):
    await leave(path, stream=stream, model="alias")
    (attempt,) = path.events.attempts
    assert attempt.ending == "left"
    assert path.events.notes == []


@pytest.mark.parametrize("wish", [{"write": False}, {"ttl": 0.0}, {"bypass": True, "read": False, "write": False}])
async def test_what_would_not_be_kept_is_not_read(path, wish):
    await leave(path, stream=True, **wish)
    (attempt,) = path.events.attempts
    assert (attempt.ending, attempt.completion_tokens) == ("left", 1), "what was heard is billed"


async def test_who_comes_meanwhile_shares_it(path):
    go_on = await leave(path, stream=True)
    coming = asyncio.create_task(path.ask(question(model="kept")))
    await turns()
    go_on.set()
    _, journey = await coming
    assert (journey.outcome, path.calls) == ("coalesced", 1)


async def test_who_comes_meanwhile_and_leaves_ends_nothing(path):
    go_on = await leave(path, stream=True)
    coming = asyncio.create_task(path.ask(question(model="kept", stream=True)))
    await turns()
    coming.cancel()
    await asyncio.wait([coming])
    go_on.set()
    await turns(30)
    assert path.calls == 1
    assert await stored(path)


async def test_so_many_at_once_and_no_more(path):
    for number in range(3):
        await leave(path, stream=True, text=f"{number}?")
    (attempt,) = path.events.attempts
    assert attempt.ending == "left"
    assert "2 of 2" in repr(path.drains)


async def test_one_that_breaks_is_no_fault_of_ours(path):
    go_on = await leave(path, stream=True, began=False)
    path.first.replies[0] = UpstreamBroken("x")
    go_on.set()
    await turns(30)
    assert [attempt.ending for attempt in path.events.attempts] == ["broken"]
    assert "0 of 2" in repr(path.drains)


async def test_at_a_stop_all_are_let_go_and_told(path):
    await leave(path, stream=True)
    await leave(path, stream=False, text="Why?")
    await path.drains.close()
    assert [attempt.ending for attempt in path.events.attempts] == ["left", "left"]
    assert "0 of 0" in repr(path.drains)


async def test_one_that_has_not_begun_at_a_stop_leaves_its_call(path):
    never = asyncio.Event()
    call = Mock(journey=path.journey(), leave=AsyncMock(), read_to_the_end=never.wait)
    assert path.drains.take(call)
    await path.drains.close()
    call.board.assert_called_once_with()
    call.leave.assert_awaited_once_with()
