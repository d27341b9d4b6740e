"""A log goes down the gateway's own path: what it says of a request is what the gateway would have done with it."""

import msgspec
import pytest

from sentinel_gateway import rules
from sentinel_gateway.core.chat import Answer, read_answer
from sentinel_gateway.core.tokens import TokenCount
from sentinel_gateway.evaluation.offline import Offline, open_model, open_offline
from sentinel_gateway.evaluation.rehearsal import Rehearsal
from sentinel_gateway.evaluation.rows import Bad
from sentinel_gateway.evaluation.stand_ins import COMPLETION_TOKENS, Routes, Usages
from sentinel_gateway.evaluation.traffic import Logged
from sentinel_gateway.providers.prices import PriceBook
from sentinel_gateway.settings.cache import Bound, Cache, Semantic
from sentinel_gateway.settings.model import ModelSettings, ProviderSettings, Settings

USAGE = {"prompt_tokens": 14, "completion_tokens": 7, "total_tokens": 21}
START = 1_772_359_200.0
FRANCE, REWORDED = "What is the capital of France?", "What's the capital of France?"


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
async def embedder(anyio_backend):
    """Loaded once."""
    async with open_model() as model:
        yield model


def answer_of(said: str) -> Answer:
    message = {"role": "assistant", "content": said}
    return read_answer({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": USAGE})


def logged(text=FRANCE, /, *, line=1, at=None, said="Paris.", failed=False, seconds=None, tenant="", **fields) -> Logged:
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}], **fields}
    return Logged(line, body, at, None if said is None or failed else answer_of(said), failed, seconds, tenant)


class Words:
    """A `TokenCounter` that takes every word for a token."""

    async def count(self, texts, *, encoding):
        return TokenCount(sum(len(text.split()) for text in texts), exact=True)

    async def close(self):
        pass


async def rehearsal_of(offline: Offline) -> Rehearsal:
    prices = PriceBook(lambda: START, lambda *_, **__: None)
    await prices.use(rules.price_rules(offline.settings))
    return Rehearsal(offline, await Routes.of(offline.settings, prices), Usages(Words(), media_tokens=1445))


@pytest.fixture
def take(embedder):
    """What becomes of each request."""

    async def take_all(*requests: Logged, settings: Settings | None = None):
        async with open_offline(settings or Settings(), embedder) as offline:
            rehearsal = await rehearsal_of(offline)
            return [await rehearsal.take(request) for request in requests]

    return take_all


@pytest.mark.anyio
async def test_the_very_same_hits_and_so_does_another_wording(take):
    first, again, reworded, other = await take(
        logged(at=START), logged(line=2, at=START + 5), logged(REWORDED, line=3), logged("Sing me a song", line=4)
    )
    assert (first.outcome, first.reason, first.decided) == ("miss", "empty-scope", False)
    assert (again.outcome, again.since, again.match) == ("exact", 5.0, None)
    assert (reworded.outcome, reworded.decided, reworded.target) == ("semantic", True, "openai/gpt-4o-mini")
    match = reworded.match
    assert (match.asked, match.stored, match.line, match.stored_line) == (REWORDED, FRANCE, 3, 1)
    assert (match.served, match.agree) == (True, True)
    assert 0.98 < match.similarity < 0.99
    assert (other.outcome, other.reason, other.match) == ("miss", "below-threshold", None)


@pytest.mark.anyio
async def test_a_stream_and_a_whole_answer_are_the_same_question(take):
    streamed = logged(stream=True, stream_options={"include_usage": True})
    assert [step.outcome for step in await take(streamed, logged(), streamed)] == ["miss", "exact", "exact"]


@pytest.mark.anyio
async def test_answers_expire_by_the_clock_of_the_log(take):
    hour = 3600
    requests = [
        logged(at=START),
        logged(at=START + hour - 1),
        logged(at=START + hour + 1),
        logged(REWORDED, at=START + 3 * hour),
        logged(at=START),
    ]
    first, within, after, reworded, backwards = await take(*requests)
    assert (first.stale, within.outcome, after.outcome, after.stale) == (False, "exact", "miss", True)
    assert reworded.outcome == "miss", "what expired serves no other wording either"
    assert backwards.since == 2 * hour - 1, "time never goes back"


@pytest.mark.anyio
async def test_tenants_conversations_and_system_prompts_share_nothing(take):
    system = [{"role": "system", "content": "Answer in Latin."}, {"role": "user", "content": FRANCE}]
    found = await take(
        logged(tenant="a"), logged(tenant="b"), logged(REWORDED, tenant="b"), logged(messages=system), logged(REWORDED)
    )
    assert [step.outcome for step in found] == ["miss", "miss", "semantic", "miss", "miss"]


@pytest.mark.anyio
async def test_bound_questions_guards_and_settings_hold_as_in_the_gateway(take):
    weather = "What is the weather in Oslo today?"
    found = await take(
        logged(weather, at=START),
        logged(weather, at=START + 299),
        logged(weather, at=START + 301),
        logged("What is 2+2?"),
        logged("What is 2+3?"),
    )
    assert [step.outcome for step in found] == ["miss", "exact", "miss", "miss", "miss"]
    assert (found[0].bound, found[0].reason, found[2].stale) == ("time-bound", "uncacheable-time-bound", True)
    assert (found[4].reason, found[4].match) == ("below-threshold", None), "a guard speaks against it as well: no match"
    usual = Settings(cache=Cache(bound=Bound(time="usual")))
    (_, again) = await take(logged(weather, at=START), logged(weather, at=START + 301), settings=usual)
    assert (again.outcome, again.bound) == ("exact", "")
    off = Settings(cache=Cache(semantic=Semantic(enabled=False)))
    assert [step.outcome for step in await take(logged(), logged(REWORDED), settings=off)] == ["miss", "miss"]


@pytest.mark.anyio
async def test_what_is_nearly_a_hit_is_a_match_and_answers_are_compared(take):
    near = "Which city is the capital of France?"
    _, same = await take(logged(said="Paris."), logged(near, line=2, said="Paris."))
    assert (same.outcome, same.match.served, same.match.agree, same.match.stored_line) == ("miss", False, True, 1)
    _, differs = await take(logged(said="Yes, it is."), logged(near, said="No, it isn't."))
    assert differs.match.agree is False
    said = "Bananas grow on tall plants."
    for first, second in ((None, said), (said, None)):
        _, unknown = await take(logged(said=first), logged(near, said=second))
        assert unknown.match.agree is None, "there are no two answers"


@pytest.mark.anyio
async def test_failures_are_not_kept_and_cost_nothing(take):
    failed, after = await take(logged(failed=True), logged())
    assert (failed.outcome, failed.usage.total_tokens) == ("miss", 0)
    assert after.outcome == "miss"


@pytest.mark.anyio
async def test_what_the_gateway_would_refuse_is_a_bad_line(take):
    found = await take(logged(line=7, messages=[]), logged(line=8, n="many"), logged(line=9, model="x" * 300))
    assert all(isinstance(each, Bad) for each in found)
    assert [each.line for each in found] == [7, 8, 9]
    assert found[0].fault == "would be refused: 'messages' is empty: send at least one message."


@pytest.mark.anyio
async def test_what_no_target_can_do_is_a_bad_line(take):
    settings = Settings(models={"plain": ModelSettings(targets=({"target": "local/qwen3", "tools": False},))})
    tools = [{"type": "function", "function": {"name": "look_up"}}]
    refused, taken = await take(logged(line=4, model="plain", tools=tools), logged(model="plain"), settings=settings)
    assert refused == Bad(4, "would be refused: No target of 'plain' takes tools: use another model.")
    assert taken.outcome == "miss"


@pytest.mark.anyio
async def test_tokens_that_the_log_does_not_tell_are_estimated(take):
    told = msgspec.structs.replace(answer_of("Amazon and nine more."), usage=None)
    silent, answered, likely, limited = await take(
        logged(said=None),
        msgspec.structs.replace(logged("Name ten rivers"), answer=told),
        logged("Name two lakes", said=None),
        logged("Name a sea", said=None, max_tokens=1, n=3),
    )
    assert silent.usage.completion_tokens == COMPLETION_TOKENS, "no other answer is known"
    assert silent.usage.prompt_tokens == 6 + 1 + 6, "words of the question, that of the role, and what every request costs"
    assert answered.usage.completion_tokens == 4, "counted"
    assert likely.usage.completion_tokens == answered.usage.completion_tokens, "as long as the others"
    assert limited.usage.completion_tokens == 3, "as long as it may be, for each choice"


@pytest.mark.anyio
async def test_models_go_the_way_that_is_configured_or_to_whoever_prices_them(take):
    settings = Settings(
        models={
            "fast": ModelSettings(targets=("local/qwen3",)),
            "thrifty": ModelSettings(targets=("openai/gpt-4", "openai/gpt-4o-mini"), strategy="cheapest"),
        },
        providers={
            "local": ProviderSettings(dialect="openai", base_url="http://127.0.0.1:9/v1", models=("qwen3",)),
            "other": ProviderSettings(dialect="openai", base_url="http://127.0.0.1:9/v1", models=("llama",)),
        },
    )
    names = ["fast", "thrifty", "llama", "demo", "gpt-4o-mini", "groq/llama-3.3-70b-versatile", "nobodys"]
    found = await take(*(logged(model=name) for name in names), settings=settings)
    assert [step.target for step in found] == [
        "local/qwen3",
        "openai/gpt-4o-mini",
        "other/llama",
        "demo/demo",
        "openai/gpt-4o-mini",
        "groq/llama-3.3-70b-versatile",
        "unknown/nobodys",
    ]


@pytest.mark.anyio
async def test_texts_that_are_compared_with_no_other_are_not_kept(embedder):
    async with open_offline(Settings(), embedder) as offline:
        rehearsal = await rehearsal_of(offline)
        for text in (FRANCE, REWORDED, "What is the weather in Oslo today?", "Read this. " * 200):
            await rehearsal.take(logged(text))
        assert repr(rehearsal) == "<Rehearsal of 4 different requests, of which 1 may be matched>"
