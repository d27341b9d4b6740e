"""How sure it is, and whose budget that keeps, through the whole gateway and the model that is built in."""

import re
import threading

import pytest

from sentinel_gateway.core.confidence.curve import Point
from sentinel_gateway.core.confidence.learner import Fit, Prior, State
from sentinel_gateway.core.confidence.rarity import Counts, Rarity
from sentinel_gateway.core.evidence import realm_id
from sentinel_gateway.core.matching import first_fit
from sentinel_gateway.pipeline import semantic
from sentinel_gateway.pipeline.learned import written
from sentinel_gateway.stores.learners import words_key
from tests.gateway import chat, one_provider, running_gateway, until

pytestmark = pytest.mark.anyio

FRANCE = "What is the capital of France?"
CITY = "Which city is the capital of France?"
EXPLAIN = {"x-cache-explain": "true"}
CONFIG = """
models: {strict: {targets: mock/mock-model, max_wrong_hit_rate: 0.004}}
cache: {namespaces: {careful: {max_wrong_hit_rate: 0.002}, closed: {max_wrong_hit_rate: 0}}, semantic: {exploration: 0}}
"""
SURE = Fit((2.0, *Prior().weights[1:]), (Point(0.7, 0.001, 0.002), Point(0.5, 0.02, 0.03)), 1_000)
"""What is less sure than 0.7 would break the budget."""


@pytest.fixture
async def gateway(chaos, upstream, tmp_path):
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url) + CONFIG, semantic=True) as gateway:
        yield gateway


async def learned(gateway, realm: str) -> None:
    """From now on it knows that, as after a restart."""
    process = gateway.process
    state = written(State(SURE, (), {}, {}, {}, Counts()))
    await process.evidence.calibration._store.keep(realm, state, process.clock(), 0)  # noqa: SLF001 - nobody else has it
    await process.evidence.calibration.open()


async def test_what_was_learned_decides_and_is_told_everywhere(gateway):
    assert (await gateway.ask(chat(FRANCE))).cache == "miss"
    await learned(gateway, "\n")
    hit = await gateway.ask(chat(CITY), **EXPLAIN)
    assert hit.cache == "semantic"
    similarity, confidence = (float(hit.headers[f"x-cache-{name}"]) for name in ("similarity", "confidence"))
    assert (similarity, confidence) == (pytest.approx(0.940, abs=2e-3), pytest.approx(0.9, abs=0.1))
    assert confidence != similarity
    assert "; threshold 0.700 of probability; budget 0.01 of deployment; near " in hit.headers["x-cache-explain"]
    asked = {"a": FRANCE, "b": CITY}
    told = (await gateway.request("POST", "/admin/cache/explain", headers=gateway.admin, json=asked)).json
    assert (told["serves"], told["confidence_is"], told["threshold"]) == (True, "probability", 0.7)
    shown = (await gateway.get("/admin/semantic", headers=gateway.admin)).json
    assert shown["namespaces"] == [
        {
            "id": realm_id("\n"),
            "tenant": "",
            "namespace": "",
            "labels": 1_000,
            "decided_by": "confidence",
            "threshold": 0.7,
            "serves": True,
        }
    ]
    assert shown["since_start"]["served"] == {"hits": 1, "mean_confidence": pytest.approx(confidence, abs=1e-3)}
    metrics = (await gateway.get("/metrics")).body.decode()
    assert f'sentinel_semantic_confidence_threshold{{namespace="{realm_id(chr(10))}"}} 0.7' in metrics
    assert f'sentinel_semantic_learned_labels{{namespace="{realm_id(chr(10))}"}} 1000.0' in metrics
    assert "sentinel_semantic_confidence_count 1.0" in metrics


async def test_the_strictest_budget_holds_and_is_named(gateway):
    key = await gateway.key(tenant="acme", max_wrong_hit_rate=0.003)
    other = await gateway.key(tenant="acme")
    await learned(gateway, "acme\ncareful")
    for model, namespace, bearer, budget in (
        ("mock-model", "a", other, "0.01 of deployment"),
        ("strict", "b", other, "0.004 of model"),
        ("strict", "c", key, "0.003 of key"),
        ("strict", "careful", key, "0.002 of namespace"),
    ):
        headers = EXPLAIN | {"authorization": f"Bearer {bearer}", "x-cache-namespace": namespace}
        await gateway.ask(chat(FRANCE, model=model), **headers)
        told = (await gateway.ask(chat(CITY, model=model), **headers)).headers["x-cache-explain"]
        assert f"; budget {budget}; " in told
    asked = {"a": FRANCE, "b": CITY, "tenant": "acme", "namespace": "careful", "model": "strict"}
    told = (await gateway.request("POST", "/admin/cache/explain", headers=gateway.admin, json=asked)).json
    assert (told["max_wrong_hit_rate"], told["confidence_is"]) == ({"rate": 0.002, "of": "namespace"}, "probability")


async def test_what_a_budget_of_nothing_has_closed_no_header_reopens(gateway):
    found = {}
    for namespace in ("open", "closed"):
        wish = EXPLAIN | {"x-cache-namespace": namespace, "x-similarity-threshold": "0.7"}
        await gateway.ask(chat(FRANCE), **wish)
        found[namespace] = await gateway.ask(chat(CITY), **wish)
    assert {namespace: answer.cache for namespace, answer in found.items()} == {"open": "semantic", "closed": "miss"}
    told = found["closed"].headers
    assert 'sentinel-vector;fwd=miss;detail="below-threshold"' in told["cache-status"]
    assert "; threshold out of reach of probability; budget 0 of namespace; near " in told["x-cache-explain"]
    path = f"/api/monitoring/requests/{told['x-sentinel-id']}/decision"
    bar = (await gateway.get(path, headers=gateway.admin)).json["bar"]
    assert (bar["threshold"], bar["least_similarity"], bar["max_wrong_hit_rate"]) == (None, None, 0.0)


async def test_an_administrator_of_a_tenant_asks_within_its_own(gateway):
    key = await gateway.key(tenant="acme", scopes=["admin"])
    await learned(gateway, "acme\n")
    headers = {"authorization": f"Bearer {key}"}
    for tenant, status in ((None, 200), ("acme", 200), ("other", 400)):
        asked = {"a": FRANCE, "b": CITY} | ({} if tenant is None else {"tenant": tenant})
        answer = await gateway.request("POST", "/admin/cache/explain", headers=headers, json=asked)
        assert answer.status == status
        assert status == 400 or answer.json["confidence_is"] == "probability"


async def test_a_threshold_that_nothing_reaches_is_told_as_none(gateway):
    calibration = gateway.process.evidence.calibration
    await learned(gateway, "\n")
    calibration._ward("\n").calibrator.adopt(Fit(Prior().weights, (), 1_000))  # noqa: SLF001 - nothing proves it
    asked = {"a": FRANCE, "b": CITY}
    told = (await gateway.request("POST", "/admin/cache/explain", headers=gateway.admin, json=asked)).json
    assert (told["serves"], told["threshold"], told["reason"]) == (False, None, "below-threshold")
    (shown,) = (await gateway.get("/admin/semantic", headers=gateway.admin)).json["namespaces"]
    assert (shown["threshold"], shown["serves"]) == (None, False)
    assert 'threshold{namespace="' + realm_id("\n") + '"} +Inf' in (await gateway.get("/metrics")).body.decode()


async def test_a_miss_teaches_beside_the_path(gateway):
    await gateway.ask(chat(FRANCE))
    await gateway.ask(chat("Please tell me which city is the capital of the country of France"))
    calibration = gateway.process.evidence.calibration
    await until(lambda: any(re.match(r"<Learner of [1-9]", repr(ward.learner)) for _, ward in calibration._wards))  # noqa: SLF001


async def test_questions_are_held_against_each_other_on_a_thread_of_their_own(gateway, monkeypatch):
    threads = []

    def recorded(*args, **kwargs):
        threads.append(threading.current_thread().name)
        return first_fit(*args, **kwargs)

    monkeypatch.setattr(semantic, "first_fit", recorded)
    await gateway.ask(chat(FRANCE))
    assert (await gateway.ask(chat("What's the capital of France?"))).cache == "semantic"
    assert [name.rpartition("_")[0] for name in threads] == ["sentinel-matching"]
    await gateway.ask(chat("How do I reset my password?"))
    assert threads[1:] == [threading.current_thread().name], "where none is near enough there is nothing to hold against"


async def test_words_are_counted_under_a_key_of_the_gateways_secret(gateway):
    process = gateway.process
    rarity = process.evidence.calibration.rarity("\n")
    rarity.count(["merger"])
    ours = Rarity(key=words_key(process.stores.state.secret))
    ours.count(["merger"])
    assert rarity.counts() == ours.counts()


async def test_budgets_of_models_and_namespaces_are_shown_with_what_was_asked_under_them(gateway):
    careful = {"x-cache-namespace": "careful"}
    for text in (FRANCE, "What's the capital of France?"):
        await gateway.ask(chat(text, model="strict"), **careful)
        await gateway.ask(chat(text))
    told = (await gateway.get("/admin/semantic", headers=gateway.admin)).json
    shown = {budget["scope"]: (budget["max_wrong_hit_rate"], budget["reached"], budget["hits"]) for budget in told["budgets"]}
    assert shown == {"model:strict": (0.004, 1, 1), "namespace:careful": (0.002, 1, 1)}
    assert told["overall"]["reached"] == 2, "each request counts once"
