"""Requests mean the same however their bytes are cut into reads: what reaches the app, and every byte that goes back.

The truth is each request alone on a connection of its own, in one read. The same requests, one behind the other on one connection
whose bytes are moved by hand, cut anywhere, with any number of turns of the loop between, are answered with the same bytes.
"""

import asyncio
import re
from itertools import pairwise
from typing import NamedTuple

from hypothesis import example, given, settings
from hypothesis import strategies as st
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.server import ServerState

from sentinel_gateway.api.asgi import DIRECT, Again
from sentinel_gateway.api.connection import GatewayProtocol
from sentinel_gateway.core.record import Record
from tests.server.conftest import GET, PATIENT, App, post

CHUNKED = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
UPGRADE = b"GET /echo HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
NO_HOST = b"GET /echo HTTP/1.1\r\n\r\n"
GOOD = [
    GET,
    b"\r\n" + GET,
    b"HEAD /echo?a=b%20c HTTP/1.1\r\nHost: a\r\nX-Long: " + b"x" * 40 + b"\r\n\r\n",
    b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n",
    UPGRADE,
    post(b'{"a": 1}'),
    post(b""),
    post(b"two", headers=b"Expect: 100-continue\r\n"),
    post(b"never read", b"/early"),
    CHUNKED + b"3\r\nGET\r\n5;e=1\r\n /a\r\n\r\n0\r\n\r\n",
    CHUNKED + b"0\r\nX-Trailer: 1\r\nHost: b\r\n\r\n",
]
LAST = [
    b"GET /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"GET /echo HTTP/1.0\r\n\r\n",
    NO_HOST,
    b"GET /echo HTTP/1.1\r\nHost : a\r\n\r\n",
    b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    post(b"both", headers=b"Transfer-Encoding: chunked\r\n"),
    CHUNKED + b"3\r\nGET\r\nno chunk\r\n",
]
"""After these nothing more is answered."""
DRAWN = re.compile(rb"(x-request-id: |x-sentinel-id: )\S+")


class Line(asyncio.Transport):
    """A connection that is moved by hand: what was written, and whether more may come."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.reading = True
        self.open = True

    def write(self, data):
        self.written += data

    def write_eof(self):
        self.open = False

    def close(self):
        self.open = False

    abort = close

    def is_closing(self):
        return not self.open

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True

    def set_write_buffer_limits(self, high=None, low=None):
        pass


class Watch:
    """Counts nothing."""

    def opened(self) -> None: ...
    def closed(self) -> None: ...
    def refused(self, record: Record) -> None: ...


async def answers(reads: list[bytes], rests: list[int], again: Again | None = None) -> tuple[bytes, set[bytes]]:
    """All that goes back, but for what is drawn; and what the app was told to be all of a request."""
    line, app, told = Line(), App(), set[bytes]()

    async def hear(scope, receive, send):
        if segment := scope["extensions"][DIRECT].segment:
            told.add(segment)
        await app(scope, receive, send)

    server = GatewayProtocol(hear, ServerState(), limits=PATIENT, watch=Watch(), again=again)
    server.connection_made(line)
    for number, read in enumerate(reads):
        for _ in range(rests[number % len(rests)]):
            await asyncio.sleep(0)
        for _ in range(99):  # while it has enough to do, nothing more is read
            if not line.reading:
                await asyncio.sleep(0)
        assert line.reading
        if line.open:
            server.data_received(read)
    for _ in range(30):
        await asyncio.sleep(0)
    server.connection_lost(None)
    await asyncio.sleep(0)
    return DRAWN.sub(rb"\1x", line.written), told


class Case(NamedTuple):
    """Requests, and how they come. `known`: the first of all is answered without being read, if it comes as it is."""

    requests: list[bytes]
    reads: list[bytes]
    rests: list[int]
    known: bool


@st.composite
def cases(draw: st.DrawFn) -> Case:
    requests = [
        *draw(st.lists(st.sampled_from(GOOD), max_size=5)),
        *draw(st.lists(st.sampled_from(LAST), min_size=1, max_size=2)),
    ]
    raw, starts = b"".join(requests), [0]
    for request in requests:
        starts.append(starts[-1] + len(request))
    places = st.one_of(st.sampled_from(starts), st.integers(0, len(raw)))
    cuts = sorted({0, len(raw), *draw(st.lists(places, max_size=10))})
    rests = draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))
    return Case(requests, [raw[start:end] for start, end in pairwise(cuts)], rests, draw(st.booleans()))


async def truth() -> dict[bytes, bytes]:
    """What each request is answered."""
    return {request: (await answers([request], [0]))[0] for request in (*GOOD, *LAST)}


async def compare(case: Case, alone: dict[bytes, bytes]) -> None:
    end = next(place for place, request in enumerate(case.requests) if request in LAST)
    expected = b"".join(alone[request] for request in case.requests[: end + 1])
    answer = alone[GET].removeprefix(STATUS_LINE[200])
    again: Again | None = (lambda data, _: (200, answer) if data == GET else None) if case.known else None
    found, told = await answers(case.reads, case.rests, again)
    assert found == expected
    assert {segment.lstrip(b"\r\n") for segment in told} <= {request.lstrip(b"\r\n") for request in case.requests}


def test_requests_are_answered_the_same_however_their_bytes_are_cut():
    with asyncio.Runner() as runner:
        alone = runner.run(truth())

        @settings(max_examples=60)
        @given(cases())
        @example(Case([GET, LAST[0]], [GET[:-1], GET[-1:] + LAST[0]], [3], known=True))
        @example(Case([UPGRADE, NO_HOST], [UPGRADE + NO_HOST], [0], known=False))
        def holds(case: Case) -> None:
            runner.run(compare(case, alone))

        holds()
