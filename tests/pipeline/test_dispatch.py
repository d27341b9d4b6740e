"""Who is asked, in which order, and when it is somebody else's turn."""

import asyncio

import msgspec
import pytest

from sentinel_gateway.api.wire.openai import read_request
from sentinel_gateway.core.pricing import FREE, Unpriced
from sentinel_gateway.core.retrying import RetryRules
from sentinel_gateway.core.routing import Conduct, Hedge, Route, Target
from sentinel_gateway.errors import (
    UpstreamBroken,
    UpstreamError,
    UpstreamLimited,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnauthorized,
    UpstreamUnreachable,
)
from sentinel_gateway.pipeline.dispatch import Dispatch
from sentinel_gateway.pipeline.handle import Live, Whole
from sentinel_gateway.pipeline.plan import Plan
from sentinel_gateway.ports import Completion, NotCarried
from tests.fakes import START, FakeStream, completion, spoken, turns
from tests.pipeline.conftest import Path, question

pytestmark = pytest.mark.anyio

REFUSED = UpstreamRefused("that field is wrong", upstream_status=422, upstream_code="bad_field", param="x")
PASSED_ON = [
    UpstreamError("x"),
    UpstreamUnreachable("x"),
    UpstreamUnauthorized("x"),
    UpstreamBroken("x"),
    UpstreamTimeout("x"),
    UpstreamLimited("x"),
]


def reply(*, stream: bool) -> object:
    return FakeStream(*spoken("Paris.")) if stream else completion()


@pytest.mark.parametrize("stream", [False, True])
async def test_one_target_is_asked_once_with_what_the_caller_sent(path, stream):
    path.first.replies.append(reply(stream=stream))
    body = question(model="both", stream=stream, unknown={"kept": [1.5, None]})
    got, journey = await path.ask(body)
    assert isinstance(got, Live if stream else Whole)
    (call,) = path.first.calls
    assert (call.fields, call.model, call.sentinel_id) == (body, "m", "s")
    assert (path.second.calls, path.events.notes, journey.target) == ([], [], "first/m")


async def test_an_answer_that_is_put_off_has_been_booked(path):
    """Whoever leaves before its turn pays for it once, and no provider is thought slow because of our own crowd."""
    path.first.replies.append(completion())
    never = asyncio.Event()
    dispatch = Dispatch({"first": path.first}, path.circuits, RetryRules(), give_way=never.wait)
    request = read_request(msgspec.json.encode(question()), max_depth=64)
    journey = path.journey()
    asking = asyncio.create_task(dispatch.complete(Plan(request, Route((Target("first", "m"),)), ""), journey))
    await turns()
    path.clock.now += 5.0
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    (attempt,) = path.events.attempts
    assert (attempt.ending, attempt.seconds) == ("answered", 0.0)
    assert (journey.prompt_tokens, journey.completion_tokens, journey.upstream_ended) == (3, 5, START + 5.0)


@pytest.mark.parametrize("hedge", [None, Hedge(2.0, 0.5)], ids=["alone", "hedged"])
async def test_an_answer_that_can_not_be_counted_leaves_no_attempt_open(path, hedge):
    """A fault of ours, after the provider has done its part."""
    strange = msgspec.structs.replace(completion().answer, usage=None, fields={"choices": [{}]})
    path.first.replies.append(Completion(b"{}", strange))
    request = read_request(msgspec.json.encode(question()), max_depth=64)
    plan = Plan(request, Route((Target("first", "m"),), conduct=Conduct(hedge=hedge)), "")
    standing = path.circuits.standings.of("first/m")
    with pytest.raises(KeyError):
        await path.dispatch.complete(plan, path.journey())
    assert [(attempt.ending, attempt.cost) for attempt in path.events.attempts] == [("left", 0)]
    assert standing.busy == 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("error", PASSED_ON, ids=lambda error: type(error).__name__)
async def test_the_next_target_is_asked(path, error, stream):
    path.first.replies.append(error)
    path.second.replies.append(reply(stream=stream))
    got, journey = await path.ask(question(model="both", stream=stream))
    assert [call.model for call in (*path.first.calls, *path.second.calls)] == ["m", "n"]
    assert journey.target == "second/n"
    failed, good = path.events.attempts
    assert (failed.number, failed.target, failed.error, failed.stream) == (1, "first/m", error.kind, stream)
    assert (good.number, good.target, good.error, good.ending) == (2, "second/n", "", "answered")
    assert journey.attempts == 2
    assert path.far.entries[got.plan.key].model == "second/n"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_that_is_wrong_is_wrong_everywhere(path, stream):
    path.first.replies.append(REFUSED)
    journey = path.journey()
    with pytest.raises(UpstreamRefused) as caught:
        await path.ask(question(model="both", stream=stream), journey)
    assert (caught.value.http_status, caught.value.shown_code) == (422, "bad_field")
    assert (path.second.calls, path.events.notes, journey.target) == ([], [], "first/m")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("last", [UpstreamTimeout("last"), REFUSED])
async def test_when_all_fail_the_last_error_is_the_answer(path, last, stream):
    path.first.replies.append(UpstreamBroken("first"))
    path.second.replies.append(last)
    with pytest.raises(UpstreamError) as caught:
        await path.ask(question(model="both", stream=stream))
    assert caught.value is last
    assert path.near.puts == path.far.puts == 0


@pytest.mark.parametrize(
    "broken", [FakeStream(), FakeStream(UpstreamTimeout("no first word")), FakeStream(done=False)], ids=["empty", "late", "cut"]
)
async def test_a_stream_that_never_began_is_closed_and_asked_for_elsewhere(path, broken):
    path.first.replies.append(broken)
    path.second.replies.append(FakeStream(*spoken("Paris.")))
    _, journey = await path.ask(question(model="both", stream=True))
    assert (broken.opened, broken.closed, journey.target) == (1, 1, "second/n")
    assert b"".join(path.said).count(b"Paris.") == 1


async def test_a_stream_without_a_word_is_broken(path):
    stream = FakeStream()
    path.first.replies.append(stream)
    with pytest.raises(UpstreamBroken, match="before its first word"):
        await path.ask(question(stream=True))
    assert stream.closed == 1


async def test_a_stream_is_closed_once_however_often_that_is_asked_for(path):
    stream = FakeStream(*spoken("Paris."))
    path.first.replies += [FakeStream(*spoken("Paris.")), stream]
    await path.ask(question(stream=True))
    opened = await path.dispatch.open_stream(path.waited[0], path.journey())
    await opened.close()
    await opened.close()
    assert (stream.opened, stream.closed) == (1, 1)


async def test_nothing_goes_on_to_another_target_after_the_first_word(path):
    first, *_ = spoken()
    path.first.replies.append(FakeStream(first, UpstreamBroken("cut")))
    with pytest.raises(UpstreamBroken):
        await path.ask(question(model="both", stream=True))
    assert path.second.calls == []


@pytest.mark.parametrize("stream", [False, True])
async def test_the_time_at_providers_spans_all_of_them(path, stream):
    journey, holds = path.journey(), (asyncio.Event(), asyncio.Event())
    path.first.replies += [holds[0], UpstreamBroken("x")]
    path.second.replies += [holds[1], reply(stream=stream)]
    asking = asyncio.create_task(path.ask(question(model="both", stream=stream), journey))
    for hold in holds:
        await turns()
        path.clock.now += 2.0
        hold.set()
    await asking
    assert (journey.upstream_started, journey.upstream_ended) == (START, START + 4.0)
    journey.end(START + 5.0)
    assert journey.upstream_seconds == 4.0


async def test_a_failure_took_its_time_too(path):
    path.first.replies.append(UpstreamBroken("x"))
    journey = path.journey()
    with pytest.raises(UpstreamBroken):
        await path.ask(question(), journey)
    assert journey.upstream_started == journey.upstream_ended == START


async def test_a_caller_who_leaves_before_the_first_word_closes_the_upstream(path):
    stream = FakeStream(asyncio.Event())
    path.first.replies.append(stream)
    asking = asyncio.create_task(path.ask(question(model="both", stream=True)))
    await turns()
    assert (stream.opened, stream.closed) == (1, 0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert stream.closed == 1
    assert path.second.calls == []


async def test_providers_are_asked_for_what_was_planned(path):
    """The plan of a body that was seen before serves again, and what it holds was not changed by the first call."""
    body = question(model="both")
    path.first.replies += [completion("a"), completion("b")]
    for _ in range(2):
        await path.ask(body, path.journey(read=False))
    assert [call.fields for call in path.first.calls] == [msgspec.json.decode(msgspec.json.encode(body))] * 2


@pytest.mark.parametrize("model", ["alone", "hedged"])
async def test_what_has_no_price_is_not_asked_where_the_operator_says_so(model):
    both = (Target("first", "m"), Target("second", "n"))
    path = Path(aliases={"alone": Route(both), "hedged": Route(both, conduct=Conduct(hedge=Hedge(2.0, 0.5)))})
    unknown = {"first/m"}
    price = lambda target: Unpriced(target, refused=True) if target in unknown else FREE  # noqa: E731 - no longer than its name
    path.dispatch._prices = price  # noqa: SLF001 - the path's own are known
    path.second.replies.append(completion())
    _, journey = await path.ask(question(model=model))
    assert (journey.target, journey.attempts) == ("second/n", 1)
    unknown.add("second/n")
    with pytest.raises(NotCarried, match="No price is known for 'second/n', and this gateway asks no model without one"):
        await path.ask(question("Again?", model=model))
