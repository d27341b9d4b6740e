"""`POST /v1/feedback`, through the whole gateway."""

import hashlib
import sqlite3
from contextlib import closing

import pytest

from tests.api.test_semantic import FRANCE, REWORDED
from tests.gateway import Gateway, chat, one_provider, running_gateway

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def gateway(chaos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gateway")
    async with running_gateway(folder, config=one_provider(chaos.base_url), semantic=True) as gateway:
        yield gateway


async def feedback(gateway: Gateway, id: str, *, correct: bool = False, **headers: str):  # noqa: A002 - its name
    return await gateway.ask({"request_id": id, "correct": correct}, "/v1/feedback", **headers)


async def served(gateway: Gateway, text: str, **headers: str):
    """A semantic hit in a cache of this test alone."""
    spaced = {"x-cache-namespace": hashlib.sha256(text.encode()).hexdigest(), **headers}
    assert (await gateway.ask(chat(FRANCE), **spaced)).cache == "miss"
    answer = await gateway.ask(chat(REWORDED), **spaced)
    assert answer.cache == "semantic"
    return answer, spaced


@pytest.mark.parametrize("which", ["x-sentinel-id", "x-request-id"])
async def test_a_wrong_answer_is_evicted_and_counted_however_often_it_is_said(gateway, upstream, text, which):
    wrong = 'sentinel_semantic_feedback_total{verdict="wrong"}'
    before = gateway.metric(wrong)
    answer, spaced = await served(gateway, text, **{"x-request-id": f"caller/{which}"})
    for _ in range(2):
        told = await feedback(gateway, answer.headers[which])
        assert (told.status, told.json) == (
            200,
            {
                "request_id": f"caller/{which}",
                "sentinel_id": answer.headers["x-sentinel-id"],
                "correct": False,
                "evicted": True,
            },
        )
    assert gateway.metric(wrong) == before + 1
    assert (await gateway.ask(chat(FRANCE), **spaced)).cache == "miss"


async def test_a_right_answer_stays(gateway, upstream, text):
    before = gateway.metric('sentinel_semantic_feedback_total{verdict="right"}')
    answer, spaced = await served(gateway, text)
    told = await feedback(gateway, answer.headers["x-sentinel-id"], correct=True)
    assert (told.status, told.json["evicted"]) == (200, False)
    assert gateway.metric('sentinel_semantic_feedback_total{verdict="right"}') == before + 1
    assert (await gateway.ask(chat(REWORDED), **spaced)).cache == "semantic"


async def test_an_id_that_is_no_semantic_hits(gateway, upstream, text):
    missed = await gateway.ask(chat(text))
    same = await gateway.ask(chat(text))
    assert same.cache == "exact"
    for name in (missed.headers["x-sentinel-id"], same.headers["x-sentinel-id"], "never-seen", "%", "' OR 1=1 --"):
        refused = await feedback(gateway, name)
        assert (refused.status, refused.json["code"]) == (404, "answer_not_found")
        assert "x-cache: semantic" in refused.json["error"]
        assert refused.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "request_id"),
        (b"{", "body"),
        (b'{"request_id": "a"}', "correct"),
        (b'{"request_id": "a", "correct": "no"}', "correct"),
        (b'{"request_id": "", "correct": true}', "request_id"),
        (b'{"request_id": "a", "correct": true, "tenant": "b"}', "tenant"),
    ],
)
async def test_a_body_that_makes_no_sense(gateway, body, field):
    refused = await gateway.ask(body, "/v1/feedback")
    assert (refused.status, refused.json["code"]) == (400, "invalid_value")
    assert field in [fault["field"] for fault in refused.json["errors"]]


async def test_the_ids_of_other_tenants_do_not_exist(chaos, upstream, tmp_path, text):
    config = one_provider(chaos.base_url) + "tenants: {a: {cache_group: both}, b: {cache_group: both}}\n"
    async with running_gateway(tmp_path, config=config, semantic=True) as gateway:
        keys = {name: f"Bearer {await gateway.key(tenant=name)}" for name in ("a", "b", "c")}
        await gateway.ask(chat(FRANCE), authorization=keys["a"])
        answer = await gateway.ask(chat(REWORDED), authorization=keys["b"])  # with what the group shares
        assert answer.cache == "semantic"
        name = answer.headers["x-sentinel-id"]
        refused = [await feedback(gateway, name, authorization=keys[tenant]) for tenant in ("a", "c")]
        unknown = await feedback(gateway, "never-seen", authorization=keys["c"])
        assert [other.status for other in refused] == [404, 404]
        assert {other.body for other in refused} == {unknown.body}
        assert (await feedback(gateway, name)).status == 401
        reader = await gateway.key(tenant="b", scopes=["read"])
        assert (await feedback(gateway, name, authorization=f"Bearer {reader}")).status == 403
        assert (await feedback(gateway, name, authorization=keys["b"])).status == 200
        assert (await gateway.ask(chat(FRANCE), authorization=keys["a"])).cache == "miss"


async def test_it_counts_as_a_request(chaos, upstream, tmp_path):
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url), semantic=True) as gateway:
        key = f"Bearer {await gateway.key(limits={'requests_per_minute': 3})}"
        answers = [await feedback(gateway, "never-seen", authorization=key) for _ in range(4)]
        assert [answer.status for answer in answers] == [404, 404, 404, 429]


async def test_it_is_known_after_a_restart_and_nothing_of_the_texts_is_kept(chaos, upstream, tmp_path):
    config = one_provider(chaos.base_url)
    async with running_gateway(tmp_path, config=config, semantic=True) as gateway:
        await gateway.ask(chat(FRANCE))
        answer = await gateway.ask(chat(REWORDED))
    database = sqlite3.connect(tmp_path / "data" / "sentinel.db")
    rows = database.execute("SELECT * FROM decisions").fetchall()
    database.close()
    assert len(rows) == 1
    assert "France" not in str(rows)
    async with running_gateway(tmp_path, config=config, semantic=True) as gateway:
        assert (await feedback(gateway, answer.headers["x-sentinel-id"])).status == 200
        assert (await gateway.ask(chat(FRANCE))).cache == "miss"


async def test_where_the_tier_is_off_there_is_nothing_to_judge(chaos, tmp_path):
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url)) as gateway:
        refused = await feedback(gateway, "never-seen")
        assert (refused.status, refused.json["code"]) == (404, "answer_not_found")
        assert "semantic tier is off" in refused.json["error"]
        assert "sentinel_semantic_feedback" not in (await gateway.get("/metrics")).body.decode()


async def test_a_file_that_is_locked_says_try_again(chaos, upstream, tmp_path):
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url), semantic=True) as gateway:
        await gateway.ask(chat(FRANCE))
        answer = await gateway.ask(chat(REWORDED))
        assert (await feedback(gateway, "never-seen")).status == 404  # which has it written
        with closing(sqlite3.connect(tmp_path / "data" / "sentinel.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            refused = await feedback(gateway, answer.headers["x-sentinel-id"])
            assert (refused.status, refused.json["code"]) == (503, "evidence_unavailable")
            assert "retry-after" in refused.headers
        assert (await feedback(gateway, answer.headers["x-sentinel-id"])).status == 200
