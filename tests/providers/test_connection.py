"""One connection, below the client: every way in which an answer may come, and h11's opinion of each."""

import asyncio
import time
from collections.abc import Callable
from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.providers._connection import (
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    READ_AHEAD_BYTES,
    READ_SIZE,
    BrokenOff,
    Connection,
    Disconnected,
    Headers,
    NotHttp,
    Origin,
    TransportError,
)

ORIGIN = Origin("provider", 80, tls=False)
REQUEST = b"POST / HTTP/1.1\r\nHost: provider\r\nContent-Length: 0\r\n\r\n"


class Transport(asyncio.Transport):
    """Notes what is done with it."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.aborted = False
        self.reading = True
        self.unsent = 0

    def write(self, data):
        self.written.append(bytes(data))

    def abort(self):
        self.aborted = True

    def is_closing(self):
        return self.aborted

    def get_write_buffer_size(self):
        return self.unsent

    def set_write_buffer_limits(self, high=None, low=None):
        pass

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True


def come(connection: Connection, data: bytes) -> None:
    """These bytes have come: the loop says so, piece by piece."""
    for start in range(0, len(data), READ_SIZE):
        if connection.is_open:
            piece = data[start : start + READ_SIZE]
            connection.get_buffer(-1)[: len(piece)] = piece
            connection.buffer_updated(len(piece))


class Exchange:
    """A connection that has been asked, on a transport that is moved by hand."""

    def __init__(self) -> None:
        self.lost: list[Connection] = []
        self.connection = Connection(ORIGIN, self.lost.append, memoryview(bytearray(READ_SIZE)))
        self.transport = Transport()
        self.connection.connection_made(self.transport)
        self.connection.ask(REQUEST, b"")

    def end(self, error: Exception | None = None) -> None:
        """The provider ends it; with an `error` it breaks."""
        if error is None:
            self.connection.eof_received()
        self.connection.connection_lost(error)

    async def head(self) -> tuple[int, Headers]:
        """Status and headers."""
        while not self.connection.status:
            await self.connection.news()
        return self.connection.status, self.connection.headers

    async def answer(self) -> tuple[int, Headers, bytes]:
        """All of it; never waits for more than has come."""
        async with asyncio.timeout(30):
            status, headers = await self.head()
            body = b""
            while piece := await self.connection.read():
                body += piece
        return status, headers, body


def in_loop(test: Callable) -> Callable:
    """Hypothesis and the plugin for async tests don't meet."""

    def run(**arguments):
        return asyncio.run(test(**arguments))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def by_h11(raw: bytes, *, closed: bool) -> tuple[int, Headers, bytes] | None:
    """The same, as h11 reads it; None if it finds a fault or no end."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="POST", target="/", headers=[("Host", "provider"), ("Content-Length", "0")]))
    client.send(h11.EndOfMessage())
    status, headers, body = 0, {}, b""
    try:
        client.receive_data(raw)
        if closed:
            client.receive_data(b"")
        while True:
            match client.next_event():
                case h11.Response() as response:
                    status = response.status_code
                    for name, value in response.headers:
                        headers[name] = headers[name] + b", " + value if name in headers else value
                case h11.Data(data=data):
                    body += bytes(data)
                case h11.EndOfMessage():
                    return status, headers, body
                case h11.NEED_DATA | h11.PAUSED | h11.ConnectionClosed():
                    return None
    except h11.RemoteProtocolError:
        return None


bodies = st.binary(max_size=60)


@st.composite
def answers(draw) -> tuple[bytes, bool]:
    """A sound answer as a server may write it, and whether the connection's end is its end."""
    status = draw(st.sampled_from([200, 200, 200, 400, 429, 500, 204]))
    lines = [f"HTTP/1.1 {status} Any Reason"]
    lines += [f"{name}: {value}" for name, value in draw(st.lists(st.sampled_from([("x-a", "1"), ("X-A", "2"), ("y", "")])))]
    pieces = draw(st.lists(bodies, max_size=4))
    interim = draw(st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"]))
    framing = "none" if status == 204 else draw(st.sampled_from(["length", "chunked", "close"]))
    body = b""
    if framing == "length":
        body = b"".join(pieces)
        lines.append(f"Content-Length: {len(body)}")
    elif framing == "chunked":
        lines.append("Transfer-Encoding: chunked")
        body = b"".join(b"%x;e=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece) + b"0\r\nt: 1\r\n\r\n"
    elif framing == "close":
        lines.append("Connection: close")
        body = b"".join(pieces)
    return interim + "\r\n".join([*lines, "", ""]).encode() + body, framing == "close"


@given(said=answers(), data=st.data())
@in_loop
async def test_an_answer_is_the_same_however_it_is_cut(said, data):
    raw, closes = said
    cuts = sorted(data.draw(st.sets(st.integers(0, len(raw)), max_size=8)) | {0, len(raw)})
    exchange = Exchange()
    for start, end in pairwise(cuts):
        come(exchange.connection, raw[start:end])
    if closes:
        exchange.end()
    expected = by_h11(raw, closed=closes)
    assert expected is not None, "the test made an answer that is not sound"
    status, headers, body = await exchange.answer()
    assert (status, body) == (expected[0], expected[2])
    assert headers == expected[1]
    assert exchange.connection.reusable is (not closes)


@pytest.mark.parametrize("framing", ["connection: close", "connection: keep-alive", "transfer-encoding: Identity"])
async def test_without_a_frame_the_end_of_the_connection_is_the_end_of_the_answer(framing):
    exchange = Exchange()
    come(exchange.connection, f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\nall of it".encode())
    exchange.end()
    assert (await exchange.answer())[2] == b"all of it"
    assert exchange.connection.at_end


@given(said=answers(), data=st.data())
@in_loop
async def test_what_is_piped_is_what_is_read(said, data):
    raw, closes = said
    cuts = sorted(data.draw(st.sets(st.integers(0, len(raw)), max_size=8)) | {0, len(raw)})
    wants = data.draw(st.lists(st.booleans(), min_size=8, max_size=8))
    exchange, body = Exchange(), b""

    def take(piece):
        nonlocal body
        body += piece
        return wants.pop() if wants else True

    async def read():
        await exchange.head()
        await exchange.connection.pipe(take)
        while piece := await exchange.connection.read():
            take(piece)
            await exchange.connection.pipe(take)

    reading = asyncio.ensure_future(read())
    for start, end in pairwise(cuts):
        for _ in range(data.draw(st.integers(0, 3))):
            await asyncio.sleep(0)
        come(exchange.connection, raw[start:end])
    if closes:
        exchange.end()
    async with asyncio.timeout(30):
        await reading
    expected = by_h11(raw, closed=closes)
    assert expected is not None
    assert body == expected[2]


@given(said=answers(), data=st.data())
@in_loop
async def test_an_answer_that_ends_too_early_is_never_whole(said, data):
    raw, closes = said
    until = data.draw(st.integers(0, len(raw) - 1))
    exchange = Exchange()
    come(exchange.connection, raw[:until])
    whole = by_h11(raw[:until], closed=True)
    exchange.end()
    if whole is None:
        with pytest.raises((Disconnected, BrokenOff)):
            await exchange.answer()
    else:
        assert closes, "only the connection's end can have ended it"
        assert (await exchange.answer())[2] == whole[2]
    assert not exchange.connection.reusable
    assert exchange.lost == [exchange.connection]


@given(noise=st.binary(min_size=1, max_size=200), said=answers(), place=st.integers(0, 400))
@in_loop
async def test_noise_is_a_fault_or_an_answer_and_never_anything_else(noise, said, place):
    raw, _ = said
    exchange = Exchange()
    for data in (raw[: place % len(raw)], noise, raw[place % len(raw) :]):
        if data and not exchange.transport.aborted:
            come(exchange.connection, data)
    exchange.end()
    try:
        await exchange.answer()
    except TransportError:
        assert not exchange.connection.reusable


pytestmark = pytest.mark.anyio


async def test_the_request_leaves_in_one_write_unless_it_is_long():
    exchange = Exchange()
    assert exchange.transport.written == [REQUEST]
    exchange = Exchange()
    exchange.transport.written.clear()
    exchange.connection.ask(b"head", b"x" * 100_000)
    assert exchange.transport.written == [b"head", b"x" * 100_000]


async def test_a_failure_reaches_who_waits_and_closes():
    exchange = Exchange()
    waiting = asyncio.ensure_future(exchange.head())
    await asyncio.sleep(0)
    exchange.connection.fail(LookupError("late"))
    with pytest.raises(LookupError):
        await waiting
    assert exchange.transport.aborted


async def test_what_came_before_a_failure_is_read_first():
    exchange = Exchange()
    come(exchange.connection, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    exchange.end(ConnectionResetError())
    assert await exchange.head() == (200, {b"content-length": b"9"})
    assert await exchange.connection.read() == b"abc"
    with pytest.raises(BrokenOff):
        await exchange.connection.read()


class Pipe:
    """A connection whose answer has begun, and who is given the bytes of its body as they arrive."""

    def __init__(self, wants: bool = True, length: int = 6) -> None:
        self.exchange, self.came, self.wants = Exchange(), [], wants
        come(self.exchange.connection, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length)

    def __call__(self, data: bytes) -> bool:
        self.came.append(data)
        if isinstance(self.wants, Exception):
            raise self.wants
        return self.wants

    async def begin(self) -> "asyncio.Task[None]":
        piping = asyncio.create_task(self.exchange.connection.pipe(self))
        await asyncio.sleep(0)
        return piping


async def test_bytes_are_piped_the_moment_they_arrive_and_who_pipes_sleeps_on():
    pipe = Pipe()
    piping, connection = await pipe.begin(), pipe.exchange.connection
    come(connection, b"ab")
    come(connection, b"cd")
    assert pipe.came == [b"ab", b"cd"], "without a turn of the loop"
    await asyncio.sleep(0)
    assert not piping.done()
    come(connection, b"ef")
    await piping
    assert pipe.came == [b"ab", b"cd", b"ef"]
    assert await connection.read() == b""


async def test_who_wants_no_more_is_given_no_more():
    pipe = Pipe(wants=False)
    piping, connection = await pipe.begin(), pipe.exchange.connection
    come(connection, b"ab")
    come(connection, b"cd")
    await piping
    assert pipe.came == [b"ab"]
    await connection.pipe(pipe)
    assert pipe.came == [b"ab"], "what waits already is to be read"
    assert await connection.read() == b"cd"
    reading = asyncio.create_task(connection.read())
    await asyncio.sleep(0)
    come(connection, b"ef")
    assert await reading == b"ef"


async def test_of_a_provider_who_sends_as_fast_as_it_is_read_little_is_read_in_a_turn():
    pipe = Pipe(length=99 * READ_SIZE)
    piping, connection, transport = await pipe.begin(), pipe.exchange.connection, pipe.exchange.transport
    reads = 0
    while transport.reading and reads < 32:  # as libuv does in one turn
        come(connection, b"x" * READ_SIZE)
        reads += 1
    assert (reads, pipe.came) == (2, [b"x" * READ_SIZE])
    await piping
    assert await connection.read() == b"x" * READ_SIZE
    assert transport.reading


async def test_a_failure_ends_a_pipe_and_is_told_to_who_reads_on():
    pipe = Pipe()
    piping, connection = await pipe.begin(), pipe.exchange.connection
    come(connection, b"ab")
    pipe.exchange.end(ConnectionResetError())
    await piping
    await connection.pipe(pipe)
    assert pipe.came == [b"ab"]
    with pytest.raises(BrokenOff):
        await connection.read()


async def test_a_fault_of_who_is_given_the_bytes_is_raised_where_the_pipe_is_waited_for():
    pipe = Pipe(wants=LookupError("a fault of ours"))
    piping, connection = await pipe.begin(), pipe.exchange.connection
    come(connection, b"ab")
    come(connection, b"cd")
    with pytest.raises(LookupError):
        await piping
    assert pipe.came == [b"ab"]
    assert not pipe.exchange.transport.aborted
    assert await connection.read() == b"cd"


async def test_a_pipe_that_is_cancelled_loses_nothing():
    pipe = Pipe()
    piping, connection = await pipe.begin(), pipe.exchange.connection
    come(connection, b"ab")
    piping.cancel()
    come(connection, b"cd")
    with pytest.raises(asyncio.CancelledError):
        await piping
    assert pipe.came == [b"ab"]
    assert await connection.read() == b"cd"


async def test_a_slow_reader_makes_the_provider_wait():
    exchange = Exchange()
    come(exchange.connection, b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n")
    for _ in range(3):
        come(exchange.connection, b"x" * (READ_AHEAD_BYTES // 2))
    assert not exchange.transport.reading
    assert len(await exchange.connection.read()) == 3 * (READ_AHEAD_BYTES // 2)
    assert exchange.transport.reading


async def test_a_long_head_stops_nobody_who_has_nothing_to_read():
    exchange = Exchange()
    long = b"x: " + b"y" * 2 * READ_AHEAD_BYTES
    come(exchange.connection, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n%b\r\n\r\n" % long)
    assert exchange.transport.reading
    come(exchange.connection, b"ok")
    assert await exchange.connection.read() == b"ok"


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000,
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * MAX_HEAD_BYTES,
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"x-%d: y\r\n" % number for number in range(MAX_HEADERS + 1)) + b"\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 000 X\r\n\r\n",
        b"HTTP/1.1 000 X\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\n" + b"a:\r\n" * (MAX_HEADERS + 1) + b"\r\n",
    ],
)
async def test_what_no_sane_provider_says(said):
    exchange = Exchange()
    come(exchange.connection, said)
    exchange.end()
    with pytest.raises(NotHttp):
        await exchange.head()
    assert exchange.transport.aborted


async def test_an_endless_row_of_interim_answers_ends():
    exchange = Exchange()
    for _ in range(10_000):
        if exchange.transport.aborted:
            break
        come(exchange.connection, b"HTTP/1.1 102 Processing\r\n\r\n")
    with pytest.raises(NotHttp):
        await exchange.head()


@pytest.mark.parametrize("when", ["idle", "behind an answer"])
async def test_what_nobody_asked_for_closes_the_connection(when):
    exchange = Exchange()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    if when == "idle":
        come(exchange.connection, answer)
        assert (await exchange.answer())[2] == b"ok"
        come(exchange.connection, answer)
    else:
        come(exchange.connection, answer + answer)
        assert (await exchange.answer())[2] == b"ok"
    assert exchange.transport.aborted
    assert not exchange.connection.is_open


async def test_a_connection_that_ended_in_the_pool_is_found_out_when_asked():
    exchange = Exchange()
    exchange.connection.abort()
    exchange.connection.ask(REQUEST, b"")
    with pytest.raises(Disconnected):
        await exchange.head()
    assert not exchange.connection.answered


async def test_states_are_told():
    exchange = Exchange()
    assert repr(exchange.connection) == "<Connection provider:80 waiting>"
    come(exchange.connection, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
    assert repr(exchange.connection) == "<Connection provider:80 200>"
    come(exchange.connection, b"ok")
    assert repr(exchange.connection) == "<Connection provider:80 200>"
    assert await exchange.connection.read() == b"ok"
    assert repr(exchange.connection) == "<Connection provider:80 idle>"


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"


@pytest.mark.parametrize("endless", [b"a:\r\n" * 384_000, b"a: " + b"y" * 1_500_000])
async def test_trailers_have_the_bounds_of_headers(endless):
    exchange = Exchange()
    started = time.thread_time()
    for data in (CHUNKED, *(endless[at : at + 65_536] for at in range(0, len(endless), 65_536))):
        if not exchange.transport.aborted:
            come(exchange.connection, data)
    assert exchange.transport.aborted
    assert time.thread_time() - started < 3, "it once took 27 s"
    assert (await exchange.head())[1] == {b"transfer-encoding": b"chunked"}
    assert await exchange.connection.read() == b"ok"
    with pytest.raises(NotHttp):
        await exchange.connection.read()


async def test_a_trailer_is_no_header():
    exchange = Exchange()
    come(exchange.connection, CHUNKED + b"content-encoding: gzip\r\n\r\n")
    assert (await exchange.answer())[1:] == ({b"transfer-encoding": b"chunked"}, b"ok")


async def test_a_connection_whose_request_has_not_left_is_not_used_again():
    exchange = Exchange()
    exchange.transport.unsent = 1
    come(exchange.connection, b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
    assert (await exchange.answer())[::2] == (413, b"no")
    assert not exchange.connection.reusable


async def test_a_body_that_we_end_is_not_whole():
    exchange = Exchange()
    come(exchange.connection, b"HTTP/1.1 200 OK\r\n\r\n{")
    exchange.connection.abort()
    exchange.connection.connection_lost(None)
    assert await exchange.head() == (200, {})
    assert await exchange.connection.read() == b"{"
    with pytest.raises(BrokenOff):
        await exchange.connection.read()
