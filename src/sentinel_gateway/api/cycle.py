"""One request and its answer on a connection, as an ASGI app is given them.

An answer may come before the request's body has ended, an HTTP/1.0 caller can't read chunks, and what the app doesn't answer
is answered here in the shape of every other error.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Protocol

import msgspec
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from sentinel_gateway.api.asgi import DIRECT, REFUSED, App, Header, Lines, Scope
from sentinel_gateway.api.exchange import JSON, UNMATCHED, draw_id, error_headers, id_headers, request_id
from sentinel_gateway.api.wire.openai import error_body
from sentinel_gateway.core.record import Record
from sentinel_gateway.errors import InternalError, RequestError

BODILESS: Final = frozenset({204, 304})
"""Statuses whose answer ends with its head, whatever the head says."""
CLOSE: Final = b"connection: close\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"
CHUNKED: Final = b"transfer-encoding: chunked\r\n"
SHORT_BODY: Final = 65536
"""Bytes. A body of this length is read to its end even if nobody wants it; after a longer one the connection is closed."""


class Carrier(Protocol):
    """What a cycle needs of its connection."""

    transport: asyncio.Transport
    flow: FlowControl
    logger: logging.Logger

    @property
    def default_headers(self) -> Lines: ...

    def answered(self) -> None:
        """The answer is complete."""
        ...

    def linger(self) -> None:
        """Close, but go on reading for a moment."""
        ...

    def end_with(self, last: bytes) -> None:
        """Send this and close, in one go."""
        ...


class Cycle(msgspec.Struct, eq=False):
    """One request and its answer, as an ASGI app sees them: by messages, or as a `Direct`.

    The head of an answer waits for the first piece of the body and leaves with it in one write, which halves what the kernel
    costs. An app here sends that piece at once, or the caller would wait for the head as well.
    """

    scope: Scope
    fields: Mapping[bytes, bytes]
    """As `Direct` has it."""
    _carrier: Carrier
    waits_for_100: bool
    keep_alive: bool
    body: bytes | bytearray = b""
    """What came and was not handed out yet."""
    more_body: bool = True
    segment: bytes | None = None
    """As well."""
    task: asyncio.Task[None] | None = None
    """As well."""
    disconnected: bool = False
    refused: RequestError | None = None
    """Why the rest of the body is not read, if it was given up."""
    started: bool = False
    complete: bool = False
    _head: bytes = b""
    _bodiless: bool = False
    _lingers: bool = False
    """The answer is earlier than the end of the body, which is still to be read."""
    _chunked: bool | None = None
    """None: the answer ends with the connection."""
    _ending: bytes = LAST_CHUNK
    """Empty: it is sent when the connection is closed."""
    _left: int = 0
    """Bytes that the answer still owes, if it said how many there are."""
    _news: bool = False
    _waiter: asyncio.Future[None] | None = None
    _on_gone: Callable[[], None] | None = None
    _by_messages: bool = False
    """No answer is taken at once."""

    def __repr__(self) -> str:
        state = "complete" if self.complete else "started" if self.started else "unanswered"
        return f"<Cycle {self.scope['method']} {self.scope['path']} {state}>"

    async def run(self, app: App) -> None:
        """Have `app` answer. What it leaves open is answered here."""
        self.scope["extensions"] = {DIRECT: self}
        try:
            await app(self.scope, self.receive, self.send)
        except Exception:  # broad: nobody above could answer
            self._carrier.logger.exception("Exception in ASGI application")
            await self._fail()
        else:
            if not self.complete and not self.disconnected:
                if self.refused is None:
                    self._carrier.logger.error("ASGI callable returned without completing response.")
                await self._fail()
        finally:
            self._on_gone = self.task = None
            del self.scope["extensions"]  # which holds us: no request may be garbage that only a collection finds

    async def _fail(self) -> None:
        if self.started:
            self._close()
            return
        error = self.refused or InternalError("The gateway failed on this request.")
        self.keep_alive = False
        headers, body = render(error, refusal_record(error, self.fields))
        await self.send({"type": "http.response.start", "status": error.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    # --- the request ---

    def add(self, body: bytes) -> None:
        """A piece of the body has come."""
        if not self.body:
            self.body = body
        elif isinstance(self.body, bytearray):
            self.body += body
        else:
            self.body = bytearray(self.body) + body  # tiny pieces come by the thousand: what is here is not copied for each
        self.wake()

    def end_body(self) -> None:
        """The body is whole."""
        self.more_body = False
        self.wake()

    def tell_segment(self, data: bytes) -> None:
        """These are all bytes of the request."""
        if self.keep_alive and not self.waits_for_100:
            self.segment = data

    def disconnect(self) -> None:
        """Nobody waits for the answer any more."""
        if self.disconnected:
            return
        self.disconnected = True
        self.wake()
        if self._on_gone is not None:
            self._on_gone()

    def refuse(self, error: RequestError) -> None:
        """The rest of the body is not read; the app is told why, and answers."""
        self.refused = error
        self.keep_alive = self.waits_for_100 = False
        self.wake()

    def tell_when_gone(self, callback: Callable[[], None]) -> None:
        """What else takes a task that waits for `http.disconnect`."""
        self._on_gone = callback
        if self.disconnected:
            callback()

    def wake(self) -> None:
        """Something happened that `receive` tells of."""
        self._news = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def receive(self) -> Any:
        """The next piece of the body, or that the caller left or has its answer. One at a time."""
        if self.waits_for_100 and not self._carrier.transport.is_closing():
            self._carrier.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waits_for_100 = False
        if not (self._news or self._has_ended()):
            self._carrier.flow.resume_reading()
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self._has_ended():
            return {"type": "http.disconnect", REFUSED: self.refused}
        return {"type": "http.request", "body": self._hand_out(), "more_body": self.more_body}

    def whole_body(self) -> bytes | None:
        """The body, if all of it is here and nobody has to be told to send it."""
        if self.more_body or not self._news or self.waits_for_100 or self._has_ended():
            return None
        return self._hand_out()

    def _hand_out(self) -> bytes:
        self._carrier.flow.resume_reading()  # a large piece has paused the reading, by which alone a caller is seen to leave
        body, self.body, self._news = self.body, b"", False
        return bytes(body)

    def _has_ended(self) -> bool:
        return self.disconnected or self.complete or self.refused is not None

    # --- the answer ---

    async def send(self, message: Any) -> None:
        """Take a message of the answer; waits while the caller reads too slowly."""
        flow = self._carrier.flow
        if flow.write_paused and not self.disconnected:
            await flow.drain()
        if self.disconnected or self.complete:
            return
        if self.started:
            self._send_body(message.get("body", b""), last=not message.get("more_body", False))
        else:
            self._head = self._begin(message["status"], message["headers"])

    def go_on(self, body: bytes) -> bool:
        """One more piece, if it can go out as it is."""
        if self._carrier.flow.write_paused or self._head or not self._chunked or self.disconnected or self.complete or not body:
            return False
        self._carrier.transport.write(b"%x\r\n%b\r\n" % (len(body), body))
        return True

    def keep_to_messages(self) -> None:
        """Somebody adds to the head of the answer."""
        self.segment, self._by_messages = None, True

    def answer_at_once(self, status: int, headers: Lines, body: bytes) -> bool:
        """All of an answer, if it can go out as it is."""
        carrier = self._carrier
        if self._by_messages or self.started or self.disconnected or carrier.flow.write_paused or headers.length != len(body):
            return False
        head = self._begin(status, headers)
        carrier.transport.write(head if self._bodiless else head + body)
        self._end()
        return True

    def _begin(self, status: int, headers: Lines | Sequence[Header]) -> bytes:
        """The head of the answer."""
        if self.more_body:
            self._answer_early()
        self.started = True
        self.waits_for_100 = False
        self._bodiless = status in BODILESS or self.scope["method"] == "HEAD"
        lines = headers if isinstance(headers, Lines) else self._written(headers)
        framing = b""
        if lines.length is not None:
            self._chunked, self._left = False, lines.length
        elif not self._bodiless:
            framing = self._frame()
        if not self.keep_alive:
            framing += CLOSE
        return b"%b%b%b%b\r\n" % (STATUS_LINE[status], self._carrier.default_headers.raw, lines.raw, framing)

    def _written(self, headers: Sequence[Header]) -> Lines:
        """The headers of an app that is not ours. Whether the connection stays is said by us."""
        fields = dict(headers)
        if fields.get(b"connection") == b"close":
            self.keep_alive = False
        length = fields.get(b"content-length")
        own = [header for header in headers if header[0] != b"connection"]
        return Lines.of(own, None if length is None else int(length))

    def _frame(self) -> bytes:
        """How a body without a given length ends: by chunks, or for HTTP/1.0, which knows none, by the connection's end."""
        if self.scope["http_version"] == "1.0":
            self.keep_alive = False
            return b""
        self._chunked = True
        return CHUNKED

    def _send_body(self, body: bytes, *, last: bool) -> None:
        if self._bodiless:
            body = b""
        elif self._chunked:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            if last:
                body += self._ending
        elif self._chunked is not None:
            self._left -= len(body)
            if self._left < 0 or (last and self._left > 0):  # it would run into the next one
                raise RuntimeError("the answer is not as long as its Content-Length")
        head, self._head = self._head, b""
        self._carrier.transport.write(head + body if head else body)
        if last:
            self._end()

    def _end(self) -> None:
        self.complete = True
        self.wake()
        if not self.keep_alive:
            self._close()
        self._carrier.answered()

    def _answer_early(self) -> None:
        """The body has not ended. A caller that was never told to continue may even leave it out."""
        length = self.fields.get(b"content-length")
        if self.waits_for_100 or length is None or int(length) > SHORT_BODY:
            self.keep_alive = False
        self._lingers = True

    def be_last(self) -> None:
        """Close the connection after this answer, whose head may have said already that it stays."""
        self.keep_alive = False
        if self.started and self._chunked:
            self._ending = b""

    def _close(self) -> None:
        if self.complete and not self._ending:  # an answer that broke off must not look whole
            self._carrier.end_with(LAST_CHUNK)
        elif self._lingers:
            self._carrier.linger()
        else:
            self._carrier.transport.close()


@lru_cache(1)
def default_lines(headers: tuple[Header, ...]) -> Lines:
    """The server's own headers, which change once a second."""
    return Lines.of(headers)


def refusal_record(error: RequestError, fields: Mapping[bytes, bytes]) -> Record:
    """What is told of a request that no app has answered, by its headers."""
    sentinel_id = draw_id()
    shown = request_id(fields.get(b"x-request-id"), sentinel_id)
    return Record(
        at=0.0, request_id=shown, sentinel_id=sentinel_id, route=UNMATCHED, method="", status=error.http_status, error=error.kind
    )


def render(error: RequestError, record: Record) -> tuple[Lines, bytes]:
    """Headers and body of an error that the app does not answer."""
    body = error_body(error)
    own = Lines(b"content-type: %b\r\ncontent-length: %d\r\n" % (JSON, len(body)))
    lines = own + id_headers(record) + error_headers(error)
    return Lines(lines.raw, len(body)), body
