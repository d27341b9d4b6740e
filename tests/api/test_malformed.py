"""D1: ten thousand malformed bodies and some thousand odd ones, against a gateway in a process of its own."""

import asyncio
import json
import os
import random
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.api import grown
from tests.gateway import CHAT, DEADLINE, chat, post

pytestmark = pytest.mark.anyio

BODIES = 10_000
GROWN = 4_000
WARM_UP = 2_000
CONNECTIONS = 8
GROWTH = 0.05
GROWTH_BYTES = 8 << 20
LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n")

NOBODYS = "a-model-that-nobody-serves"
"""So that a body which chance left whole is refused, too."""
VALID: list[dict[str, Any]] = [
    chat("Hello", NOBODYS),
    chat("Grüße, 漢字 und 🙂", NOBODYS, temperature=0.5, stream=True, stream_options={"include_usage": True}),
    chat("Call it", NOBODYS, tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}], n=2),
    chat("", NOBODYS, messages=[{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}] * 3),
    chat("More", NOBODYS, stop=["a", "b"], logit_bias={"1": 2.5}, metadata={"a": "b"}, max_tokens=5, seed=7, unknown=[{}, [1.5]]),
]
TYPES: dict[str, list[Any]] = {
    "model": [None, 1, [], {}, True, ""],
    "messages": [None, "x", {}, 1, [], [1], ["x"], [{}], [{"role": 5}], [{"role": "user", "content": 5}], [[]]],
    "stream": ["true", 1, [], {}, 0.5],
    "temperature": ["1", [], {}, True],
    "n": ["1", 0, -1, 1.5, 10**20, [], True],
    "max_tokens": ["1", 0, -5, 2.5, {}],
    "stop": [1, {}, [1], [None], True],
    "tools": ["x", {}, [1], 1],
    "functions": ["x", {}, [1], 5, True],
    "function_call": [1, []],
    "logit_bias": [[], "x", {"a": "b"}],
    "response_format": ["json", [], 1],
    "stream_options": [[], "x", {"include_usage": 1}],
    "user": [1, [], {}],
}
PIECES = [
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\\",
    b"\x00",
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\\ud800",
    b"NaN",
    b"-",
    b"1e999",
]


def malformed(chance: random.Random) -> bytes:
    """One body, broken in one of nine ways."""
    fields = dict(chance.choice(VALID))
    raw = json.dumps(fields, ensure_ascii=chance.random() < 0.5).encode()
    place = chance.randrange(1, len(raw) - 1)
    match chance.randrange(9):
        case 0:
            return raw[:place]
        case 1:
            name = chance.choice(list(TYPES))
            return json.dumps(fields | {name: chance.choice(TYPES[name])}).encode()
        case 2:
            return chance.randbytes(chance.randrange(400))
        case 3:
            return raw[:place] + chance.choice(PIECES) * chance.randrange(1, 4) + raw[place:]
        case 4:
            return bytes(byte ^ (1 << chance.randrange(8)) if chance.random() < 0.02 else byte for byte in raw)
        case 5:
            depth = chance.choice([65, 100, 500, 1000, 5000])
            opening, closing = chance.choice([(b"[", b"]"), (b'{"a":', b"}")])
            return raw[:-1] + b',"deep":' + opening * depth + b"1" + closing * (depth - chance.randrange(2)) + b"}"
        case 6:
            name = chance.choice(list(fields))
            return raw[:-1] + b"," + json.dumps({name: fields[name]}).encode()[1:]
        case 7:
            missing = chance.choice(["model", "messages"])
            return json.dumps({name: value for name, value in fields.items() if name != missing}).encode()
        case _:
            return raw + chance.choice([raw, b"x", b"\x00", b"}", b",", b"null"])


class Gateway:
    """`sentinel serve` in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.port = port

    def resident(self) -> int:
        """Bytes of memory."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    async def send(self, bodies: list[bytes], *, headers: str = "") -> list[tuple[int, bytes]]:
        """Statuses and bodies of the answers to all, over a few connections that are kept."""
        answers: list[tuple[int, bytes]] = []
        waiting = iter(bodies)
        await asyncio.gather(*(self._send_some(waiting, answers, headers) for _ in range(CONNECTIONS)))
        assert len(answers) == len(bodies)
        return answers

    async def _send_some(self, waiting, answers, headers) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 22)
        for body in waiting:
            writer.write(post(body, headers=headers))
            async with asyncio.timeout(DEADLINE):
                head = await reader.readuntil(b"\r\n\r\n")
                if b"\r\ncontent-type: text/event-stream" in head:
                    answer = await reader.readuntil(b"\r\n0\r\n\r\n")
                    assert b"data: [DONE]" in answer, body
                else:
                    assert b"\r\ncontent-type: application/json\r\n" in head
                    answer = await reader.readexactly(int(LENGTH.search(head)[1]))
            answers.append((int(head[9:12]), answer))
        writer.close()
        await writer.wait_closed()

    async def stop(self) -> None:
        """It ends as it should, and has had nothing to complain of."""
        self.process.send_signal(signal.SIGTERM)
        out, err = await self.process.communicate()
        assert self.process.returncode == 0
        assert out == b"", "nothing was worth a warning"
        assert b"Traceback" not in err

    async def get(self, path: str) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        body = await reader.read()
        writer.close()
        await writer.wait_closed()
        return body.decode()


@pytest.fixture
async def gateway(tmp_path) -> AsyncIterator[Gateway]:
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "COVERAGE_PROCESS_CONFIG") if name in os.environ}
    environ = kept | {"HOME": str(tmp_path), "PORT": "0", "LOG_LEVEL": "warn"}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sentinel_gateway", "serve"), cwd=tmp_path, env=environ, stdout=pipe, stderr=pipe
    )
    greeting = (await process.stderr.readline()).decode()
    try:
        yield Gateway(process, int(re.search(r"http://127\.0\.0\.1:(\d+)", greeting)[1]))
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_ten_thousand_malformed_bodies(gateway):
    chance = random.Random(20_261_121)
    await gateway.send([malformed(chance) for _ in range(WARM_UP)])
    before = gateway.resident()
    bodies = [malformed(chance) for _ in range(BODIES)]
    answers = await gateway.send(bodies)
    after = gateway.resident()

    assert {status for status, _ in answers} == {400, 404}
    assert sum(status == 400 for status, _ in answers) > 0.9 * BODIES, "few are wrong by their model's name alone"
    for _, raw in answers:
        check_error(raw)
    assert after - before < max(GROWTH * before, GROWTH_BYTES), f"{before} -> {after} bytes"

    metrics = await gateway.get("/metrics")
    refused = re.findall(rf'requests_total{{method="POST",route="{CHAT}",status="(\d+)"}} (\S+)', metrics)
    assert sum(float(count) for _, count in refused) == WARM_UP + BODIES
    assert "sentinel_in_flight 0.0" in metrics
    assert "active_connections 1.0" in metrics
    await gateway.stop()


def check_error(raw: bytes) -> None:
    error = json.loads(raw)["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["type"] == "invalid_request_error"


async def test_bodies_grown_from_openais_own_types(gateway):
    """Damaged below what the gateway itself looks at, they reach the key, the model and the answer."""
    chance = random.Random(5)
    bodies = [json.dumps(grown.body(chance, "demo")).encode() for _ in range(GROWN)]
    answers = await gateway.send(bodies, headers="Cache-Control: no-store\r\n")
    assert {status for status, _ in answers} == {200, 400, 404}
    assert sum(status == 200 for status, _ in answers) > GROWN / 10, "few were answered"
    assert sum(status == 400 for status, _ in answers) > GROWN / 2, "few were damaged"
    for status, raw in answers:
        if status != 200:
            check_error(raw)
    await gateway.stop()
