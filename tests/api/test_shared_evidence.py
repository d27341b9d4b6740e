"""Two nodes on one PostgreSQL: what one of them learns of reworded questions, and what it closes, holds on the other."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from sentinel_gateway import storage
from sentinel_gateway.core.evidence import Lesson, Weighed
from sentinel_gateway.core.tightening import OFF, Stance
from tests.api.test_learning import CITY, FRANCE
from tests.gateway import chat, one_provider, running_gateway, until

pytestmark = pytest.mark.anyio

WISH = {"x_similarity_threshold": "0.9"}
SECRET = "the-same-on-all-nodes-and-as-long-as-it-has-to-be"


@pytest.fixture
async def both(chaos, upstream, tmp_path, postgres):
    environ = {"SENTINEL_DATABASE_URL": postgres.fresh(), "SENTINEL_SECRET": SECRET}
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    config = one_provider(chaos.base_url)
    async with (
        running_gateway(folders[0], environ=environ, config=config, semantic=True) as one,
        running_gateway(folders[1], environ=environ, config=config, semantic=True, alone=False) as two,
    ):
        for node in (one, two):
            await node.ask(chat(FRANCE))
        yield one, two


async def told(node):
    return (await node.get("/admin/semantic", headers=node.admin)).json


async def test_feedback_may_reach_any_node(both):
    one, two = both
    hit = await one.ask(chat(CITY), **WISH)
    assert hit.cache == "semantic"
    said = {"request_id": hit.headers["x-sentinel-id"], "correct": False}
    for _ in range(2):
        await until(lambda: one.process.evidence.log._waiting == [])  # noqa: SLF001 - rows are written half a second later
        answer = await two.request("POST", "/v1/feedback", json=said)
        assert (answer.status, answer.json["correct"]) == (200, False)
    (label,) = await one.process.evidence.log.labels(said["request_id"])
    assert (label.source, label.correct) == ("feedback", False)
    assert (await told(two))["since_start"]["feedback"] == {"right": 0, "wrong": 1}, "once"


async def test_what_one_node_learns_and_switches_off_holds_on_the_other(both):
    one, two = both
    for node in both:
        assert (await node.ask(chat(CITY), **WISH)).cache == "semantic"
    for number in range(30):
        weighed = Weighed(0.9, (1.0, *(16 * [0.0])))
        one.process.evidence.calibration.learn("\n", Lesson(entry=f"{number:064x}", weighed=weighed, right=number > 20))
    for node in both:
        await until(lambda node=node: any(stands.labels == 30 for stands in node.process.evidence.calibration.standings(0.01)))
    found = [(await told(node))["namespaces"] for node in both]
    assert found[0] == found[1]
    assert (found[0][0]["labels"], found[0][0]["serves"]) == (30, False)
    assert (await two.ask(chat(CITY), **WISH)).cache == "miss", "most were wrong: nothing is sure enough"
    await one.process.evidence.log._store.take(Stance("all", OFF, one.process.clock()))  # noqa: SLF001 - as a broken budget would
    await until(lambda: two.process.evidence.log.level("") == OFF)


async def test_what_was_switched_off_before_there_was_a_postgresql_stays_so(chaos, upstream, tmp_path, postgres):
    environ, config = {"SENTINEL_SECRET": SECRET}, one_provider(chaos.base_url)
    async with running_gateway(tmp_path, environ=environ, config=config, semantic=True) as alone:
        await alone.process.evidence.log._store.take(Stance("all", OFF, alone.process.clock()))  # noqa: SLF001 - as above
    environ["SENTINEL_DATABASE_URL"] = postgres.fresh()
    async with running_gateway(tmp_path, environ=environ, config=config, semantic=True, alone=False) as shared:
        await until(lambda: shared.process.evidence.log._are_known)  # noqa: SLF001 - before that all is closed
        assert shared.process.evidence.log.level("") == OFF


async def test_a_start_waits_for_no_database_that_hangs(monkeypatch):
    monkeypatch.setattr(storage, "PATIENCE", 0.01)
    ended = asyncio.Event()

    async def hangs() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def fails() -> None:
        raise RuntimeError

    async with AsyncExitStack() as closing:
        await storage._begin(hangs(), closing)  # noqa: SLF001 - to hang a real one takes a server of its own
        assert not ended.is_set()
        with pytest.raises(RuntimeError):
            await storage._begin(fails(), closing)  # noqa: SLF001 - as above
    await ended.wait()
