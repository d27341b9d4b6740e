"""More requests than places: a few wait a moment, the others are told so at once, before their body is read."""

import asyncio
import time

import pytest

from sentinel_gateway.api.exchange import BODIES_AT_ONCE
from tests.gateway import CHAT, chat, one_provider, post, running_gateway, until

pytestmark = pytest.mark.anyio

PLACES = 2
WAIT = 3.0


@pytest.fixture(scope="module")
async def gateway(chaos, tmp_path_factory):
    """Two places, and one may wait for one."""
    environ = {
        "SENTINEL_SERVER__MAX_IN_FLIGHT": str(PLACES),
        "SENTINEL_SERVER__QUEUE": "1",
        "SENTINEL_SERVER__QUEUE_WAIT": str(WAIT),
    }
    config = one_provider(chaos.base_url)
    async with running_gateway(tmp_path_factory.mktemp("gateway"), environ=environ, config=config) as gateway:
        yield gateway


async def fill(gateway, upstream, text) -> list[asyncio.Task]:
    """Take every place, until the tasks are cancelled."""
    upstream.script("latency_ms=60000", times=PLACES)
    tasks = [asyncio.create_task(gateway.ask(chat(f"{number} {text}"))) for number in range(PLACES)]
    await until(lambda: upstream.count == PLACES)
    assert gateway.places() == PLACES
    return tasks


def queued(gateway) -> int:
    return len(gateway.process.admission._waiting)  # noqa: SLF001 - nothing tells it


async def let_go(tasks: list[asyncio.Task]) -> None:
    """Give the places back: their clients leave."""
    assert not any(task.done() for task in tasks), "they were held all the time"
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def check_refusal(answer) -> None:
    assert answer.status == 503
    assert (answer.error["type"], answer.error["code"]) == ("service_unavailable_error", "server_is_overloaded")
    milliseconds = int(answer.headers["retry-after-ms"])
    assert 1000 <= milliseconds <= 3000
    assert int(answer.headers["retry-after"]) == -(-milliseconds // 1000)
    assert "x-should-retry" not in answer.headers
    assert {"x-request-id", "x-sentinel-id"} <= answer.headers.keys()


async def check_room(gateway, upstream, text) -> None:
    """It has recovered: there is room again."""
    await until(lambda: gateway.places() == 0)
    answers = await asyncio.gather(*(gateway.ask(chat(f"room {number} {text}")) for number in range(PLACES)))
    assert [answer.status for answer in answers] == [200] * PLACES


async def test_the_third_waits_and_the_fourth_is_refused_before_its_body(gateway, upstream, text):
    running = await fill(gateway, upstream, text)
    third = asyncio.create_task(gateway.ask(chat(f"third {text}")))
    await until(lambda: queued(gateway) == 1)

    wire = await gateway.connect()
    wire.send(b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n" % CHAT.encode())
    wire.send(b'{"model": "mock-model", "messages": ')
    check_refusal(await wire.answer())
    assert not third.done()
    await wire.close()

    await let_go(running)
    assert (await third).status == 200
    assert upstream.count == PLACES + 1
    await check_room(gateway, upstream, text)


async def test_who_waited_too_long_is_refused(gateway, upstream, text):
    running = await fill(gateway, upstream, text)
    start = time.monotonic()
    check_refusal(await gateway.ask(chat(f"third {text}")))
    assert time.monotonic() - start > 0.9 * WAIT
    await let_go(running)
    assert upstream.count == PLACES
    await check_room(gateway, upstream, text)


async def test_a_slow_sender_keeps_no_place_from_others(gateway, upstream, text):
    slow = [await gateway.connect() for _ in range(PLACES + 2)]
    for wire in slow:
        wire.send(post(chat(f"slow {text}"))[:-5])
    await asyncio.sleep(0.05)
    assert gateway.places() == 0
    assert (await gateway.ask(chat(f"quick {text}"))).status == 200
    for wire in slow:
        wire.abort()


async def test_a_slow_reader_of_a_hit_keeps_no_place_from_others(gateway, upstream, text):
    """Its answer is longer than what the kernel holds for a connection."""
    upstream.script("tokens=100000;chunks=10")
    long = chat(f"long {text}", stream=True)
    assert (await gateway.ask(long)).sse.done
    slow = [await gateway.connect(receive_buffer=4096) for _ in range(PLACES + 2)]
    for wire in slow:
        wire.send(post(long) * 8)
    await asyncio.sleep(0.2)
    await until(lambda: gateway.places() == 0)
    assert (await gateway.ask(chat(f"quick {text}"))).status == 200
    for wire in slow:
        wire.abort()


async def test_bodies_that_are_kept_waiting_are_bounded_in_all(gateway):
    """Each in good time and of an allowed size; together they would fill the memory."""
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000000\r\n\r\n"
    wires = [await gateway.connect() for _ in range(BODIES_AT_ONCE + 16)]
    answers = [asyncio.create_task(wire.answer()) for wire in wires]
    for wire in wires:
        wire.send(head + b" " * 3_900_000)
    await until(lambda: sum(answer.done() for answer in answers) >= 10)
    for answer in filter(asyncio.Task.done, answers):
        assert (answer.result().status, answer.result().error["code"]) == (503, "server_is_overloaded")
        assert "retry-after" in answer.result().headers
    assert (await gateway.ask(b" " * 100_000)).status == 400, "small ones still come in"
    for answer, wire in zip(answers, wires, strict=True):
        answer.cancel()
        wire.abort()
    await asyncio.wait(answers)


async def test_a_hit_needs_a_place_too(gateway, upstream, text):
    await gateway.ask(chat(f"hit {text}"))
    upstream.reset()
    running = await fill(gateway, upstream, text)
    hits = [asyncio.create_task(gateway.ask(chat(f"hit {text}"))) for _ in range(3)]
    await until(lambda: sum(hit.done() for hit in hits) == 2)
    await let_go(running)
    answers = await asyncio.gather(*hits)
    assert sorted(answer.status for answer in answers) == [200, 503, 503]
    assert [answer.cache for answer in answers if answer.status == 200] == ["exact"]
    await check_room(gateway, upstream, text)


async def test_who_leaves_the_queue_is_not_served(gateway, upstream, text):
    running = await fill(gateway, upstream, text)
    wire = await gateway.connect()
    wire.send(post(chat(f"leaving {text}")))
    await until(lambda: queued(gateway) == 1)
    check_refusal(await gateway.ask(chat(f"refused {text}")))
    wire.abort()
    await until(lambda: queued(gateway) == 0)
    await let_go(running)
    await check_room(gateway, upstream, text)
    assert not any(call.body["messages"][0]["content"].startswith("leaving") for call in upstream.calls)


async def test_a_flood_loses_nobody_a_place(gateway, upstream, text):
    """However many come and are refused, the places are all there afterwards."""
    upstream.script("latency_ms=30", times=200)
    answers = await asyncio.gather(*(gateway.ask(chat(f"{number} {text}", stream=number % 2 == 0)) for number in range(60)))
    statuses = [answer.status for answer in answers]
    assert set(statuses) == {200, 503}
    assert statuses.count(200) == upstream.count
    upstream.reset()
    await check_room(gateway, upstream, text)


async def test_probes_and_models_need_no_place(gateway, upstream, text):
    running = await fill(gateway, upstream, text)
    for path in ("/livez", "/ready", "/health", "/metrics", "/v1/models"):
        assert (await gateway.get(path)).status == 200
    assert (await gateway.get("/admin/stats", headers=gateway.admin)).status == 200
    await let_go(running)


async def test_more_connections_than_allowed(chaos, upstream, text, tmp_path):
    environ = {"SENTINEL_SERVER__MAX_CONNECTIONS": "3"}
    async with running_gateway(tmp_path, environ=environ, config=one_provider(chaos.base_url)) as gateway:
        wires = [await gateway.connect() for _ in range(3)]
        await until(lambda: gateway.metric("active_connections") == 3)
        refused = await gateway.connect()
        answer = await refused.answer("GET")
        assert (answer.status, answer.error["code"]) == (503, "server_is_overloaded")
        assert {"retry-after", "retry-after-ms", "x-request-id"} <= answer.headers.keys()
        assert await refused.ended()
        await refused.close()
        wires[0].send(post(chat(text)))
        assert (await wires[0].answer()).status == 200
        for wire in wires:
            await wire.close()
        await until(lambda: gateway.metric("active_connections") == 0)
        assert (await gateway.ask(chat(text))).cache == "exact"
