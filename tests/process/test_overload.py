"""A program that has more to do than it can says so: what times the turns of its loop is switched on."""

import asyncio
import json

import pytest

from tests.process.conftest import DEADLINE

pytestmark = pytest.mark.anyio

CROWD = 300
"""All ask again as soon as they have an answer: however fast the machine is, each turn of the loop holds a part of them."""
BODY = json.dumps({"model": "none", "messages": [{"role": "user", "content": str(number)} for number in range(4_000)]}).encode()
REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)


async def keep_asking(port: int) -> None:
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            while True:
                writer.write(REQUEST)
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.partition(b":")[2]))
        except (ConnectionError, asyncio.IncompleteReadError):  # who is refused before the body is read has to connect anew
            continue
        finally:
            writer.transport.abort()


async def test_a_crowd_that_stays_is_noticed(serve) -> None:
    program = serve(SENTINEL_CACHE__SEMANTIC__ENABLED="false")
    crowd = [asyncio.create_task(keep_asking(program.port)) for _ in range(CROWD)]
    try:
        async with asyncio.timeout(5 * DEADLINE):
            while '"overload_began"' not in program.lines.read_text():
                assert not any(task.done() for task in crowd)
                await asyncio.sleep(0.1)
    finally:
        for task in crowd:
            task.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)
        await asyncio.sleep(0)  # transports close in the next turn
