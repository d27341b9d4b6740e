"""Two nodes, one Redis: what one has learnt the other knows, and what becomes of one is nothing to the other."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from tests.faults.conftest import Node
from tests.faults.traffic import Traffic, asked_twice
from tests.process.conftest import DEADLINE
from tests.servers import PATIENT

pytestmark = pytest.mark.anyio

CAPITAL, REWORDED = "What is the capital of France?", "What's the capital of France?"
LAPSE = 3.0
"""Seconds for which a node that died keeps others waiting for what it was asking (docs/decisions/021)."""


@pytest.fixture
def fleet(start, redis):
    """fleet() starts two."""

    async def run(**environ: str) -> tuple[Node, Node]:
        shared = {"REDIS_URL": redis.url, "SENTINEL_REPLICAS": "2"} | PATIENT | environ
        one, two = await start("one", **shared), await start("two", **shared)
        return one, two

    return run


async def at_last(ask: Callable[[], Awaitable[object]], wanted: object) -> None:
    """What is written in the background is there soon; a Redis that is late on a busy machine is asked again."""
    async with asyncio.timeout(DEADLINE):
        while (found := await ask()) != wanted:
            assert found in {"exact", "semantic", "miss", ""}, found
            await asyncio.sleep(0.1)


async def test_an_answer_made_on_one_node_is_a_hit_on_the_other(fleet, upstream):
    """The same words, and others."""
    one, two = await fleet(SENTINEL_CACHE__SEMANTIC__ENABLED="true")
    made = await one.asks(CAPITAL)
    assert made.headers["x-cache"] == "miss"

    async def only_if_cached(question: str) -> str:
        answer = await two.asks(question, **{"cache-control": "only-if-cached"})
        assert answer.status in {200, 504}
        assert answer.status == 504 or answer.text == made.text
        return answer.headers.get("x-cache", "")

    await at_last(lambda: only_if_cached(CAPITAL), "exact")
    await at_last(lambda: only_if_cached(REWORDED), "semantic")
    assert upstream.count == 1


async def test_a_node_that_is_killed_takes_nothing_along_that_it_has_answered(fleet, redis, upstream):
    one, two = await fleet()
    questions = [f"Question {number}?" for number in range(20)]
    made = {question: (await one.asks(question)).text for question in questions}
    with redis.client() as client:
        async with asyncio.timeout(DEADLINE):
            while len(client.keys("sentinel:cache:1:*")) < len(questions):  # noqa: ASYNC110 - it happens in another process
                await asyncio.sleep(0.02)
    one.kill()
    for question in questions:
        again = await two.asks(question)
        assert (again.headers["x-cache"], again.text) == ("exact", made[question])
    assert upstream.count == len(questions)


async def test_who_waits_for_what_a_killed_node_was_asking_gets_an_answer(fleet, upstream):
    one, two = await fleet()
    upstream.script("latency_ms=60000")
    first = asyncio.create_task(one.asks("Is anybody there?"))
    async with asyncio.timeout(DEADLINE):
        while upstream.count == 0:  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(0.01)
    second = asyncio.create_task(two.asks("Is anybody there?"))
    await asyncio.sleep(0.3)
    assert upstream.count == 1, "the other node does not wait for the first"
    killed = time.monotonic()
    one.kill()
    with pytest.raises(ConnectionError):
        await first
    answer = await second
    waited = time.monotonic() - killed
    print(f"answered {waited:.1f} s after the other node was killed")
    assert answer.status == 200
    assert upstream.count == 2
    assert waited < 5 * LAPSE


async def test_only_what_a_killed_node_was_working_on_fails(fleet, upstream):
    """Clients know both nodes, and half of them lose theirs."""
    one, two = await fleet()
    async with Traffic(one.base_url, two.base_url, rate=60) as traffic:
        await asyncio.sleep(1)
        killed = time.monotonic()
        one.kill()
        await asyncio.sleep(2)
    everything = traffic.between()
    print(everything, dict(everything.problems))
    lost = [asked for asked in everything.asked if asked.problem]
    assert lost
    assert {asked.gateway for asked in lost} == {one.base_url}
    assert all(asked.planned + asked.seconds > killed for asked in lost)
    assert asked_twice(upstream, "New") == {}
