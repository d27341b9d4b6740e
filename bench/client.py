"""One HTTP/1.1 connection that takes the time of each exchange.

Does as little as Python allows, so that what it measures is the server.
"""

import asyncio
import time
from typing import Final, NamedTuple, cast

import httptools

OK: Final = 200
DONE: Final = b"data: [DONE]\n\n"


class Exchange(NamedTuple):
    """One request and what came back. Times are `time.perf_counter()`; 0 for what did not happen."""

    problem: str
    """Empty for a 200 that was complete; else the status, or what went wrong."""
    sent: float
    first_byte: float
    """First byte of the body, not of the head."""
    last_byte: float
    events: int = 0
    """Server-sent events."""
    first_event: float = 0.0
    last_event: float = 0.0
    wait: float = 0.0
    """Seconds after which the server wants to be asked again; 0 if it said nothing."""


class ClientConnection(asyncio.Protocol):
    """Sends one request after the other."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._answer: asyncio.Future[Exchange] | None = None
        self._parser: httptools.HttpResponseParser
        self._sent = 0.0
        self.closed = False

    def __repr__(self) -> str:
        state = "closed" if self.closed else "idle" if self._answer is None else "waiting"
        return f"<ClientConnection {state}>"

    async def exchange(self, message: bytes) -> Exchange:
        """Send one request, wait for all of its answer."""
        self._answer = self._loop.create_future()
        self._parser = httptools.HttpResponseParser(self)
        self._status, self._events, self._tail, self._streamed = 0, 0, b"", False
        self._first_byte = self._first_event = self._last_event = self._wait = 0.0
        self._sent = time.perf_counter()
        self._transport.write(message)
        return await self._answer

    def give_up(self, before: float) -> None:
        """Drop the connection if it has been waiting for an answer since a moment `before`."""
        if self._answer is not None and self._sent < before:
            self._settle("timeout")
            self.close()

    def close(self) -> None:
        """Close the connection at once."""
        # Already now: the transport tells of it a turn later, and the next request may come before.
        self.closed = True
        self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._settle("not HTTP")
            self.close()

    def connection_lost(self, _exc: Exception | None) -> None:
        self.closed = True
        self._settle("connection lost")

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        known = name.lower()
        if known == b"content-type":
            self._streamed = value.startswith(b"text/event-stream")
        elif known == b"retry-after-ms":
            self._wait = int(value) / 1000

    def on_body(self, body: bytes) -> None:
        now = time.perf_counter()
        self._first_byte = self._first_byte or now
        if not self._streamed:
            return
        # An event's end may lie on the border of two reads.
        events = body.count(b"\n\n") + (self._tail.endswith(b"\n") and body.startswith(b"\n"))
        if events:
            self._first_event = self._first_event or now
            self._last_event = now
            self._events += events
        self._tail = (self._tail + body)[-len(DONE) :]

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status != OK:
            self._settle(str(status))
        else:
            self._settle("no [DONE]" if self._streamed and self._tail != DONE else "")
        if not self._parser.should_keep_alive():
            self.close()

    def _settle(self, problem: str) -> None:
        if self._answer is None:
            return
        answer, self._answer = self._answer, None
        if not answer.done():
            now = time.perf_counter()
            times = self._events, self._first_event, self._last_event
            answer.set_result(Exchange(problem, self._sent, self._first_byte, now, *times, self._wait))
