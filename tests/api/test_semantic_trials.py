"""Close decisions as they come, and what another budget or threshold would have done, through the whole gateway."""

import pytest

from sentinel_gateway.core.confidence.features import Surroundings, searched
from sentinel_gateway.core.evidence import Lesson, Weighed, realm
from tests.api.test_semantic import FRANCE, REWORDED
from tests.gateway import chat, one_provider, running_gateway, until

pytestmark = pytest.mark.anyio

DECISIONS = "/admin/semantic/decisions"
NEAR = "Which city is the capital of France?"
OTHER = "What is the capital of Spain?"


@pytest.fixture
async def gateway(chaos, upstream, tmp_path):
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url), semantic=True) as gateway:
        yield gateway


async def decided(gateway, query=""):
    answer = await gateway.get(DECISIONS + query, headers=gateway.admin)
    assert answer.status == 200, answer.body
    return answer.json


async def attempt(gateway, **asked):
    return await gateway.request("POST", "/admin/semantic/try", headers=gateway.admin, json=asked)


async def test_close_decisions_are_told_with_both_questions(gateway):
    await gateway.ask(chat(FRANCE))
    served = await gateway.ask(chat(REWORDED))
    await gateway.ask(chat(NEAR))
    told = await decided(gateway)
    assert told["texts"] == "shown"
    refused, hit = told["data"]
    assert (hit["asked"], hit["stored"], hit["outcome"], hit["reason"]) == (REWORDED, FRANCE, "served", None)
    assert (hit["id"], hit["entry"][:32]) == (served.headers["x-sentinel-id"], served.headers["x-cache-matched-id"])
    assert (hit["basis"], hit["threshold"], hit["labels"], hit["can_be_marked"]) == ("similarity", 0.95, {}, True)
    assert 0.98 < hit["similarity"] < 0.99
    assert (refused["asked"], refused["outcome"], refused["reason"]) == (NEAR, "refused", "below-threshold")
    assert refused["can_be_marked"] is False
    assert [one["asked"] for one in (await decided(gateway, "?outcome=refused"))["data"]] == [NEAR]
    assert [one["asked"] for one in (await decided(gateway, "?within=0.02"))["data"]] == [NEAR]
    assert [one["asked"] for one in (await decided(gateway, "?limit=1"))["data"]] == [NEAR]


async def test_what_a_guard_objects_to_is_told_by_its_name(gateway):
    await gateway.ask(chat("How many eggs are in 2 cakes?"))
    await gateway.ask(chat("How many eggs are in 3 cakes?"), x_similarity_threshold="0.8")
    (one,) = (await decided(gateway))["data"]
    assert (one["outcome"], one["reason"]) == ("refused", "guard-numbers")
    assert one["threshold"] == 0.8


async def test_what_is_far_off_is_no_close_decision(gateway):
    await gateway.ask(chat(FRANCE))
    await gateway.ask(chat("How long does an onion soup have to cook?"))
    assert (await decided(gateway))["data"] == []


async def test_what_was_marked_says_so(gateway):
    await gateway.ask(chat(FRANCE))
    hit = await gateway.ask(chat(REWORDED))
    id_ = hit.headers["x-sentinel-id"]
    body = {"sentinel_id": id_, "correct": True}
    assert (await gateway.request("POST", "/admin/semantic/labels", headers=gateway.admin, json=body)).status == 200
    assert (await gateway.ask({"request_id": id_, "correct": False}, "/v1/feedback")).status == 200
    (one,) = (await decided(gateway))["data"]
    assert one["labels"] == {"operator": True, "feedback": False}


async def test_explored_hits_are_told_apart(chaos, upstream, tmp_path):
    environ = {"SENTINEL_CACHE__SEMANTIC__EXPLORATION": "1", "SENTINEL_CACHE__SEMANTIC__EVIDENCE_BUDGET": "1"}
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url), environ=environ, semantic=True) as gateway:
        for number in range(5):  # else one exploration would be all of the day's cost
            await gateway.ask(chat(f"Spend something, {number} times"), x_bypass_cache="true")
        await gateway.ask(chat(FRANCE))
        await gateway.ask(chat(REWORDED))
        (one,) = (await decided(gateway, "?outcome=explored"))["data"]
        assert (one["asked"], one["can_be_marked"]) == (REWORDED, True)


async def test_texts_are_hidden_once_somebody_needs_a_key(gateway):
    await gateway.ask(chat(FRANCE))
    await gateway.ask(chat(REWORDED))
    key = await gateway.key()
    await gateway.ask(chat(FRANCE, temperature=0.1), authorization=f"Bearer {key}")
    await gateway.ask(chat(REWORDED, temperature=0.1), authorization=f"Bearer {key}")
    told = await decided(gateway)
    assert told["texts"] == "hidden"
    assert [(one["asked"], one["stored"]) for one in told["data"]] == [(None, None), (None, None)]
    gateway.process.semantic.recent.texts = lambda: True
    later, earlier = (await decided(gateway))["data"]
    assert (later["asked"], earlier["asked"]) == (None, REWORDED), "what came later was not even kept"


async def test_a_reading_key_sees_none_of_it(gateway):
    key = await gateway.key(scopes=["read", "inference", "admin"])
    headers = {"authorization": f"Bearer {key}"}
    assert (await gateway.get(DECISIONS, headers=headers)).status == 403
    assert (await gateway.request("POST", "/admin/semantic/try", headers=headers, json={"threshold": 0.9})).status == 403
    assert (await gateway.get(DECISIONS)).status == 401


@pytest.mark.parametrize("query", ["?outcome=maybe", "?within=2", "?within=nan", "?limit=0", "?limit=1000"])
async def test_what_cannot_be_asked_for(gateway, query):
    assert (await gateway.get(DECISIONS + query, headers=gateway.admin)).status == 400


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({}, "max_wrong_hit_rate"),
        ({"threshold": 0.5}, "min_threshold"),
        ({"threshold": 1.5}, "threshold"),
        ({"max_wrong_hit_rate": -0.1}, "max_wrong_hit_rate"),
        ({"max_wrong_hit_rate": "1 %"}, "max_wrong_hit_rate"),
        ({"threshold": 0.9, "window_days": 0}, "window_days"),
        ({"threshold": 0.9, "window_days": 31}, "window_days"),
        ({"budget": 1}, "budget"),
    ],
    ids=str,
)
async def test_what_cannot_be_tried_is_named(gateway, asked, named):
    answer = await attempt(gateway, **asked)
    assert (answer.status, answer.json["code"]) == (400, "invalid_value")
    assert named in answer.json["error"]


async def test_with_nothing_learned_nothing_is_known(gateway):
    told = (await attempt(gateway, threshold=0.9)).json
    nothing = {"rate": 0.0, "low": 0.0, "high": 1.0, "observations": 0}
    assert told["now"] == told["then"] == {"requests": 0.0, "hits": 0.0, "wrong": nothing, "wrong_hits": nothing}
    assert told["namespaces"] == []
    assert (told["threshold"], told["max_wrong_hit_rate"], told["window_days"]) == (0.9, 0.01, 7.0)


async def test_a_lower_threshold_would_have_served_more_and_more_of_it_wrongly(gateway):
    """What was learned: near .97 all is right, near .90 every fourth is wrong; each stands for ten requests."""
    calibration, now = gateway.process.evidence.calibration, gateway.process.clock()
    where = realm("", "")
    await calibration.ready(where)
    for n in range(200):
        near, right = (0.97, True) if n % 2 else (0.90, n % 8 != 0)
        calibration.learn(where, Lesson(entry=f"{n:064x}", weighed=_weighed(near), right=right, weight=10.0))
    await until(lambda: calibration.standings(0.01)[0].labels == 200)
    told = (await attempt(gateway, threshold=0.85, max_wrong_hit_rate=1.0)).json
    assert told["now"]["requests"] == told["then"]["requests"] == 2000.0
    assert told["now"]["hits"] <= 1000.0
    assert told["then"]["hits"] == 2000.0
    assert told["then"]["wrong_hits"]["rate"] == pytest.approx(0.125)
    assert told["then"]["wrong_hits"]["low"] < 0.125 < told["then"]["wrong_hits"]["high"]
    assert told["then"]["wrong_hits"]["observations"] == 200
    (place,) = told["namespaces"]
    assert (place["tenant"], place["namespace"], place["then"]) == ("", "", told["then"])
    later = (await attempt(gateway, threshold=0.85, window_days=1e-9)).json
    assert later["then"]["requests"] == 0.0, f"none is as new as that at {now}"
    same = (await attempt(gateway, threshold=0.95)).json
    assert same["then"] == same["now"], "what is tried is what holds"


def _weighed(near):
    words = (1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0)
    return Weighed(near, (*searched(Surroundings(similarity=near)), *words))


async def test_without_the_semantic_tier_there_is_nothing(chaos, upstream, tmp_path):
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url)) as gateway:
        assert (await gateway.get(DECISIONS, headers=gateway.admin)).status == 404
        assert (await attempt(gateway, threshold=0.9)).status == 404
