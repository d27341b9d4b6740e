"""A request with an idempotency key is done once, whoever asks, leaves, fails or comes again."""

import asyncio
from functools import partial

import msgspec
import pytest

from sentinel_gateway.api.wire.openai import read_request
from sentinel_gateway.core.idempotency import Answered, Quota, claim
from sentinel_gateway.core.routing import Directory
from sentinel_gateway.errors import (
    IdempotencyUnavailable,
    InvalidBody,
    KeyReused,
    Overloaded,
    RequestError,
    RequestInterrupted,
    RequestUnderway,
    StoreDown,
    UpstreamBroken,
    UpstreamRefused,
)
from sentinel_gateway.pipeline import handle
from sentinel_gateway.pipeline import reply as replies
from sentinel_gateway.pipeline.idempotency import Idempotency, IdempotencyLimits, Work
from sentinel_gateway.pipeline.plan import Planner
from sentinel_gateway.stores.idempotency import SqliteIdempotency, open_file
from tests.fakes import FakeIdempotency, FakeStream, completion, payloads, spoken, turns
from tests.pipeline.conftest import ALIASES, Path, question

pytestmark = pytest.mark.anyio


class FailingStore(FakeIdempotency):
    """`fails` are the names of what fails."""

    def __init__(self, *fails):
        super().__init__()
        self.fails = set(fails)

    async def claim(self, wanted, now):
        self._fail("claim")
        return await super().claim(wanted, now)

    async def keep(self, held, outcome):
        self._fail("keep")
        await super().keep(held, outcome)

    async def release(self, held):
        self._fail("release")
        await super().release(held)

    def _fail(self, name):
        if name in self.fails:
            raise StoreDown("the disk is gone")


class Keyed:
    """Requests with a key, over the path of fakes."""

    def __init__(self, path, store=None, **limits):
        self.path = path
        self.store = store or FakeIdempotency()
        self.limits = IdempotencyLimits(**limits)
        self.flights = []
        self.begun = self.ended = 0
        self.restart()

    def restart(self):
        """Another process, with what is stored."""
        self.idempotency = Idempotency(self.store, self.limits, self.path.clock)

    async def handle(self, body=None, key="k", tenant=""):
        """The reply, a live one still to be read."""
        body = body or question()
        journey = self.path.journey(tenant=tenant)
        raw = msgspec.json.encode(body)
        plan = plan_of(raw, tenant)
        claimed = claim(key, tenant=tenant, route=journey.route, body=raw)
        work = Work(self.begin, partial(self._work, body, journey), self.end)
        return await self.idempotency.answer(claimed, plan, journey, work)

    async def ask(self, *args, **kwargs):
        """What the caller reads: the body, or what the stream said."""
        reply = await self.handle(*args, **kwargs)
        if isinstance(reply, replies.Live):
            try:
                return "".join([_said(payload) async for batch in payloads(reply) for payload in batch])
            finally:
                await reply.flight.leave()
        if isinstance(reply, replies.Cached):
            return reply.hit.entry.body
        return reply.completion.raw

    def begin(self):
        self.begun += 1

    async def end(self):
        self.ended += 1

    async def _work(self, body, journey):
        reply = await self.path.handle(body, journey)
        self.flights += [reply.flight] if isinstance(reply, handle.Live) else []
        return getattr(replies, type(reply).__name__)(*(getattr(reply, name) for name in reply.__struct_fields__))


def _said(payload):
    choices = msgspec.json.decode(payload)["choices"]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


@pytest.fixture(params=["memory", "sqlite"])
async def keyed(request, path, tmp_path):
    memory = request.param == "memory"
    store = FakeIdempotency() if memory else SqliteIdempotency(partial(open_file, tmp_path), quota=Quota())
    keyed = Keyed(path, store)
    yield keyed
    await keyed.idempotency.close()
    await store.close()


async def asked(path):
    """A provider has been asked."""
    while not path.calls:
        await turns(1)


async def settled(keyed):
    """Nothing is being worked on any more, and nobody is left in a flight."""
    while "0 running" not in repr(keyed.idempotency):
        await turns(1)
    await turns()
    assert [flight for flight in keyed.flights if "ended, 0 aboard" not in repr(flight)] == []


def plan_of(raw, tenant=""):
    directory = Directory(aliases=ALIASES, providers=("first", "second"), catalogues={}, known={})
    planner = Planner("chat", partial(read_request, max_depth=64), lambda: directory)
    return planner.plan(raw, tenant=tenant, namespace="")


async def test_a_hundred_at_once_are_one_call_and_one_answer(keyed):
    keyed.path.first.replies += [asyncio.Event(), completion()]
    keyed.path.first.replies[0].set()
    answers = await asyncio.gather(*(keyed.ask() for _ in range(100)))
    assert len(set(answers)) == 1
    assert keyed.path.calls == 1
    assert keyed.path.near.entries, "an answer that is in the cache proves nothing"


async def test_what_is_uncacheable_is_asked_for_once_as_well(keyed):
    keyed.path.first.replies += [completion("one"), completion("two")]
    body = question(temperature=1.5, n=1, cache={"no-store": True})
    first = await keyed.ask(body)
    keyed.path.near.entries.clear()
    keyed.path.far.entries.clear()
    keyed.restart()
    again = await keyed.handle(body)
    assert isinstance(again, replies.Repeated)
    assert again.completion.raw == first
    assert again.completion.answer.fields["choices"][0]["message"]["content"] == "one"
    assert keyed.path.calls == 1


async def test_a_changed_body_is_refused_while_the_first_runs_and_after(keyed):
    go_on = asyncio.Event()
    keyed.path.first.replies += [go_on, completion()]
    first = asyncio.create_task(keyed.ask())
    await asked(keyed.path)
    with pytest.raises(KeyReused):
        await keyed.ask(question("Another?"))
    right = asyncio.create_task(keyed.ask())
    await turns()
    go_on.set()
    assert await first == await right
    with pytest.raises(KeyReused):
        await keyed.ask(question("Another?"))
    assert keyed.path.calls == 1


async def test_a_key_is_the_tenants_own(keyed):
    keyed.path.first.replies += [completion("a"), completion("b")]
    assert await keyed.ask(tenant="a") != await keyed.ask(tenant="b")


async def test_a_failure_is_told_to_all_who_wait_and_the_next_tries_again(keyed):
    go_on = asyncio.Event()
    keyed.path.first.replies += [go_on, UpstreamBroken("broken"), completion()]
    asking = [asyncio.create_task(keyed.ask()) for _ in range(10)]
    await asked(keyed.path)
    await turns()
    go_on.set()
    failures = await asyncio.gather(*asking, return_exceptions=True)
    assert {type(failure) for failure in failures} == {UpstreamBroken}
    assert keyed.path.calls == 1
    assert b"Paris" in await keyed.ask()


async def test_a_refusal_of_the_request_itself_is_kept(keyed):
    keyed.path.first.replies.append(UpstreamRefused("Too long.", upstream_status=400, upstream_code="too_long", param="messages"))
    for _ in range(3):
        with pytest.raises(UpstreamRefused, match="Too long") as refused:
            await keyed.ask()
        assert (refused.value.http_status, refused.value.shown_code, refused.value.param) == (400, "too_long", "messages")
    assert keyed.path.calls == 1


async def test_an_answer_from_the_cache_is_kept_with_its_id(keyed):
    keyed.path.first.replies.append(completion())
    await keyed.path.ask(question())
    assert isinstance(await keyed.handle(), replies.Cached)
    keyed.path.near.entries.clear()
    keyed.path.far.entries.clear()
    again = msgspec.json.decode(await keyed.ask())
    assert (again["id"], again["choices"][0]["message"]["content"]) == ("chatcmpl-s", "Paris.")
    assert keyed.path.calls == 1


async def test_a_stream_is_kept_and_comes_again_as_one_answer(keyed):
    keyed.path.first.replies.append(FakeStream(*spoken("Par", "is.")))
    assert await keyed.ask(question(stream=True)) == "Paris."
    await settled(keyed)
    again = await keyed.handle(question(stream=True))
    assert isinstance(again, replies.Repeated)
    assert again.plan.request.stream
    assert again.completion.answer.fields["choices"][0]["message"]["content"] == "Paris."
    assert keyed.path.calls == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_who_loses_the_connection_finds_the_answer_later(keyed, stream):
    go_on = asyncio.Event()
    first, *rest = spoken("Par", "is.")
    keyed.path.first.replies += [FakeStream(first, go_on, *rest)] if stream else [go_on, completion()]
    leaving = asyncio.create_task(keyed.ask(question(stream=stream)))
    await asked(keyed.path)
    await turns()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    waiting = asyncio.create_task(keyed.ask(question(stream=stream)))
    await turns()
    go_on.set()
    assert b"Paris." in await waiting
    assert keyed.path.calls == 1
    await settled(keyed)


async def test_who_leaves_before_a_stream_has_opened_keeps_no_place_in_it(path):
    keyed = Keyed(path)
    go_on = asyncio.Event()
    path.first.replies += [go_on, FakeStream(*spoken("Paris."))]
    leaving = asyncio.create_task(keyed.ask(question(stream=True)))
    await asked(path)
    leaving.cancel()
    await turns()
    go_on.set()
    waiting = await keyed.handle(question(stream=True))
    assert isinstance(waiting, replies.Repeated)
    await settled(keyed)
    assert len(keyed.flights) == path.calls == 1


async def test_who_leaves_before_an_error_leaves_nothing_unread(path):
    keyed = Keyed(path)
    go_on = asyncio.Event()
    path.first.replies += [go_on, UpstreamBroken("broken")]
    leaving = asyncio.create_task(keyed.ask())
    await asked(path)
    leaving.cancel()
    await turns()
    go_on.set()
    await settled(keyed)
    assert not keyed.store.held


async def test_a_stream_that_breaks_off_frees_its_key(keyed):
    first, *_ = spoken("Par", "is.")
    keyed.path.first.replies += [FakeStream(first, UpstreamBroken("cut")), FakeStream(*spoken("Paris."))]
    with pytest.raises(UpstreamBroken):
        await keyed.ask(question(stream=True))
    await settled(keyed)
    assert await keyed.ask(question(stream=True)) == "Paris."
    assert keyed.path.calls == 2


async def test_who_has_waited_long_enough_is_told_to_come_again(path):
    keyed = Keyed(path, wait=0.01)
    go_on = asyncio.Event()
    path.first.replies += [go_on, completion()]
    first = asyncio.create_task(keyed.ask())
    await turns()
    with pytest.raises(RequestUnderway) as underway:
        await keyed.ask()
    assert (underway.value.http_status, underway.value.retry, underway.value.retry_after) == (409, True, 1.0)
    go_on.set()
    assert await first == await keyed.ask()


async def test_after_a_crash_the_outcome_is_not_known_and_nothing_is_asked_again(keyed):
    keyed.path.first.replies += [asyncio.Event(), completion()]
    lost = asyncio.create_task(keyed.ask())
    await asked(keyed.path)
    crashed, waiting = keyed.idempotency, asyncio.create_task(keyed.ask())
    await turns()
    keyed.restart()
    with pytest.raises(RequestInterrupted, match="with a new key") as interrupted:
        await keyed.ask()
    assert (interrupted.value.http_status, interrupted.value.retry) == (409, False)
    await crashed.close()
    for asking in (lost, waiting):
        with pytest.raises((RequestInterrupted, asyncio.CancelledError)):
            await asking
    with pytest.raises(RequestInterrupted):
        await keyed.ask()
    assert keyed.path.calls == 1
    assert await keyed.ask(key="another") is not None


@pytest.mark.parametrize("stream", [False, True])
async def test_too_long_an_answer_is_given_once(path, stream):
    keyed = Keyed(path, max_bytes=50)
    path.first.replies.append(FakeStream(*spoken("Paris. " * 20)) if stream else completion("Paris. " * 20))
    assert "Paris" in str(await keyed.ask(question(stream=stream)))
    await settled(keyed)
    with pytest.raises(RequestInterrupted, match="such length"):
        await keyed.ask(question(stream=stream))
    assert path.calls == 1


async def test_a_stream_too_long_to_be_put_together_is_given_once(path):
    keyed = Keyed(path)
    path.first.replies.append(FakeStream(*spoken("x" * 10_000)))
    await keyed.ask(question(stream=True))
    await settled(keyed)
    with pytest.raises(RequestInterrupted, match="such length"):
        await keyed.ask(question(stream=True))


async def test_without_its_store_no_provider_is_asked(path):
    keyed = Keyed(path, FailingStore("claim"))
    with pytest.raises(IdempotencyUnavailable) as unavailable:
        await keyed.ask()
    assert (unavailable.value.http_status, unavailable.value.retry) == (503, True)
    assert path.calls == 0


async def test_an_answer_that_cannot_be_kept_is_given_and_its_key_says_so(path):
    keyed = Keyed(path, FailingStore("keep"))
    path.first.replies.append(completion())
    assert b"Paris" in await keyed.ask()
    with pytest.raises(RequestInterrupted):
        await keyed.ask()


async def test_a_key_that_cannot_be_freed_says_so(path):
    keyed = Keyed(path, FailingStore("release"))
    path.first.replies.append(UpstreamBroken("broken"))
    with pytest.raises(UpstreamBroken):
        await keyed.ask()
    with pytest.raises(RequestInterrupted):
        await keyed.ask()


async def test_what_was_stored_by_somebody_else_is_no_answer(path):
    keyed = Keyed(path)
    raw = msgspec.json.encode(question())
    held = claim("k", tenant="", route="/v1/chat/completions", body=raw)
    await keyed.store.claim(held, path.clock())
    await keyed.store.keep(held, Answered(b"{}"))
    with pytest.raises(RequestInterrupted):
        await keyed.ask()


async def test_so_many_are_worked_on_at_once(path):
    keyed = Keyed(path, running=1)
    go_on = asyncio.Event()
    path.first.replies += [go_on, completion()]
    first = asyncio.create_task(keyed.ask())
    await turns()
    with pytest.raises(Overloaded):
        await keyed.ask(key="another")
    go_on.set()
    await first


async def test_one_tenant_leaves_room_to_others(path):
    keyed = Keyed(path, running=2, running_of_tenant=1)
    go_on = asyncio.Event()
    path.first.replies += [go_on, completion()]
    first = asyncio.create_task(keyed.ask(tenant="one"))
    await turns()
    with pytest.raises(Overloaded):
        async with asyncio.timeout(5):
            await keyed.ask(key="another", tenant="one")
    path.first.replies.append(completion())
    other = asyncio.create_task(keyed.ask(tenant="other"))
    await turns()
    go_on.set()
    assert await first
    assert await other


async def test_an_error_before_any_provider_frees_the_key(path):
    keyed = Keyed(path)

    async def refuse():
        raise InvalidBody("no")

    work = Work(keyed.begin, refuse, keyed.end)
    raw = msgspec.json.encode(question())
    plan = plan_of(raw)
    with pytest.raises(RequestError):
        await keyed.idempotency.answer(claim("k", tenant="", route="r", body=raw), plan, path.journey(), work)
    assert not keyed.store.held
    assert keyed.begun == keyed.ended == 1


async def test_a_fault_of_ours_is_no_answer_and_asks_nobody_again(path):
    keyed = Keyed(path)

    async def fail():
        raise ZeroDivisionError

    work = Work(keyed.begin, fail, keyed.end)
    raw = msgspec.json.encode(question())
    plan = plan_of(raw)
    held = claim("k", tenant="", route="r", body=raw)
    with pytest.raises(ZeroDivisionError):
        await keyed.idempotency.answer(held, plan, path.journey(), work)
    with pytest.raises(RequestInterrupted):
        await keyed.idempotency.answer(held, plan, path.journey(), work)


async def test_the_path_does_it_once_also_where_nothing_is_limited():
    path = Path(idempotency=FakeIdempotency())
    path.first.replies += [completion()]
    replies_ = []
    for _ in range(2):
        journey = path.journey()
        journey.idempotency_key = "k"
        reply, _ = await path.ask(question(), journey)
        replies_.append(reply)
        assert (journey.goes_on, journey.report) == (False, None)
    assert [type(reply).__name__ for reply in replies_] == ["Whole", "Repeated"]
    assert path.calls == 1
