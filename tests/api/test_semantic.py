"""Reworded questions, through the whole gateway and the model that is built in."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest

from tests.gateway import Answer, Gateway, chat, one_provider, running_gateway

pytestmark = pytest.mark.anyio

FRANCE = "What is the capital of France?"
REWORDED = "What's the capital of France?"


@pytest.fixture(scope="module")
async def gateway(chaos, tmp_path_factory) -> AsyncIterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    async with running_gateway(folder, config=one_provider(chaos.base_url), semantic=True) as gateway:
        yield gateway


@pytest.fixture
def namespace(request) -> dict[str, str]:
    """A cache of this test alone."""
    return {"x-cache-namespace": hashlib.sha256(request.node.name.encode()).hexdigest()}


def similarity(answer: Answer) -> float:
    return float(answer.headers["x-cache-similarity"])


async def test_same_exact_reworded(gateway, upstream, namespace):
    first = await gateway.ask(chat(FRANCE), **namespace)
    same = await gateway.ask(chat(FRANCE), **namespace)
    reworded = await gateway.ask(chat(REWORDED), **namespace)
    assert [answer.cache for answer in (first, same, reworded)] == ["miss", "exact", "semantic"]
    contents = [answer.json["choices"][0]["message"]["content"].encode() for answer in (first, same, reworded)]
    assert len(set(contents)) == 1
    assert len(upstream.calls) == 1
    assert first.tiers["sentinel-vector"] == {"fwd": "miss", "detail": "empty-scope"}
    assert similarity(reworded) == 0.987
    (hit,) = reworded.tiers.items()
    assert (hit[0], hit[1]["hit"]) == ("sentinel-vector", True)
    assert len(reworded.headers["x-cache-matched-id"]) == 32
    assert reworded.json["usage"] == first.json["usage"]
    assert len({answer.json["id"] for answer in (first, same, reworded)}) == 3


async def test_which_city_is_too_far_unless_asked_for(gateway, upstream, namespace):
    await gateway.ask(chat(FRANCE), **namespace)
    asked = chat("Which city is the capital of France?")
    closer = {**namespace, "x-similarity-threshold": "0.94"}
    refreshed = await gateway.ask(asked, **namespace, **{"cache-control": "no-store", "x-cache-explain": "true"})
    assert refreshed.tiers["sentinel-vector"] == {"fwd": "miss", "detail": "below-threshold"}
    assert "nearest question 0.94" in refreshed.headers["x-cache-explain"]
    hit = await gateway.ask(asked, **closer)
    assert (hit.cache, similarity(hit)) == ("semantic", 0.94)


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        ("What is the weather like in Paris in spring?", "What is the weather like in London in spring?"),
        ("What is 2 + 2?", "What is 2 + 3?"),
        ("Is the earth flat?", "Is the earth not flat?"),
        ("Which trains to Berlin run on Monday?", "Which trains to Berlin run on Tuesday?"),
        ("Who won the football world championship in 2019?", "Who won the football world championship in 2020?"),
        ("Should I buy shares of my employer now?", "Should I sell shares of my employer now?"),
        (FRANCE, "Quelle est la capitale de la France ?"),
        (FRANCE, "¿Cuál es la capital de Francia?"),
        (FRANCE, "프랑스의 수도는 어디인가요?"),
    ],
)
async def test_near_misses_are_no_hits_at_any_threshold(gateway, upstream, namespace, stored, asked):
    await gateway.ask(chat(stored), **namespace)
    for threshold in ("0.95", "0"):
        headers = {**namespace, "x-similarity-threshold": threshold, "cache-control": "no-store"}
        answer = await gateway.ask(chat(asked), **headers)
        assert answer.cache == "miss", answer.headers
    assert len(upstream.calls) == 3


async def test_streams_learn_and_are_answered(gateway, upstream, namespace):
    first = await gateway.ask(chat(FRANCE, stream=True), **namespace)
    again = await gateway.ask(chat(REWORDED, stream=True), **namespace)
    assert (again.cache, again.sse.text()) == ("semantic", first.sse.text())


async def test_what_is_compared_with_nothing_says_why(gateway, upstream, namespace):
    for fields, why in (({"n": 2}, "choices"), ({"logprobs": True}, "logprobs")):
        answer = await gateway.ask(chat(FRANCE, **fields), **namespace)
        assert answer.tiers["sentinel-vector"]["detail"] == f"uncacheable-{why}"
    await gateway.ask(chat(FRANCE), **namespace)
    answer = await gateway.ask(chat("capital " * 200), **namespace)
    assert answer.tiers["sentinel-vector"]["detail"] == "uncacheable-long"
    for unread in ("a b c d e f g h " * 20, "\U0001f600", "Is \U0001f600 rude?"):  # many tokens; signs without one
        answer = await gateway.ask(chat(unread), **namespace)
        assert answer.tiers["sentinel-vector"]["detail"] == "uncacheable-unread"


async def test_length_answer_exact_only(gateway, upstream, namespace):
    fields = {"max_tokens": 2}
    await gateway.ask(chat(FRANCE, **fields), **namespace)
    assert (await gateway.ask(chat(REWORDED, **fields), **namespace)).cache == "miss"


async def test_clear_takes_the_questions(gateway, upstream, namespace):
    await gateway.ask(chat(FRANCE), **namespace)
    cleared = await gateway.ask({"namespace": namespace["x-cache-namespace"]}, "/admin/cache/clear", **gateway.admin)
    assert cleared.json["cleared"] == 1
    answer = await gateway.ask(chat(REWORDED), **namespace)
    assert answer.tiers["sentinel-vector"]["detail"] == "empty-scope"


async def test_two_hundred_reworded_at_once_ask_nobody(gateway, upstream, namespace):
    await gateway.ask(chat(FRANCE), **namespace)
    answers = await asyncio.gather(*(gateway.ask(chat(REWORDED), **namespace) for _ in range(200)))
    assert {answer.cache for answer in answers} == {"semantic"}
    assert len(upstream.calls) == 1


async def test_health_names_the_model_and_metrics_the_hits(gateway, upstream, namespace):
    assert (await gateway.get("/health")).json["services"]["embeddings"] == {"status": "up"}
    before = gateway.process.metrics.totals().semantic_hits
    for text in (FRANCE, REWORDED):
        await gateway.ask(chat(text), **namespace)
    assert gateway.process.metrics.totals().semantic_hits == before + 1


async def test_a_reload_changes_the_threshold_and_switches_off_at_once(chaos, upstream, tmp_path):
    config = one_provider(chaos.base_url) + "\ncache: {semantic: %s}\n"
    by_file = {"SENTINEL_CACHE__SEMANTIC__ENABLED": None}
    async with running_gateway(tmp_path, environ=by_file, config=config % "{threshold: 0.99}") as gateway:

        async def reworded() -> Answer:
            return await gateway.ask(chat(REWORDED), **{"cache-control": "no-store"})

        await gateway.ask(chat(FRANCE))
        assert (await reworded()).tiers["sentinel-vector"]["detail"] == "below-threshold"
        for semantic, cache in (("{threshold: 0.95}", "semantic"), ("{enabled: false}", "miss"), ("{enabled: true}", "semantic")):
            reloaded = await gateway.reload(config % semantic)
            assert reloaded.json["notes"] == []
            answer = await reworded()
            assert answer.cache == cache
            assert ("sentinel-vector" in answer.tiers) == (cache == "semantic")


async def test_switching_it_on_takes_a_start_and_that_is_said(chaos, upstream, tmp_path):
    config = one_provider(chaos.base_url) + "\ncache: {semantic: {enabled: %s}}\n"
    by_file = {"SENTINEL_CACHE__SEMANTIC__ENABLED": None}
    async with running_gateway(tmp_path, environ=by_file, config=config % "false") as gateway:
        reloaded = await gateway.reload(config % "true")
        assert reloaded.json["notes"] == ["cache.semantic.enabled has changed and takes effect at the next start"]
        assert "sentinel-vector" not in (await gateway.ask(chat(FRANCE))).tiers
