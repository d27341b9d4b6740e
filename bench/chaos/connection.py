"""One client connection: reads requests, plays the plan of each answer, notices when the client hangs up. Nothing about chat."""

import asyncio
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Protocol, cast

import httptools

from bench.chaos.call import Call
from bench.chaos.reply import Part, Reply

LET_IT_ARRIVE: Final = 0.005
"""Seconds between the last write and a reset, which would overtake it."""
LINGER_NOT: Final = struct.pack("ii", 1, 0)
BAD_REQUEST: Final = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Request(NamedTuple):
    """One HTTP request, complete."""

    method: str
    path: str
    headers: list[tuple[bytes, bytes]]
    body: bytes
    keep_alive: bool


class Application(Protocol):
    """What answers the requests."""

    def answer(self, request: Request) -> tuple[Call, Reply]:
        """Decide on the answer; the connection then keeps the call up to date."""
        ...


class Connection(asyncio.Protocol):
    """Answers one request after the other; pipelined ones wait."""

    def __init__(self, application: Application, connections: set["Connection"]) -> None:
        self._application = application
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Request] = deque()
        self._transport: asyncio.Transport
        self._call: Call
        self._busy = False
        self._keep_alive = True
        self._parts: Iterator[Part] = iter(())
        self._ending = "keep"
        self._timer: asyncio.Handle | None = None
        self._pausing = False
        self._due = 0.0
        self._writable = True

    def __repr__(self) -> str:
        state = f"answering #{self._call.sequence}" if self._busy else "idle"
        return f"<Connection {state}, {len(self._waiting)} waiting>"

    def abort(self) -> None:
        """Drop the connection, whatever it is doing; the log tells this from a client that hung up."""
        if self._busy:
            self._end(completed=False)
        self._transport.abort()

    def go_on(self) -> None:
        """End the pause that the answer is in, if it is in one; the next one is kept."""
        if self._pausing and self._timer is not None:
            self._timer.cancel()
            self._due = self._loop.time()
            self._continue()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.write(BAD_REQUEST)
            self._transport.close()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._busy:
            self._end(completed=False)
            self._call.closed_by_peer_at = self._call.ended

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        if self._busy and self._timer is None:
            self._play()

    # httptools

    def on_message_begin(self) -> None:
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = b""

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        method = self._parser.get_method().decode()
        self._waiting.append(
            Request(method, self._url.decode("latin-1"), self._headers, self._body, self._parser.should_keep_alive())
        )
        if not self._busy:
            self._answer_next()

    # playing

    def _answer_next(self) -> None:
        request = self._waiting.popleft()
        self._keep_alive = request.keep_alive
        self._busy = True
        self._call, reply = self._application.answer(request)
        self._call.status = reply.status
        self._parts, self._ending = reply.parts, reply.ending
        self._due = self._loop.time()
        self._play()

    def _play(self) -> None:
        """Write parts until one is due later, the client is slow, or none is left."""
        while self._writable:
            part = next(self._parts, None)
            if part is None:
                self._finish()
                return
            if part.pause is not None:
                self._held = part
                self._pausing = True
                self._await(part.pause, self._continue)
                return
            self._write(part)

    def _continue(self) -> None:
        self._timer, self._pausing = None, False
        self._write(self._held)
        self._play()

    def _await(self, pause: float, then: Callable[[], None]) -> None:
        # Due times add up from the start, so that late timers don't slow the pace down.
        self._due = max(self._due + pause, self._loop.time())
        self._timer = self._loop.call_at(self._due, then) if pause else self._loop.call_soon(then)

    def _write(self, part: Part) -> None:
        if part.data:
            self._transport.write(part.data)
        self._call.chunks_sent += part.chunks
        self._call.tokens_sent += part.tokens

    def _finish(self) -> None:
        match self._ending:
            case "keep":
                self._end(completed=True)
                if not self._keep_alive:
                    self._transport.close()
                elif self._waiting:
                    self._answer_next()
            case "fin":
                self._end(completed=False)
                self._transport.close()
            case "rst":
                self._await(LET_IT_ARRIVE, self._reset)
            case "stall":
                pass

    def _reset(self) -> None:
        self._end(completed=False)
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        self._transport.abort()

    def _end(self, *, completed: bool) -> None:
        self._busy = False
        self._call.completed = completed
        self._call.ended = time.monotonic()
