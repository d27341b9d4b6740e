"""Whole journeys: where an answer comes from, what is kept of it, what is told of it."""

import asyncio
from functools import partial

import msgspec
import pytest

from sentinel_gateway.api.wire.anthropic_request import read_messages
from sentinel_gateway.api.wire.openai import read_request
from sentinel_gateway.core.access import SCOPES, Caller
from sentinel_gateway.core.caching import Miss, NotStorable, Step, Store, TtlRules, Wish
from sentinel_gateway.core.chat import ChatRequest
from sentinel_gateway.core.record import Record
from sentinel_gateway.core.streaming import whole_body
from sentinel_gateway.core.tokens import Expected, usage_about
from sentinel_gateway.errors import InvalidBody, ModelNotFound, NotCached, UpstreamBroken
from sentinel_gateway.pipeline.admit import Capacity
from sentinel_gateway.pipeline.callers import LimitRules
from sentinel_gateway.pipeline.handle import Cached, Live, Whole
from sentinel_gateway.pipeline.limiting import Limiter
from sentinel_gateway.stores.memory_limits import MemoryLimits
from tests.fakes import START, USAGE, FakeStream, completion, spoken
from tests.pipeline.conftest import NEAR_TTL, FakeTokens, Party, question, tokens_left, told

pytestmark = pytest.mark.anyio


HOUR, DAY = 3_600.0, 86_400.0


def content(reply: Cached) -> str:
    whole = msgspec.json.decode(whole_body(reply.hit.entry.body, answer_id="a", created=1))
    return whole["choices"][0]["message"]["content"]


async def test_a_miss_is_stored_and_the_next_is_a_hit(path):
    given = completion("Paris.")
    path.first.replies.append(given)

    reply, journey = await path.ask(question())

    assert isinstance(reply, Whole)
    assert reply.completion is given
    assert journey.outcome == "miss"
    assert journey.miss == Miss((Step("disk", "uri-miss"), Step("memory", "uri-miss")))
    assert journey.kept == Store(HOUR, ("memory", "disk"))
    assert [plan.key for plan in path.waited] == [reply.plan.key]

    again, journey = await path.ask(question())

    assert isinstance(again, Cached)
    assert content(again) == "Paris."
    assert (journey.outcome, journey.tier, journey.miss, journey.kept) == ("exact", "memory", None, None)
    assert (journey.target, journey.prompt_tokens, journey.completion_tokens) == ("first/m", 3, 5)
    assert path.calls == len(path.waited) == 1
    assert len(path.far.asked) == 1


async def test_an_entry_knows_where_it_comes_from(path):
    path.first.replies.append(completion())
    journey = path.journey(tenant="shared with others", namespace="n", tags=("x", "y"), ttl=100.0)
    journey.caller, journey.writer = Caller("key-7", "t", SCOPES), "key-7"

    reply, _ = await path.ask(question(), journey)

    for entry in (path.near.entries[reply.plan.key], path.far.entries[reply.plan.key]):
        assert (entry.model, entry.tenant, entry.namespace, entry.writer, entry.tags) == (
            "first/m",
            "t",
            "n",
            "key-7",
            ("x", "y"),
        )
        assert (entry.created, entry.expires) == (START, START + 100.0)
        assert (entry.prompt_tokens, entry.completion_tokens) == (3, 5)


async def test_an_answer_without_usage_is_kept_with_about_what_it_took(path):
    bare = completion()
    path.first.replies.append(msgspec.structs.replace(bare, answer=msgspec.structs.replace(bare.answer, usage=None)))
    reply, journey = await path.ask(question())
    entry = path.far.entries[reply.plan.key]
    estimated = usage_about(question(), completion=2)  # of "Paris.", and not of all that is written around it
    assert (entry.prompt_tokens, entry.completion_tokens) == (estimated.prompt_tokens, estimated.completion_tokens)
    assert (entry.basis, journey.basis, journey.prompt_tokens) == ("estimated", "estimated", estimated.prompt_tokens)


@pytest.mark.parametrize("streamed_first", [True, False])
async def test_a_stream_serves_a_whole_request_and_the_reverse(path, streamed_first):
    path.first.replies.append(FakeStream(*spoken("Par", "is.")) if streamed_first else completion("Paris."))

    first, journey = await path.ask(question(stream=streamed_first))
    again, second = await path.ask(question(stream=not streamed_first))

    assert isinstance(first, Live if streamed_first else Whole)
    assert isinstance(journey.kept, Store)
    assert isinstance(again, Cached)
    assert content(again) == "Paris."
    assert (journey.stream, second.stream) == (streamed_first, not streamed_first)
    assert (second.prompt_tokens, second.completion_tokens) == (3, 5)
    assert path.calls == 1


async def test_a_hit_on_disk_fills_memory(path):
    path.first.replies.append(completion())
    reply, _ = await path.ask(question())
    key = reply.plan.key
    path.near.entries.clear()

    _, journey = await path.ask(question())
    assert (journey.outcome, journey.tier) == ("exact", "disk")
    assert path.near.entries[key].expires == START + NEAR_TTL

    _, journey = await path.ask(question())
    assert (journey.outcome, journey.tier) == ("exact", "memory")
    assert path.far.asked == [key, key]


async def test_memory_holds_an_entry_no_longer_than_the_farther_tier(path):
    path.first.replies.append(completion())
    reply, _ = await path.ask(question(), path.journey(ttl=NEAR_TTL - 1))
    key = reply.plan.key
    assert path.near.entries[key] is path.far.entries[key]

    path.near.entries.clear()
    path.clock.now += 10
    await path.ask(question())
    assert path.near.entries[key].expires == START + NEAR_TTL - 1


async def test_what_memory_has_let_go_is_still_on_disk_and_then_expires(path):
    path.first.replies += [completion(), completion()]
    await path.ask(question())

    path.clock.now += NEAR_TTL
    _, journey = await path.ask(question())
    assert (journey.outcome, journey.tier) == ("exact", "disk")

    path.clock.now = START + HOUR
    _, journey = await path.ask(question())
    assert journey.miss == Miss((Step("disk", "stale"), Step("memory", "stale")))
    assert path.calls == 2


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
async def test_x_cache_ttl_never_exceeded_in_any_tier(path, chance):
    path.chance = chance
    path.first.replies += [completion(), completion()]
    reply, journey = await path.ask(question(), path.journey(ttl=60.0))
    lifetimes = [tier.entries[reply.plan.key].expires - START for tier in (path.near, path.far)]
    assert lifetimes == [journey.kept.ttl] * 2
    assert 54.0 <= lifetimes[0] <= 60.0

    path.clock.now += 60.0
    _, journey = await path.ask(question())
    assert journey.outcome == "miss"


@pytest.mark.parametrize(
    ("rules", "fields", "ttl"),
    [
        (TtlRules(), {}, HOUR),
        (TtlRules(), {"temperature": 0.2}, DAY),
        (TtlRules(fixed=7.0), {}, 7.0),
        (TtlRules(fixed=7.0, per_model={"first/m": 9.0}), {}, 9.0),
    ],
)
async def test_the_operators_lifetimes_hold(make_path, rules, fields, ttl):
    path = make_path(rules=rules)
    path.first.replies.append(completion())
    _, journey = await path.ask(question(**fields))
    assert journey.kept == Store(ttl, ("memory", "disk"))


async def test_a_tier_that_is_down_is_a_miss(path):
    path.first.replies.append(completion())
    path.far.down = True
    reply, journey = await path.ask(question())
    assert isinstance(reply, Whole)
    assert journey.miss == Miss((Step("disk", "miss", "tier-down"), Step("memory", "uri-miss")))
    assert path.far.asked == [reply.plan.key]


async def test_memory_alone_is_enough(make_path):
    path = make_path(far=False)
    path.first.replies.append(completion())
    _, journey = await path.ask(question())
    assert journey.miss == Miss((Step("memory", "uri-miss"),))
    _, journey = await path.ask(question())
    assert journey.tier == "memory"
    assert path.far.asked == []
    assert path.far.puts == 0


async def test_bypass_neither_reads_writes(path):
    path.first.replies += [completion("old"), completion("new")]
    await path.ask(question())
    before = (list(path.near.asked), list(path.far.asked), path.near.puts, path.far.puts)

    reply, journey = await path.ask(question(), path.journey(read=False, write=False, bypass=True))

    assert isinstance(reply, Whole)
    assert (journey.outcome, journey.kept) == ("bypass", NotStorable("bypass"))
    assert journey.miss == Miss((Step("memory", "bypass"),))
    assert (path.near.asked, path.far.asked, path.near.puts, path.far.puts) == before
    again, _ = await path.ask(question())
    assert content(again) == "old"


async def test_no_cache_asks_the_provider_and_keeps_its_answer(path):
    path.first.replies += [completion("old"), completion("new")]
    await path.ask(question())
    asked = list(path.near.asked)

    _, journey = await path.ask(question(), path.journey(read=False))

    assert (journey.outcome, journey.miss) == ("miss", Miss((Step("memory", "request"),)))
    assert path.near.asked == asked
    again, _ = await path.ask(question())
    assert content(again) == "new"


async def test_no_store_reads_and_does_not_write(path):
    path.first.replies += [completion(), completion()]

    _, journey = await path.ask(question(), path.journey(write=False))
    assert journey.kept == NotStorable("no-store")
    assert path.near.puts == path.far.puts == 0

    await path.ask(question())
    reply, _ = await path.ask(question(), path.journey(write=False))
    assert isinstance(reply, Cached)


async def test_only_if_cached(path):
    journey = path.journey(only_if_cached=True)
    with pytest.raises(NotCached):
        await path.ask(question(), journey)
    assert (path.calls, path.waited, journey.outcome) == (0, [], "miss")

    path.first.replies.append(completion())
    await path.ask(question())
    reply, _ = await path.ask(question(), path.journey(only_if_cached=True))
    assert isinstance(reply, Cached)


@pytest.mark.parametrize(
    ("wish", "served"),
    [({"max_age": 100.0}, True), ({"max_age": 99.0}, False), ({"min_fresh": 200.0}, True), ({"min_fresh": 3501.0}, False)],
)
async def test_what_the_caller_takes_for_fresh(path, wish, served):
    path.first.replies += [completion(), completion()]
    await path.ask(question())
    path.clock.now += 100.0
    reply, journey = await path.ask(question(), path.journey(**wish))
    assert isinstance(reply, Cached) is served
    if not served:
        assert {step.forward for step in journey.miss.steps} == {"request"}


@pytest.mark.parametrize("other", [{"tenant": "t"}, {"namespace": "n"}])
async def test_tenants_and_namespaces_are_caches_of_their_own(path, other):
    path.first.replies += [completion("ours"), completion("theirs")]
    await path.ask(question())
    reply, _ = await path.ask(question(), path.journey(**other))
    assert isinstance(reply, Whole)
    again, _ = await path.ask(question(), path.journey(**other))
    assert content(again) == "theirs"


async def test_an_alias_and_its_target_are_one_model(path):
    path.first.replies.append(completion())
    await path.ask(question(model="alias"))
    reply, _ = await path.ask(question(model="first/m"))
    assert isinstance(reply, Cached)


async def test_an_unknown_model_is_no_journey_to_a_provider(path):
    journey = path.journey()
    with pytest.raises(ModelNotFound) as caught:
        await path.ask(question(model="nobody/x"), journey)
    assert caught.value.param == "model"
    assert (journey.outcome, path.near.asked, path.calls) == ("none", [], 0)


async def test_a_failed_request_leaves_nothing(path):
    path.first.replies.append(UpstreamBroken("no"))
    journey = path.journey()
    with pytest.raises(UpstreamBroken):
        await path.ask(question(), journey)
    assert (journey.outcome, journey.kept) == ("miss", None)
    assert path.near.puts == path.far.puts == 0


@pytest.mark.parametrize("error", [UpstreamBroken("no"), TypeError("a fault of ours")])
async def test_a_failed_request_gives_back_what_was_reserved_for_it(make_path, error):
    def estimate(_):
        return FakeTokens(Expected(60, 60), told())

    path = make_path(estimate=estimate)
    limiter = Limiter(MemoryLimits(clock=path.clock), rules=LimitRules(), clock=path.clock, chance=lambda: 0.0)
    journey = path.journey()
    journey.grant = limiter.grant(Party())
    path.first.replies.append(error)
    with pytest.raises(type(error)):
        await path.ask(question(), journey)
    await asyncio.sleep(0)
    assert await tokens_left(limiter) == 100


@pytest.mark.parametrize("key", ["", "once"])
async def test_what_makes_no_sense_is_refused_with_an_idempotency_key_and_without(path, key):
    journey = path.journey()
    journey.idempotency_key = key
    with pytest.raises(InvalidBody):
        await path.pipeline.handle(b"{", journey, waiting=path.handle)
    assert path.calls == 0


async def test_the_end_is_told_once_and_in_full(path):
    path.first.replies.append(FakeStream(*spoken("Par", "is.")))
    journey = path.journey()
    path.clock.now += 0.5
    await path.ask(question(stream=True), journey)
    journey.status, journey.first_byte = 200, START + 0.75
    path.clock.now += 1.0

    journey.end(path.clock())
    told = {name: getattr(journey, name) for name in Record.__struct_fields__}
    assert told == msgspec.structs.asdict(
        Record(
            at=START,
            request_id="r",
            sentinel_id="s",
            route="/v1/chat/completions",
            method="POST",
            status=200,
            seconds=1.5,
            outcome="miss",
            model="first/m",
            target="first/m",
            attempts=1,
            stream=True,
            stored=True,
            first_byte_seconds=0.75,
            prompt_tokens=USAGE["prompt_tokens"],
            completion_tokens=USAGE["completion_tokens"],
            client="c",
            key="anybody",
        )
    )
    assert repr(journey) == "<Journey s /v1/chat/completions miss status=200>"


async def test_a_journey_that_never_reached_a_provider_took_no_time_there(path):
    path.first.replies.append(completion())
    await path.ask(question())
    _, journey = await path.ask(question())
    journey.end(START + 2.0)
    assert (journey.outcome, journey.tier, journey.stored) == ("exact", "memory", False)
    assert (journey.seconds, journey.upstream_seconds, journey.first_byte_seconds) == (2.0, 0.0, 0.0)


@pytest.mark.parametrize(("near", "far", "taken"), [(True, False, ("memory",)), (False, True, ("disk",))])
async def test_only_the_tiers_that_took_an_answer_are_said_to_hold_it(path, near, far, taken):
    path.near.takes, path.far.takes = near, far
    path.first.replies.append(completion())
    _, journey = await path.ask(question())
    assert journey.kept == Store(HOUR, taken)
    journey.end(path.clock())
    assert journey.stored
    assert (path.near.puts, path.far.puts) == (1, 1)


@pytest.mark.parametrize("far", [True, False])
async def test_an_answer_that_no_tier_took_is_not_said_to_be_stored(make_path, far):
    path = make_path(far=far)
    path.near.takes = path.far.takes = False
    path.first.replies.append(completion())
    _, journey = await path.ask(question())
    assert journey.kept == NotStorable("not-taken")
    journey.end(path.clock())
    assert not journey.stored
    assert (path.near.puts, path.far.puts) == (1, int(far))


@pytest.mark.parametrize(("sent", "by_header", "wished"), [(0.8, None, 0.8), (0.8, 0.9, 0.8), (0.0, 0.9, 0.0), (None, 0.9, 0.9)])
async def test_the_threshold_of_a_body_stands_above_a_header_s(make_path, sent, by_header, wished):
    """Also where the plan is remembered, and without another word of the wish being lost."""

    def decode(raw: bytes) -> ChatRequest:
        return msgspec.structs.replace(read_request(raw, max_depth=64), similarity_threshold=sent)

    path = make_path(decode=decode)
    path.first.replies.append(completion())
    for _ in range(3):
        journey = path.journey(similarity_threshold=by_header, tags=("a",))
        await path.ask(question(), journey)
        assert journey.wish == Wish(similarity_threshold=wished, tags=("a",))
    assert path.calls == 1


# --- memory alone, asked once more ---


async def test_memory_is_asked_once_more_while_nothing_has_changed(path):
    path.first.replies.append(completion())
    reply, _ = await path.ask(question())
    plan = reply.plan
    assert path.pipeline.look_again(plan.key, plan.generation, Wish()).entry.key == plan.key
    assert path.pipeline.look_again("another", plan.generation, Wish()) is None
    path.pipeline.admission.resize(Capacity(0, 0, 0.0))
    assert path.pipeline.look_again(plan.key, plan.generation, Wish()) is None
    path.pipeline.admission.resize(Capacity(8, 0, 0.0))
    path.pipeline._planner.forget()  # noqa: SLF001 - as the wiring does, when the configuration has changed
    assert path.pipeline.look_again(plan.key, plan.generation, Wish()) is None


async def test_what_a_header_switches_on_is_an_answer_of_its_own(make_path):
    path = make_path(decode=partial(read_messages, max_depth=64))
    path.first.replies += [completion(), completion()]
    body = {"model": "first/m", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
    outcomes = []
    for betas in ("", "long", "", "long"):
        journey = path.journey()
        journey.betas = betas
        await path.ask(body, journey)
        outcomes.append(journey.outcome)
    assert outcomes == ["miss", "miss", "exact", "exact"]


# --- a request that is followed elsewhere ---


class Traced:
    """A trace that notes what it is told."""

    trace_id, span_id, sampled = "t" * 32, "s" * 16, True

    def __init__(self) -> None:
        self.told: list[object] = []
        self.looked = True

    def calling(self, target, number):
        self.told.append((target, number))
        return f"00-{target}-{number}"

    def heard(self, attempt, batches):
        self.told.append("heard")
        return batches

    def asks_no_tier(self):
        self.looked = False

    async def lookup(self, asking):
        self.told.append("lookup")
        return await asking


@pytest.mark.parametrize("read", [True, False])
async def test_a_trace_follows_the_request_to_its_provider(path, read):
    path.first.replies.append(FakeStream(*spoken("Paris.")))
    journey = path.journey(read=read)
    journey.trace = trace = Traced()
    await path.ask(question(stream=True), journey)
    assert (trace.looked, trace.told) == (read, [*(["lookup"] if read else []), ("first/m", 1), "heard"])
    assert path.first.calls[0].traceparent == "00-first/m-1"


async def test_a_live_answer_tells_what_it_has_come_to(path):
    path.first.replies.append(FakeStream(*spoken("Paris.")))
    journey, another = path.journey(), path.journey()
    reply = await path.handle(question(stream=True), journey)
    await path.read(reply, journey)
    assert reply.paid_by(another) is another
    assert (another.target, another.completion_tokens) == ("first/m", USAGE["completion_tokens"])
