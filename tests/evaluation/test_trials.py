"""Over labelled questions each rule does what it does elsewhere: the figures are counted by hand, or by the harness itself."""

import numpy as np
import pytest

from sentinel_gateway.evaluation.corpus import Corpus, ranked
from sentinel_gateway.evaluation.curve import NEVER
from sentinel_gateway.evaluation.labelled import Pair, Query
from sentinel_gateway.evaluation.measured import RATES, Latency, Share, Trial, rule
from sentinel_gateway.evaluation.offline import HandClock, open_model, open_offline
from sentinel_gateway.evaluation.policies import Fixed, Guards
from sentinel_gateway.evaluation.replay import Request, replay
from sentinel_gateway.evaluation.trials import try_pairs, try_stream
from sentinel_gateway.settings.cache import Cache, DiskTier, MemoryTier, Semantic
from sentinel_gateway.settings.model import Redis, Settings

PAIRS = [
    Pair("What is the capital of France?", "What's the capital of France?", True, "wording"),
    Pair("What is the capital of France?", "Which city is the capital of France?", True, "wording"),
    Pair("What is 2+2?", "What is 2+3?", False, "number"),
    Pair("Is it legal to record a call?", "Is it not legal to record a call?", False, "negation"),
    Pair("Where is my order?", "Where is my order now?", False, ""),
]


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
async def embedder(anyio_backend):
    """Loaded once."""
    async with open_model() as model:
        yield model


def silent(what: str, share: float) -> None:
    assert 0 <= share <= 1
    assert what


@pytest.mark.anyio
async def test_pairs_are_decided_by_the_gateways_own_rule(embedder):
    settings = Settings(cache=Cache(semantic=Semantic(threshold=0.9)))
    async with open_offline(settings, embedder) as offline:
        outcome = await try_pairs(PAIRS, offline, [0.9], silent)
    ours, cosine = outcome.rules
    assert (ours.name, ours.setting) == ("Sentinel", "similarity 0.9, guards")
    assert (ours.at_setting.trials, ours.at_setting.hits, ours.at_setting.wrong_hits) == (5, 2, 0)
    assert ours.auc == 1.0, "what guards stop, and what is bound, scores below all else"
    assert len(ours.curve) == 2
    assert (cosine.name, cosine.at_setting.hits, cosine.at_setting.wrong_hits) == ("cosine 0.9", 4, 2)
    assert cosine.auc < 1.0
    assert [(each.category, each.may_serve, each.at_setting.hits) for each in cosine.categories] == [
        ("negation", 0, 1),
        ("number", 0, 0),
        ("wording", 2, 2),
    ]
    assert [step.step for step in outcome.latency] == ["embed both questions", "guards and decision"]
    assert all(0 < step.p50_ms <= step.p95_ms <= step.p99_ms for step in outcome.latency)


QUERIES = [
    Query("How do I reset my password?", "password", "a"),
    Query("What is the capital of France?", "france", "b"),
    Query("How can I reset my password?", "password", "a"),
    Query("What is the capital of Spain?", "spain", "b"),
    Query("What's the capital of France?", "france", "b"),
    Query("How do I reset my password?", "password", "a"),
    Query("Sing me a song", None, "b"),
]


@pytest.mark.anyio
async def test_a_stream_does_what_the_harness_says(embedder):
    async with open_offline(Settings(), embedder) as offline:
        outcome = await try_stream(QUERIES, offline, [0.6], silent)
        texts = list(dict.fromkeys(query.text for query in QUERIES))
        vectors = np.array(await offline.embedder.embed(texts))
    corpus = Corpus(texts, vectors, ranked(vectors))
    stream = [Request(corpus.number[query.text], query.answer) for query in QUERIES]
    ours, learned, cosine = outcome.rules
    for found, policy in ((ours, Fixed(0.95, guards=Guards(texts))), (cosine, Fixed(0.6))):
        tally = replay(corpus, stream, policy, seed=0)
        share = found.at_setting
        assert (share.trials, share.hits, share.wrong_hits) == (tally.requests, tally.hits, tally.wrong)
        assert outcome.exact == tally.exact == 1
    assert (ours.at_setting.hits, ours.at_setting.wrong_hits, cosine.at_setting.wrong_hits) == (2, 0, 1)
    assert [(each.category, each.may_serve, each.at_setting.hits) for each in ours.categories] == [("a", 1, 1), ("b", 1, 1)]
    assert [share.wrong_hit_rate for share in learned.at_rates] == list(RATES)
    assert all(share.threshold is None for share in learned.at_rates), "it finds its own"
    assert ours.auc == 1.0


@pytest.mark.anyio
async def test_a_stream_of_one_question_has_nothing_to_measure(embedder):
    async with open_offline(Settings(), embedder) as offline:
        outcome = await try_stream(QUERIES[:1], offline, [0.9], silent)
    assert [(found.at_setting.trials, found.auc, found.curve) for found in outcome.rules] == [(0, None, [])] * 3


@pytest.mark.anyio
async def test_questions_that_the_gateway_compares_with_no_other_are_in_no_rate(embedder):
    queries = [
        Query("What is the weather in Oslo today?", "oslo", ""),
        Query("What's the weather in Oslo today?", "oslo", ""),
        Query("Where is my order?", "order", ""),
        Query("pay " * 300, "pay", ""),
        Query("어떻게 지불합니까", "pay", ""),
        *QUERIES,
    ]
    async with open_offline(Settings(), embedder) as offline:
        outcome = await try_stream(queries, offline, [0.6], silent)
        same = await try_stream(QUERIES, offline, [0.6], silent)
    assert (outcome.alone, same.alone) == (5, 0)
    assert [found.at_setting for found in outcome.rules] == [found.at_setting for found in same.rules]


@pytest.mark.anyio
async def test_two_questions_that_nobody_else_can_answer_have_not_the_same_answer(embedder):
    queries = [Query("What is 2+2?", None, "sums"), Query("What is 2+3?", None, "sums")]
    async with open_offline(Settings(), embedder) as offline:
        outcome = await try_stream(queries, offline, [], silent)
    assert [found.categories[0].may_serve for found in outcome.rules] == [0, 0]


def test_what_a_rule_is_told_to_have_done_is_counted():
    trials = [
        Trial("x", 0.9, True, True),
        Trial("x", 0.8, False, True),
        Trial("", NEVER, True, False),
        Trial("y", 0.2, False, False),
    ]
    found = rule("r", "s", trials)
    assert found.at_setting == Share(4, 2, 1, 0.5, 0.25, 0.5)
    assert [(point.threshold, point.hit_rate) for point in found.curve] == [(0.9, 0.25), (0.8, 0.5), (0.2, 0.75)]
    assert [(share.hit_rate, share.threshold) for share in found.at_rates] == [(0.25, 0.9)] * 4
    assert [(each.category, each.at_setting.trials) for each in found.categories] == [("x", 2), ("y", 1)]
    wrong_first = rule("r", "s", trials, ranked=[Trial("", 0.9, False, False)])
    assert (wrong_first.auc, wrong_first.at_setting) == (None, found.at_setting)
    assert [(share.hit_rate, share.threshold) for share in wrong_first.at_rates] == [(0.0, None)] * 4
    assert Latency.of("s", [0.001 * number for number in range(1, 101)]) == Latency("s", 50.0, 95.0, 99.0)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("settings", "seconds"),
    [
        (Settings(cache=Cache(disk=DiskTier(enabled=False), memory=MemoryTier(ttl=60))), 60.0),
        (Settings(), 365 * 86_400.0),
        (Settings(redis=Redis(host="nowhere")), 365 * 86_400.0),
    ],
)
async def test_offline_answers_live_as_long_as_the_tiers_that_are_set_would_keep_them(settings, seconds, embedder):
    async with open_offline(settings, embedder) as offline:
        assert offline.tiers.near_ttl == seconds


def test_the_clock_never_goes_back():
    clock = HandClock()
    clock.move(5.0)
    clock.move(3.0)
    assert clock() == 5.0
