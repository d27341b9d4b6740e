"""The proxy does to a connection what it says, and counts it: the tests of outages stand on it."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest

from tests.faults.proxy import Fault, FaultProxy
from tests.gateway import Wire, until
from tests.still import awake

pytestmark = pytest.mark.anyio


class Echo:
    """A server that says what it is told, and remembers it."""

    def __init__(self) -> None:
        self.heard = b""
        self.ended: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        how = "closed"
        try:
            while data := await reader.read(1 << 16):
                self.heard += data
                writer.write(data)
        except ConnectionResetError:
            how = "reset"
        self.ended.append(how)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def proxy(echo) -> AsyncIterator[FaultProxy]:
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    async with server:
        async with FaultProxy(server.sockets[0].getsockname()[1]) as proxy:
            yield proxy
        assert proxy.open == 0
        await until(lambda: len(echo.ended) == proxy.did["connected"])


@pytest.fixture
async def connect(proxy) -> AsyncIterator[Callable[[], Awaitable[Wire]]]:
    wires = []

    async def connect() -> Wire:
        wires.append(Wire(*await asyncio.open_connection("127.0.0.1", proxy.port)))
        return wires[-1]

    yield connect
    for wire in wires:
        wire.abort()


async def said(wire, size: int) -> bytes:
    async with asyncio.timeout(30):
        return await wire.reader.readexactly(size)


async def echoed(wire, data: bytes) -> float:
    """Say something and hear it again; seconds that it took."""
    start = time.monotonic()
    wire.send(data)
    assert await said(wire, len(data)) == data
    return time.monotonic() - start


async def silent(wire, seconds: float = 0.15) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await wire.reader.read(1)
    except TimeoutError:
        return True
    return False


async def is_reset(wire) -> bool:
    try:
        async with asyncio.timeout(30):
            await wire.reader.read()
    except ConnectionResetError:
        return True
    return False


async def test_without_a_fault_everything_passes(connect, proxy, echo):
    wires = [await connect() for _ in range(20)]
    much = bytes(range(256)) * 512
    await asyncio.gather(*(echoed(wire, much) for wire in wires))
    assert len(echo.heard) == 20 * len(much)
    assert proxy.open == 20
    assert set(proxy.did) == {"connected"}
    for wire in wires:
        await wire.close()
    await until(lambda: proxy.open == 0)
    assert echo.ended == ["closed"] * 20


async def test_delay_and_jitter_come_later_in_the_same_order(connect, proxy):
    wire = await connect()
    proxy.answers.fault = Fault(delay=0.1, jitter=0.05)
    assert await echoed(wire, b"one") >= 0.1
    with awake() as clock:
        start = clock()
        for number in range(50):
            wire.send(b"%02d" % number)
            await asyncio.sleep(0.001)
        assert await said(wire, 100) == b"".join(b"%02d" % number for number in range(50))
        delayed = proxy.did["delayed"]
        assert delayed > 10
        assert clock() - start < 0.1 * delayed / 2 + 0.5, "delays of several batches don't add up"
    proxy.heal()
    await echoed(wire, b"two")
    assert proxy.did["delayed"] == delayed


async def test_requests_are_delayed_apart_from_answers(connect, proxy, echo):
    wire = await connect()
    proxy.requests.fault = Fault(delay=0.1)
    start = time.monotonic()
    wire.send(b"one")
    await until(lambda: echo.heard == b"one")
    assert time.monotonic() - start >= 0.1
    assert await said(wire, 3) == b"one"
    assert proxy.did["delayed"] == 1


async def test_frozen_bytes_stay_and_pass_later(connect, proxy, echo):
    wire, other = await connect(), await connect()
    await echoed(wire, b"before")
    proxy.requests.fault = proxy.answers.fault = Fault(freeze=True)
    wire.send(b"meanwhile")
    other.send(b"and I")
    assert await silent(wire)
    assert echo.heard == b"before"
    proxy.heal()
    assert await said(wire, 9) == b"meanwhile"
    assert await said(other, 5) == b"and I"
    assert proxy.did["frozen"] == 2


async def test_only_answers_are_frozen(connect, proxy, echo):
    wire = await connect()
    proxy.answers.fault = Fault(freeze=True)
    wire.send(b"done?")
    await until(lambda: echo.heard == b"done?")
    assert await silent(wire)
    proxy.heal()
    assert await said(wire, 5) == b"done?"


async def test_refused(connect, proxy):
    open_before = await connect()
    await echoed(open_before, b"a")
    await proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await connect()
    await echoed(open_before, b"b")
    assert proxy.did == {"connected": 1, "refusing": 1}
    await proxy.accept()
    await echoed(await connect(), b"c")


async def test_a_black_hole_answers_nobody(connect, proxy):
    open_before = await connect()
    await echoed(open_before, b"a")
    await proxy.blackhole()
    for _ in range(3):
        with socket.socket() as knocking:
            knocking.setblocking(False)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await asyncio.get_running_loop().sock_connect(knocking, ("127.0.0.1", proxy.port))
    await echoed(open_before, b"b")
    assert proxy.did == {"connected": 1, "unanswering": 1}
    await proxy.accept()
    await echoed(await connect(), b"c")


async def test_reset_ends_both_sides(connect, proxy, echo):
    wires = [await connect() for _ in range(3)]
    for wire in wires:
        await echoed(wire, b"a")
    await proxy.reset()
    assert [await is_reset(wire) for wire in wires] == [True] * 3
    assert proxy.did["reset"] == 3
    await until(lambda: echo.ended == ["reset"] * 3)
    await echoed(await connect(), b"b")


async def test_one_batch_in_so_many_is_reset(connect, proxy, echo):
    proxy.answers.fault = Fault(reset=0.1)
    ended = passed = 0
    for _ in range(30):
        wire = await connect()
        try:
            for _ in range(20):
                await echoed(wire, b"a")
                passed += 1
        except (ConnectionResetError, asyncio.IncompleteReadError):
            ended += 1
        wire.abort()
    assert ended > 15
    assert passed > 3 * ended
    assert proxy.did["reset"] == ended


async def test_what_one_side_breaks_is_broken_for_the_other(connect, proxy, echo):
    wire = await connect()
    await echoed(wire, b"a")
    wire.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    wire.abort()
    await until(lambda: echo.ended == ["reset"])
    assert proxy.did == {"connected": 1}


async def test_half_closed_the_other_half_works(connect, proxy, echo):
    wire = await connect()
    await echoed(wire, b"a")
    proxy.half_close()
    assert await said(wire, 0) == b""
    assert await wire.ended()
    wire.send(b"still there?")
    await until(lambda: echo.heard == b"astill there?")
    assert proxy.did["half-closed"] == 1


async def test_trickle_is_byte_by_byte(connect, proxy):
    wire = await connect()
    await echoed(wire, b"a")
    proxy.answers.fault = Fault(trickle=0.01)
    wire.send(b"0123456789")
    pieces = []
    while sum(map(len, pieces)) < 10:
        pieces.append(await wire.read())
    assert len(pieces) > 5
    assert b"".join(pieces) == b"0123456789"
    assert proxy.did["trickled"] == 10


async def test_truncated_after_so_many_bytes(connect, proxy, echo):
    wire = await connect()
    await echoed(wire, b"whole")
    proxy.answers.fault = Fault(truncate=7)
    wire.send(b"abcd")
    assert await said(wire, 4) == b"abcd"
    wire.send(b"efgh")
    assert await said(wire, 3) == b"efg"
    assert await wire.ended()
    assert proxy.did["truncated"] == 1


async def test_garbage_is_as_long_and_other(connect, proxy, echo):
    wire = await connect()
    proxy.answers.fault = Fault(garbage=1.0)
    wire.send(b"$5\r\nhello\r\n")
    assert len(garbled := await said(wire, 11)) == 11
    assert garbled != b"$5\r\nhello\r\n"
    assert echo.heard == b"$5\r\nhello\r\n"
    assert proxy.did["garbled"] == 1
    proxy.heal()
    await echoed(wire, b"a")


async def test_a_server_that_is_away_breaks_who_connects():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with FaultProxy(port) as proxy:
        wire = Wire(*await asyncio.open_connection("127.0.0.1", proxy.port))
        assert await is_reset(wire)
        wire.abort()
        assert proxy.did == {}
        await until(lambda: proxy.open == 0)
