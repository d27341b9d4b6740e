"""The call log is an oracle: it knows what was asked, what was sent, and when a client hung up."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import httptools
import pytest

from bench.chaos import ChaosUpstream, Fault
from tests.gateway import until

pytestmark = pytest.mark.anyio

BODY = {"model": "mock-model", "messages": [{"role": "user", "content": "Which spade?"}]}
CHAT = "/chat/completions"


async def test_an_entry_knows_the_request_and_the_answer(upstream, client):
    before = time.monotonic()
    upstream.script("tokens=12")
    async with client.post(f"{upstream.base_url}{CHAT}?a=b", json=BODY, headers={"X-Test": "é"}) as answer:
        await answer.read()
    (call,) = upstream.calls
    assert (call.sequence, call.method, call.path) == (0, "POST", "/v1/chat/completions?a=b")
    assert (call.body, json.loads(call.raw_body)) == (BODY, BODY)
    assert call.headers["content-type"] == "application/json"
    assert call.headers["x-test"].encode("latin-1").decode() == "é"
    assert (call.fault, call.status) == (Fault(tokens=12), 200)
    assert before <= call.started <= call.ended <= time.monotonic()
    assert (call.completed, call.closed_by_peer_at, call.chunks_sent, call.tokens_sent) == (True, None, 1, 12)


@pytest.mark.parametrize(
    ("fault", "stream"),
    [("latency_ms=60000", False), ("latency_ms=60000", True), ("stall_after=2", True), ("chunk_ms=20;chunks=999", True)],
)
async def test_a_client_that_hangs_up_is_noticed(upstream, fault, stream):
    upstream.script(fault)
    async with aiohttp.ClientSession() as client:
        asking = asyncio.create_task(client.post(upstream.base_url + CHAT, json={**BODY, "stream": stream}))
        await asyncio.sleep(0.1)
        await until(lambda: upstream.calls and upstream.calls[0].chunks_sent >= (2 if fault == "stall_after=2" else 0))
        assert upstream.open_connections == 1
        left = time.monotonic()
        asking.cancel()
        if asking.done():
            asking.result().close()
    await upstream.settle()
    (call,) = upstream.calls
    assert not call.completed
    assert left <= call.closed_by_peer_at == call.ended <= left + 20
    if fault == "stall_after=2":
        assert (call.chunks_sent, call.tokens_sent) == (2, 2)
    assert upstream.open_connections == 0


async def test_a_call_that_the_mock_drops_is_not_the_clients_doing(client):
    async with ChaosUpstream() as upstream:
        asking = asyncio.create_task(client.post(upstream.url_with("stall_after=-1") + CHAT, json=BODY))
        while not upstream.calls:  # noqa: ASYNC110  # the log has no event to wait for
            await asyncio.sleep(0.01)
    with pytest.raises(aiohttp.ClientError):
        await asking
    (call,) = upstream.calls
    assert (call.completed, call.closed_by_peer_at) == (False, None)
    assert call.ended is not None


async def test_reset_forgets(upstream, client):
    upstream.script("err=503", times=3)
    await (await client.post(upstream.base_url + CHAT, json=BODY)).read()
    upstream.reset()
    assert (upstream.calls, upstream.count) == ([], 0)
    async with client.post(upstream.base_url + CHAT, json=BODY) as answer:
        assert answer.status == 200
    assert "1 calls, 0 faults queued, 1 connections" in repr(upstream)


async def test_the_log_is_bounded_the_count_is_not(client):
    async with ChaosUpstream(keep_calls=2) as upstream:
        for _ in range(5):
            await (await client.post(upstream.base_url + CHAT, json=BODY)).read()
        assert ([call.sequence for call in upstream.calls], upstream.count) == ([3, 4], 5)


async def test_over_http(upstream, client):
    root = f"http://127.0.0.1:{upstream.port}"
    async with client.post(f"{root}/__script", json={"fault": "err=429;retry_after=3", "times": 2}) as answer:
        assert await answer.json() == {"queued": 2}
    for _ in range(3):
        await (await client.post(upstream.base_url + CHAT, json=BODY)).read()
    async with client.get(f"{root}/__calls") as answer:
        seen = await answer.json()
    assert (seen["calls"], seen["open_connections"]) == (3, 1)
    assert [call["status"] for call in seen["log"]] == [429, 429, 200]
    assert (seen["log"][0]["fault"], seen["log"][0]["body"]) == ("err=429;retry_after=3", BODY)
    for last, numbers in (("0", []), ("2", [1, 2]), ("9", [0, 1, 2])):
        async with client.get(f"{root}/__calls?last={last}") as answer:
            assert [call["sequence"] for call in (await answer.json())["log"]] == numbers
    async with client.post(f"{root}/__reset") as answer:
        assert await answer.json() == {}
    assert upstream.count == 0


@pytest.mark.parametrize("body", [b"", b"{}", b'{"fault": "eror=1"}', b'{"fault": "err=500", "time": 2}'])
async def test_a_wrong_script_is_refused(upstream, client, body):
    async with client.post(f"http://127.0.0.1:{upstream.port}/__script", data=body) as answer:
        assert answer.status == 400
    async with client.post(upstream.base_url + CHAT, json=BODY) as answer:
        assert answer.status == 200


async def test_pipelined_requests_are_answered_in_order(upstream):
    reader, writer = await asyncio.open_connection("127.0.0.1", upstream.port)
    try:
        for number, fault in enumerate(["latency_ms=40", "err=503", "chunks=2"]):
            body = json.dumps({**BODY, "user": str(number)}).encode()
            writer.write(f"POST /{fault}/v1{CHAT} HTTP/1.1\r\nhost: a\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        statuses = []
        for _ in range(3):
            head = await reader.readuntil(b"\r\n\r\n")
            statuses.append(head.split()[1])
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
    finally:
        writer.close()
    assert statuses == [b"200", b"503", b"200"]
    assert [call.body["user"] for call in upstream.calls] == ["0", "1", "2"]


async def test_connection_close_is_obeyed(upstream):
    reader, writer = await asyncio.open_connection("127.0.0.1", upstream.port)
    writer.write(b"GET /v1/models HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    assert answer.endswith(b"}")


async def test_what_is_not_http_is_a_400(upstream):
    reader, writer = await asyncio.open_connection("127.0.0.1", upstream.port)
    writer.write(b"\x16\x03\x01 hello\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
    writer.close()
    assert upstream.calls == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_as_a_process(number):
    command = [sys.executable, "-m", "bench.chaos", "--keep-calls", "3"]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True) as process:
        try:
            base_url = process.stdout.readline().strip()
            assert httptools.parse_url(base_url.encode()).path == b"/v1"
        finally:
            process.send_signal(number)
        assert process.wait(10) == 0
