"""Exploration, shadow mode, audits and the live estimate, through the whole gateway."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from sentinel_gateway.core.judging import Case
from tests.api.test_semantic import FRANCE, REWORDED
from tests.gateway import DAY, away_from_the_end_of, chat, one_provider, running_gateway, until

pytestmark = pytest.mark.anyio

ALL = {"SENTINEL_CACHE__SEMANTIC__EXPLORATION": "1", "SENTINEL_CACHE__SEMANTIC__EVIDENCE_BUDGET": "1"}
LABELS = "/admin/semantic/labels"


@asynccontextmanager
async def explorer(chaos, folder, environ=None, semantic="{}"):
    """A gateway that compares all hits it can pay for."""
    await away_from_the_end_of(DAY)
    config = one_provider(chaos.base_url) + f"cache: {{semantic: {semantic}}}\n"
    async with running_gateway(folder, config=config, environ=environ or ALL, semantic=True) as gateway:
        for number in range(5):  # else one exploration would be all of the day's cost
            await gateway.ask(chat(f"Spend something, {number} times"), x_bypass_cache="true")
        yield gateway


async def standing(gateway):
    return (await gateway.get("/admin/semantic", headers=gateway.admin)).json


def judged(gateway):
    return sum(gateway.process.evidence.compared.values())


async def test_an_explored_hit_is_a_miss_that_says_so_and_becomes_a_label(chaos, upstream, tmp_path):
    async with explorer(chaos, tmp_path) as gateway:
        await gateway.ask(chat(FRANCE))
        asked = len(upstream.calls)
        answer = await gateway.ask(chat(REWORDED))
        assert (answer.cache, answer.tiers["sentinel-vector"]["detail"]) == ("miss", "explored")
        assert len(upstream.calls) == asked + 1
        await until(lambda: judged(gateway))
        told = await standing(gateway)
        assert told["overall"]["hits"] == told["overall"]["reached"] == 1
        assert sum(told["since_start"]["compared"].values()) == 1
        assert 0 < told["today"]["evidence_usd"] < told["today"]["spend_usd"]
        refused = await gateway.ask({"request_id": answer.headers["x-sentinel-id"], "correct": False}, "/v1/feedback")
        assert refused.status == 404, "the provider's answer is no hit"


async def test_the_estimate_is_told_in_metrics_too(chaos, upstream, tmp_path):
    async with explorer(chaos, tmp_path) as gateway:
        await gateway.ask(chat(FRANCE))
        answer = await gateway.ask(chat(REWORDED))
        labelled = {"sentinel_id": answer.headers["x-sentinel-id"], "correct": False}
        said = await gateway.request("POST", LABELS, json=labelled, headers=gateway.admin)
        assert (said.status, said.json) == (200, labelled | {"kind": "explored", "evicted": False})
        told = await standing(gateway)
        assert told["overall"]["wrong_hits"]["rate"] == 1.0
        (scope,) = told["scopes"]
        assert scope["wrong"]["observations"] == 1
        for name in ("all", scope["scope"][:16]):
            assert gateway.metric(f'sentinel_semantic_wrong_rate{{bound="estimate",scope="{name}"}}') == 1.0
            low, high = (
                gateway.metric(f'sentinel_semantic_wrong_hit_rate{{bound="{end}",scope="{name}"}}') for end in ("low", "high")
            )
            assert 0 < low < 1.0 == high
            assert gateway.metric(f'sentinel_semantic_evidence_labels{{scope="{name}"}}') == 1
        (entry, *_) = (await gateway.get("/admin/audit", headers=gateway.admin)).json["data"]
        assert (entry["action"], entry["object"]) == ("semantic.label", labelled["sentinel_id"])


async def test_a_judge_that_is_a_model_is_asked_through_our_own_dispatch(chaos, upstream, tmp_path):
    async with explorer(chaos, tmp_path, semantic="{judge: mock/mock-small}") as gateway:
        evidence = gateway.process.evidence
        before = evidence.spending.today()[1]
        case = Case("How?", "Open the app and tap Cards.", "On the web page, choose your card.")
        assert await evidence.means.judge.compare(case) is None, "the mock says neither yes nor no"
        assert upstream.calls[-1].body["model"] == "mock-small"
        assert evidence.spending.today()[1] > before


async def test_shadow_mode_serves_nothing_and_measures(chaos, upstream, tmp_path):
    environ = {"SENTINEL_CACHE__SEMANTIC__SHADOW": "true"}
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url), environ=environ, semantic=True) as gateway:
        await gateway.ask(chat(FRANCE))
        answer = await gateway.ask(chat(REWORDED))
        assert (answer.cache, answer.tiers["sentinel-vector"]["detail"]) == ("miss", "explored")
        await until(lambda: judged(gateway))
        told = await standing(gateway)
        assert (told["shadow"], told["overall"]["hits"]) == (True, 1)


async def test_a_reload_ends_shadow_mode_at_once(chaos, upstream, tmp_path):
    config = one_provider(chaos.base_url) + "cache: {semantic: {shadow: %s, exploration: 0}}\n"
    environ = {"SENTINEL_CACHE__SEMANTIC__EXPLORATION": None}
    async with running_gateway(tmp_path, config=config % "true", environ=environ, semantic=True) as gateway:
        await gateway.ask(chat(FRANCE))
        assert (await gateway.ask(chat(REWORDED), cache_control="no-store")).cache == "miss"
        assert (await gateway.reload(config % "false")).json["notes"] == []
        assert (await gateway.ask(chat(REWORDED), cache_control="no-store")).cache == "semantic"


async def test_an_audited_hit_is_served_and_its_provider_asked_beside(chaos, upstream, tmp_path):
    environ = ALL | {"SENTINEL_CACHE__SEMANTIC__EXPLORATION": "0", "SENTINEL_CACHE__SEMANTIC__AUDIT": "1"}
    async with explorer(chaos, tmp_path, environ) as gateway:
        await gateway.ask(chat(FRANCE))
        asked = len(upstream.calls)
        assert (await gateway.ask(chat(REWORDED))).cache == "semantic"
        await until(lambda: judged(gateway))
        assert len(upstream.calls) == asked + 1


async def test_a_provider_that_fails_costs_an_explored_request_nothing(chaos, upstream, tmp_path):
    async with explorer(chaos, tmp_path) as gateway:
        await gateway.ask(chat(FRANCE))
        upstream.script("err=503", times=10)
        answer = await gateway.ask(chat(REWORDED))
        assert (answer.status, answer.cache) == (200, "semantic")
        stream = await gateway.ask(chat(REWORDED, stream=True))
        assert (stream.cache, stream.sse.done) == ("semantic", True)


async def test_what_a_budget_of_nothing_explores(chaos, upstream, tmp_path):
    async with explorer(chaos, tmp_path, ALL | {"SENTINEL_CACHE__SEMANTIC__EVIDENCE_BUDGET": "0"}) as gateway:
        await gateway.ask(chat(FRANCE))
        assert (await gateway.ask(chat(REWORDED))).cache == "semantic"


async def test_only_the_operator_sees_and_says(chaos, tmp_path):
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url), semantic=True) as gateway:
        key = await gateway.key(scopes=["admin"])
        for headers, status in (({}, 401), ({"authorization": f"Bearer {key}"}, 403)):
            assert (await gateway.get("/admin/semantic", headers=headers)).status == status
            assert (await gateway.request("POST", LABELS, json={}, headers=headers)).status == status
        unknown = await gateway.request("POST", LABELS, json={"sentinel_id": "x", "correct": True}, headers=gateway.admin)
        assert (unknown.status, unknown.json["code"]) == (404, "answer_not_found")
        wrong = await gateway.request("POST", LABELS, json={"sentinel_id": "x"}, headers=gateway.admin)
        assert wrong.status == 400


async def test_without_the_tier_there_is_nothing_to_see(chaos, tmp_path):
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url)) as gateway:
        for answer in (
            await gateway.get("/admin/semantic", headers=gateway.admin),
            await gateway.request("POST", LABELS, json={"sentinel_id": "x", "correct": True}, headers=gateway.admin),
        ):
            assert (answer.status, answer.json["code"]) == (404, "answer_not_found")


async def test_many_at_once_in_shadow_mode_are_one_call(chaos, upstream, tmp_path):
    environ = {"SENTINEL_CACHE__SEMANTIC__SHADOW": "true"}
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url), environ=environ, semantic=True) as gateway:
        await gateway.ask(chat(FRANCE))
        asked = len(upstream.calls)
        answers = await asyncio.gather(*(gateway.ask(chat(REWORDED)) for _ in range(20)))
        assert {answer.status for answer in answers} == {200}
        assert len(upstream.calls) == asked + 1
