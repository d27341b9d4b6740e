"""Good requests with random damage to line, headers, framing, body or upgrade. Its number makes each case again."""

import asyncio
import random

import h11
import pytest

from tests.server import conftest
from tests.server.conftest import DEADLINE, parse

AT_ONCE = 50
LAST = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
CHAT = b'{"model": "demo", "stream": true, "messages": [{"role": "user", "content": "Hello"}]}'


def post(body: bytes, path: bytes, headers: bytes = b"") -> bytes:
    return conftest.post(body, path, headers).replace(b"Host: a", b"Host: localhost")


GOOD = [
    b"GET /echo?q=1 HTTP/1.1\r\nHost: localhost:80\r\nAccept: */*\r\n\r\n",
    b"GET http://localhost/stream HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: mine\r\n\r\n",
    b"GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    post(b'{"model": "demo"}', b"/v1/chat/completions", b"Authorization: Bearer sk-1\r\n"),
    post(CHAT, b"/v1/chat/completions", b"Accept-Encoding: gzip\r\nX-Cache-TTL: 5\r\nX-Cache-Tags: a, b\r\n"),
    post(b"unread", b"/early"),
    b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n6\r\n world\r\n0\r\nT: t\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: a\r\nSec-WebSocket-Protocol: chat\r\n\r\n\x81\x85\x37",
]
TOKENS = [
    b"\r\n", b"\n", b"\r", b"\x00", b" ", b"\t", b":", b",", b";", b"/", b"%", b"%00", b"#", b"?", b"\xff", b"\xc3\xa9", b"\x7f",
    b"0", b"-1", b"99999999999999999999", b"chunked", b"identity", b"close", b"keep-alive", b"upgrade", b"HTTP/1.1", b"HTTP/2.0",
    b"Host: b\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: upgrade\r\n", b"Upgrade: h2c\r\n",
    b"Expect: 100-continue\r\n", b"X: " + b"a" * 5000, b"0\r\n\r\n", b"5\r\nhello\r\n", b"CONNECT", b"OPTIONS *", b"http://",
]  # fmt: skip


def damaged(number: int) -> bytes:
    chance = random.Random(number)
    data = bytearray(chance.choice(GOOD))
    if chance.random() < 0.3:
        data += chance.choice(GOOD)
    for _ in range(chance.choice((1, 1, 1, 2, 6))):
        at, end = sorted((chance.randrange(len(data) + 1), chance.randrange(len(data) + 1)))
        match chance.randrange(6):
            case 0 if data:
                data[at % len(data)] = chance.randrange(256)
            case 1:
                data[at:at] = chance.choice(TOKENS)
            case 2:
                del data[at : min(end, at + 8)]
            case 3:
                data[at:at] = data[at : min(end, at + 40)]
            case 4:
                data[at:at] = chance.randbytes(chance.randrange(1, 6))
            case _:
                data[at : at + 1] = chance.choice(TOKENS)
    return bytes(data) + LAST if chance.random() < 0.9 else bytes(data[: chance.randrange(len(data) + 1)])


async def ask(port: int, numbers: range) -> list[list[int]]:
    """The statuses of the answers to each of these cases, all of which are sound HTTP and complete."""
    places = asyncio.Semaphore(AT_ONCE)
    came = await asyncio.gather(*[_exchange(port, damaged(number), places) for number in numbers])
    return [_statuses(number, data) for number, data in zip(numbers, came, strict=True)]


async def _exchange(port: int, sent: bytes, places: asyncio.Semaphore) -> bytes:
    async with places, asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            half = len(sent) // 2
            writer.write(sent[:half])
            await asyncio.sleep(0)
            writer.write(sent[half:])
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.transport.abort()


def _statuses(number: int, data: bytes) -> list[int]:
    try:
        answers = parse(data)
    except h11.RemoteProtocolError as error:
        pytest.fail(f"case {number}: {error}: {data!r}")
    assert all(answer.complete for answer in answers), f"case {number}"
    return [answer.status for answer in answers]
