"""Experiments on live traffic: who is in an arm, what is done otherwise there, and what came of it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from tests.api.test_semantic import FRANCE, REWORDED
from tests.dashboard.visitor import visiting
from tests.gateway import Gateway, chat, one_provider, running_gateway, until

pytestmark = pytest.mark.anyio

ADMIN = "/admin/experiments"
ARM = "x-sentinel-experiment"
NEARLY_NONE, NEARLY_ALL = "weight: 0.000001", "weight: 1000000"
CHEAPER = "cheaper: {models: [mock-model], arms: {usual: {}, small: {model: mock/mock-small}}}"
BY_NAMESPACE = {
    "off": "cache: false",
    "short": "ttl: 0",
    "plain": "semantic: false",
    "loose": "threshold: 0.75",
    "shadow": "shadow: true",
    "strict": "max_wrong_hit_rate: 0",
    "both": "threshold: 0.75, max_wrong_hit_rate: 0",
}
"""What one arm of a namespace's experiment does otherwise; the other one has nearly nobody."""


def config(chaos, *experiments: str) -> str:
    return one_provider(chaos.base_url) + "".join(["experiments:\n", *(f"  {one}\n" for one in experiments)])


def of_namespace(name: str, changes: str) -> str:
    return f"{name}: {{namespaces: [{name}], arms: {{usual: {{{NEARLY_NONE}}}, {name}: {{{NEARLY_ALL}, {changes}}}}}}}"


@pytest.fixture(scope="module")
async def gateway(chaos, tmp_path_factory) -> AsyncIterator[Gateway]:
    """With an experiment on a model, and one in each of some namespaces."""
    written = config(chaos, *(of_namespace(*one) for one in BY_NAMESPACE.items()), CHEAPER)
    folder = tmp_path_factory.mktemp("experiments")
    environ = {"SENTINEL_CACHE__SEMANTIC__EVIDENCE_BUDGET": "1"}
    async with running_gateway(folder, config=written, environ=environ, semantic=True) as gateway:
        yield gateway


async def in_arm(gateway, arm: str, text: str, **fields) -> str:
    """A question that is in this arm."""
    for number in range(100):
        asked = f"{text} {number}"
        answer = await gateway.ask(chat(asked, **fields), cache_control="only-if-cached")
        if answer.headers[ARM] == arm:
            return asked
    raise AssertionError(f"nobody is in {arm}")


async def results(gateway, name: str, requests: int):
    """Once there are so many requests in it; the ledger has them a second or two later."""
    for _ in range(300):
        answer = await gateway.get(f"{ADMIN}/{name}", headers=gateway.admin)
        if answer.status == 200 and sum(one["requests"] for one in answer.json["arms"]) >= requests:
            break
        await asyncio.sleep(0.1)
    assert answer.status == 200, answer.body
    return answer.json


async def test_a_question_is_in_the_same_arm_each_time_and_that_arm_s_model_answers(gateway, upstream, text):
    for arm, model in (("cheaper=small", "mock-small"), ("cheaper=usual", "mock-model")):
        asked = await in_arm(gateway, arm, text)
        first = await gateway.ask(chat(asked))
        assert upstream.calls[-1].body["model"] == model
        calls = len(upstream.calls)
        again = [await gateway.ask(chat(asked)) for _ in range(4)]  # by then the fast path would know other bytes
        assert [(one.cache, one.headers[ARM]) for one in (first, *again)] == [("miss", arm), *[("exact", arm)] * 4]
        assert len(upstream.calls) == calls
        streamed = await gateway.ask(chat(asked, stream=True))
        assert (streamed.cache, streamed.headers[ARM]) == ("exact", arm)


async def test_who_is_in_none_is_told_of_none(gateway, upstream, text):
    for model in ("mock-large", "mock/mock-small", "demo"):
        answer = await gateway.ask(chat(text, model=model))
        assert answer.status == 200
        assert ARM not in answer.headers


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages", {"messages": [{"role": "user", "content": "Hello?"}], "max_tokens": 9}),
        ("/v1/responses", {"input": "Hello?"}),
        ("/v1/completions", {"prompt": "Hello?"}),
        ("/v1/query", {"prompt": "Hello?"}),
    ],
)
async def test_every_face_has_arms(gateway, upstream, path, body):
    answer = await gateway.ask({"model": "mock-model", **body}, path)
    assert answer.status == 200, answer.body
    assert answer.headers[ARM] in {"cheaper=usual", "cheaper=small"}


async def test_embeddings_are_in_no_experiment(gateway, upstream):
    answer = await gateway.ask({"model": "mock-model", "input": "Hello?"}, "/v1/embeddings")
    assert answer.status == 200
    assert ARM not in answer.headers


async def test_an_error_says_its_arm_too(gateway, upstream, text):
    asked = await in_arm(gateway, "cheaper=small", text)
    upstream.script("err=500")
    answer = await gateway.ask(chat(asked))
    assert (answer.status, answer.headers[ARM]) == (502, "cheaper=small")


async def test_no_answer_of_an_arm_serves_anybody_else(gateway, upstream, text):
    small = await in_arm(gateway, "cheaper=small", text)
    await gateway.ask(chat(small))
    assert (await gateway.ask(chat(small, model="mock/mock-small"))).cache == "miss", "the same target, asked by name"
    usual = await in_arm(gateway, "cheaper=usual", text)
    await gateway.ask(chat(usual))
    assert (await gateway.ask(chat(usual, model="mock/mock-model"))).cache == "miss", "the same answer as ever, kept by the arm"


async def test_an_arm_without_a_cache_reads_and_keeps_nothing(gateway, upstream, text):
    asked = chat(text, model="mock-large")
    answers = [await gateway.ask(asked, x_cache_namespace="off") for _ in range(3)]
    assert [(one.cache, one.headers[ARM]) for one in answers] == [("bypass", "off=off")] * 3
    assert len(upstream.calls) == 3


async def test_an_arm_s_ttl_holds_where_the_caller_says_none(gateway, upstream, text):
    asked = chat(text, model="mock-large")
    answers = [await gateway.ask(asked, x_cache_namespace="short") for _ in range(2)]
    assert [one.cache for one in answers] == ["miss", "miss"]
    answers = [await gateway.ask(asked, x_cache_namespace="short", x_cache_ttl="60") for _ in range(2)]
    assert [one.cache for one in answers] == ["miss", "exact"]


async def test_an_arm_without_other_words_compares_nothing(gateway, upstream):
    await gateway.ask(chat(FRANCE), x_cache_namespace="plain")
    answer = await gateway.ask(chat(REWORDED), x_cache_namespace="plain")
    assert (answer.cache, answer.headers[ARM]) == ("miss", "plain=plain")
    assert "sentinel-vector" not in answer.tiers
    assert (await gateway.ask(chat(FRANCE), x_cache_namespace="plain")).cache == "exact"


async def test_an_arm_s_threshold_stands_in_place_of_the_usual_one(gateway, upstream):
    for namespace, cache in (("loose", "semantic"), ("other", "miss")):
        await gateway.ask(chat("What is 2+2?", model="mock-large"), x_cache_namespace=namespace)
        answer = await gateway.ask(chat("What is two plus two?", model="mock-large"), x_cache_namespace=namespace)
        assert answer.cache == cache, namespace
        if namespace == "other":
            assert answer.tiers["sentinel-vector"]["detail"] == "below-threshold"
    own = await gateway.ask(
        chat("Tell me: what is two plus two?", model="mock-large"), x_cache_namespace="loose", x_similarity_threshold="0.99"
    )
    assert own.cache == "miss", "the caller's word stands above the arm's"


@pytest.mark.parametrize("namespace", ["strict", "both"])
async def test_an_arm_s_error_budget_of_none_serves_nothing_in_other_words(gateway, upstream, namespace):
    await gateway.ask(chat(FRANCE, model="mock-large"), x_cache_namespace=namespace)
    answer = await gateway.ask(chat(REWORDED, model="mock-large"), x_cache_namespace=namespace, x_cache_explain="true")
    assert (answer.cache, answer.tiers["sentinel-vector"]["detail"]) == ("miss", "below-threshold")
    assert "budget 0 of experiment" in answer.headers["x-cache-explain"]


async def test_a_shadow_arm_compares_and_serves_nothing_and_its_wrong_hits_are_estimated(gateway, upstream):
    calls = len(upstream.calls)
    await gateway.ask(chat(FRANCE, model="mock-large"), x_cache_namespace="shadow")
    answer = await gateway.ask(chat(REWORDED, model="mock-large"), x_cache_namespace="shadow")
    assert (answer.cache, answer.tiers["sentinel-vector"]["detail"]) == ("miss", "explored")
    assert len(upstream.calls) == calls + 2
    await until(lambda: sum(gateway.process.evidence.compared.values()))
    said = {"sentinel_id": answer.headers["x-sentinel-id"], "correct": False}
    assert (await gateway.request("POST", "/admin/semantic/labels", json=said, headers=gateway.admin)).status == 200
    arm = next(one for one in (await results(gateway, "shadow", 2))["arms"] if one["arm"] == "shadow")
    assert arm["wrong_hits"]["observations"] == 1
    assert arm["wrong_hits"]["rate"] == 1.0
    assert arm["outcomes"] == {"miss": 2}
    async with visiting(gateway) as visitor:
        await visitor.sign_in()
        page = await visitor.look("/dashboard/semantic")
    wrong = arm["wrong_hits"]
    assert f"{wrong['rate']:.1%} {wrong['low']:.1%} to {wrong['high']:.1%}" in page.words


async def test_results_are_those_of_the_requests(gateway, upstream, text):
    before = {one["arm"]: one for one in (await results(gateway, "cheaper", 0))["arms"]}
    asked = {arm: await in_arm(gateway, f"cheaper={arm}", text) for arm in ("usual", "small")}
    answers = [(arm, await gateway.ask(chat(question))) for arm, question in asked.items() for _ in range(3)]
    upstream.script("err=500")
    failed = await gateway.ask(chat(await in_arm(gateway, "cheaper=small", f"{text} fails")))
    assert failed.status == 502
    told = await results(gateway, "cheaper", sum(one["requests"] for one in before.values()) + 7)
    assert (told["running"], told["by"], told["share"]) == (True, "conversation", 1.0)
    assert told["about"] == {"models": ["mock-model"]}
    assert told["changes"] == {"usual": {"weight": 1.0}, "small": {"weight": 1.0, "model": "mock/mock-small"}}
    assert [one["arm"] for one in told["arms"]] == ["usual", "small"]
    for arm in told["arms"]:
        hits, misses = (Counter(arm["outcomes"])[one] - Counter(before[arm["arm"]]["outcomes"])[one] for one in ("exact", "miss"))
        assert hits == 2
        assert misses >= 1
        saved = sum(float(answer.headers.get("x-sentinel-saved-usd", 0)) for name, answer in answers if name == arm["arm"])
        assert arm["saved"] - before[arm["arm"]]["saved"] == pytest.approx(saved)
        assert arm["cost"] > before[arm["arm"]]["cost"]
        assert 0 < arm["hit_rate"]["low"] < arm["hit_rate"]["value"] < arm["hit_rate"]["high"] < 1
        assert 0 < arm["latency_p50_ms"]["value"] <= arm["latency_p95_ms"]["value"]
    assert told["arms"][1]["error_rate"]["value"] > 0
    assert told["verdict"].startswith("Too early to say")
    assert told["compared"] == []


async def test_all_of_them_are_listed_in_their_order(gateway):
    told = (await gateway.get(ADMIN, headers=gateway.admin)).json
    assert [one["name"] for one in told["experiments"]] == [*BY_NAMESPACE, "cheaper"]
    assert all(one["running"] for one in told["experiments"])


async def test_one_that_there_is_not(gateway):
    answer = await gateway.get(f"{ADMIN}/nothing", headers=gateway.admin)
    assert answer.status == 404
    assert "There is no experiment 'nothing'. Known: off, short" in answer.json["detail"]


@pytest.mark.parametrize("path", [ADMIN, f"{ADMIN}/cheaper"])
async def test_they_are_the_operator_s(gateway, path):
    assert (await gateway.get(path)).status == 401


async def test_a_key_that_it_is_about_and_one_that_it_is_not_send_the_same_bytes(chaos, upstream, tmp_path, text):
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url)) as gateway:
        made = [
            await gateway.request("POST", "/admin/keys", json={"name": "k", "tenant": "t"}, headers=gateway.admin) for _ in "ab"
        ]
        (chosen, other) = [one.json["key"] for one in made]
        arms = "usual: {model: mock/mock-small}, same: {model: mock/mock-small}"
        about = f"one: {{keys: [{made[0].json['id']}], by: key, arms: {{{arms}}}}}"
        assert (await gateway.reload(config(chaos, about))).status == 200
        told = []
        for key in (*[chosen] * 4, *[other] * 4, chosen):  # bytes that hit again are remembered
            answer = await gateway.ask(chat(text), authorization=f"Bearer {key}")
            told.append((answer.cache, ARM in answer.headers, answer.json["model"]))
        inside, outside = (True, "mock-small"), (False, "mock-model")
        hits = [("exact", *inside)] * 3, [("exact", *outside)] * 3
        assert told == [("miss", *inside), *hits[0], ("miss", *outside), *hits[1], hits[0][0]]


async def test_it_is_stopped_and_goes_on_by_a_reload(chaos, upstream, tmp_path, text):
    async with running_gateway(tmp_path, config=config(chaos, CHEAPER)) as gateway:
        asked = await in_arm(gateway, "cheaper=small", text)
        await gateway.ask(chat(asked))
        stopped = CHEAPER.replace("models:", "enabled: false, models:")
        assert (await gateway.reload(config(chaos, stopped))).status == 200
        over = [await gateway.ask(chat(asked)) for _ in range(4)]
        assert [one.cache for one in over] == ["miss", "exact", "exact", "exact"], "what an arm has kept serves nobody else"
        assert upstream.calls[-1].body["model"] == "mock-model"
        assert not any(ARM in one.headers for one in over)
        told = await results(gateway, "cheaper", 1)
        assert (told["running"], told["by"], told["changes"]) == (False, None, {})
        assert (await gateway.reload(config(chaos, CHEAPER))).status == 200
        again = await gateway.ask(chat(asked))
        assert (again.cache, again.headers[ARM]) == ("exact", "cheaper=small"), "the same arm, with what it had kept"


async def test_without_a_ledger_nobody_knows_what_came_of_it(chaos, upstream, tmp_path, text):
    environ = {"SENTINEL_LEDGER__ENABLED": "false"}
    async with running_gateway(tmp_path, config=config(chaos, CHEAPER), environ=environ) as gateway:
        assert ARM in (await gateway.ask(chat(text))).headers
        answer = await gateway.get(ADMIN, headers=gateway.admin)
        assert (answer.status, answer.json["code"]) == (503, "history_unavailable")
