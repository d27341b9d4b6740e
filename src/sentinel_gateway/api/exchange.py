"""One HTTP exchange over ASGI: reading the caller's body, noticing that the caller left, sending whole answers and streams."""

import asyncio
import math
import os
import random
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from itertools import chain
from time import monotonic
from typing import Any, Final

import msgspec

from sentinel_gateway.api.asgi import DIRECT, REFUSED, Direct, Header, Lines, Receive, Scope, Send
from sentinel_gateway.api.compression import COMPRESS_FROM, choose, compress
from sentinel_gateway.api.entrance import Entrance
from sentinel_gateway.api.head import header_map
from sentinel_gateway.api.wire.budget_headers import budget_headers
from sentinel_gateway.api.wire.cache_headers import PRIVATE
from sentinel_gateway.api.wire.limit_headers import limit_headers
from sentinel_gateway.core.record import Record
from sentinel_gateway.errors import (
    BodyTooLarge,
    BudgetSpent,
    ClientLeft,
    InternalError,
    InvalidKey,
    MethodNotAllowed,
    Overloaded,
    RequestError,
    place_of,
)
from sentinel_gateway.pipeline.admit import retry_wait
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.ports import Events

BODIES_AT_ONCE: Final = 64
"""Of the largest size. Ordinary ones are a thousandth of that, and come in one piece."""
JSON: Final = b"application/json"
EVENT_STREAM: Final = b"content-type: text/event-stream; charset=utf-8\r\nx-accel-buffering: no\r\n"
NDJSON: Final = b"content-type: application/x-ndjson\r\nx-accel-buffering: no\r\n"
ID_BYTES: Final = 16
IDS_AT_ONCE: Final = 256
"""Whoever asks the system for random bytes lets go of the interpreter, for which others queue."""
SANE_ID: Final = re.compile(rb"[\w.:/+=@-]{1,128}", re.ASCII)
UNMATCHED: Final = "unmatched"
"""The route of a request that no route matched: paths never become labels."""


class ErrorForm:
    """How a dialect tells errors, and what every answer of it says of the request.

    `body` makes an error's body, given the request's id as well.
    """

    def __init__(self, content_type: bytes, body: Callable[[RequestError, str], bytes]) -> None:
        self.content_type = content_type
        self.body = body

    def status(self, error: RequestError) -> int:
        """The status of an error."""
        return error.http_status

    def event(self, error: RequestError, request_id: str) -> bytes:
        """An error as the last event of a stream."""
        return b"data: %b\n\n" % self.body(error, request_id)

    def ids(self, journey: Journey) -> Lines:
        """The headers that every answer carries; those of limits only where there are any."""
        lines, grant = id_headers(journey), journey.grant
        if journey.experiment:
            lines += Lines(b"x-sentinel-experiment: %b\r\n" % journey.experiment.encode("ascii"))
        if grant is None:
            return lines
        lines += limit_headers(*grant.standings())
        return lines + budget_headers(grant.budgets()) if grant.has_budget else lines


class Intake:
    """The bodies that are coming in, and how many bytes they may take together: each sender may keep a whole one waiting.

    One that is here counts no more: what becomes of it is bounded by the places of admission.
    """

    def __init__(self, *, max_body: int) -> None:
        self.max_body = max_body
        self._room = max_body * BODIES_AT_ONCE

    def __repr__(self) -> str:
        return f"<Intake {self._room} bytes of room>"

    def take(self, size: int) -> None:
        """So much has come; raises `Overloaded` if it can't be held."""
        if size > self._room:
            wait = retry_wait(random.random())  # noqa: S311 - no secret
            raise Overloaded("The gateway is taking in as many bodies as it may: try again shortly.", retry_after=wait)
        self._room -= size

    def give_back(self, size: int) -> None:
        """So much is held no longer."""
        self._room += size


class Caller(msgspec.Struct, eq=False):
    """The caller's side: its body, and whether it is still there."""

    _receive: Receive
    _length: bytes | None
    """What the Content-Length says."""
    _intake: Intake
    _direct: Direct | None = None
    left: bool = False
    served: bool = False
    """The whole answer is on its way: that the connection ends now means nothing."""

    async def body(self) -> bytes:
        """The whole body; `BodyTooLarge` as soon as it is known to be, `ClientLeft` if it never comes."""
        body = None if self._direct is None else self._direct.whole_body()
        if body is None:
            body = await self._received()
        if len(body) > self._intake.max_body:
            raise self.too_large()
        return body

    async def _received(self) -> bytes:
        most = self._intake.max_body
        if self._length is not None and self._length.isdigit() and int(self._length) > most:
            raise self.too_large()
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            body: bytes = message.get("body", b"")
            return body
        pieces = bytearray()
        try:
            while True:
                if message["type"] == "http.disconnect":
                    raise self.broken_off(message)
                piece = message.get("body", b"")
                self._intake.take(len(piece))
                pieces += piece
                if len(pieces) > most:
                    raise self.too_large()
                if not message.get("more_body"):
                    return bytes(pieces)
                message = await self._receive()
        finally:
            self._intake.give_back(len(pieces))

    def broken_off(self, message: Mapping[str, Any]) -> RequestError:
        """Why the body does not come to its end: the server refused the rest of it, or the caller left."""
        refused: RequestError | None = message.get(REFUSED)
        if refused is not None:
            return refused
        self.left = True
        return ClientLeft("The caller left before its request was complete.")

    def too_large(self) -> BodyTooLarge:
        """The error for a body over the limit."""
        return BodyTooLarge(f"The body is larger than the {self._intake.max_body} bytes that this gateway takes.")

    async def gone(self) -> None:
        """Returns when nobody waits for the answer any more."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


class Sender(msgspec.Struct, eq=False):
    """The answer's side. Sends one whole answer, or one stream; an error in whichever form is still possible."""

    _send: Send
    _journey: Journey
    _caller: Caller
    _form: ErrorForm
    _accepts: bytes = b""
    """What the Accept-Encoding says."""
    _direct: Direct | None = None
    """None of another server: that takes messages only."""
    _started: bool = False
    _said_at: float = 0.0
    broken: Callable[[RequestError], bytes] | None = None
    """How the stream under way tells that it breaks, if not as every stream of its face."""

    async def whole(self, status: int, body: bytes, headers: Lines, content_type: bytes = JSON) -> None:
        """A complete answer, compressed if it is long and the caller can read that."""
        self._started, self._journey.status = True, status
        self._caller.served = True
        coding = b""
        if len(body) >= COMPRESS_FROM and (chosen := choose(self._accepts)) is not None:
            body = await compress(chosen, body)
            coding = b"content-encoding: %b\r\n" % chosen.name
        lines = whole_head(headers, self._form.ids(self._journey), len(body), content_type=content_type, coding=coding)
        if self._direct is None or not self._direct.answer_at_once(status, lines, body):
            await self._send({"type": "http.response.start", "status": status, "headers": lines})
            await self._send({"type": "http.response.body", "body": body})

    async def start_stream(self, headers: Lines, kind: bytes = EVENT_STREAM) -> None:
        """The head of a stream of this kind; nothing if it has been sent."""
        if not self._started:
            self._started, self._journey.status = True, 200
            lines = Lines(kind + headers.raw + self.ids().raw)
            await self._send({"type": "http.response.start", "status": 200, "headers": lines})

    def pass_on(self, events: bytes) -> bool:
        """Events of a stream that has begun, in one write; False if that must wait, and nothing is sent."""
        self._said_at = monotonic()
        return self._direct is not None and self._direct.go_on(events)

    def part(self, events: bytes) -> Awaitable[None]:
        """Events of a stream, in one write."""
        self._said_at = monotonic()
        return self._send({"type": "http.response.body", "body": events, "more_body": True})

    async def beat(self, pulse: bytes, every: float) -> float:
        """A sign of life, if nothing was sent for so many seconds: proxies cut connections that stay silent.

        Returns the seconds until the next may be due.
        """
        left = self._said_at + every - monotonic()
        if left > 0:
            return left
        if not self._caller.served:
            await self._send({"type": "http.response.body", "body": pulse, "more_body": True})
        self._said_at = monotonic()
        return every

    async def end_stream(self, last: bytes) -> None:
        """The end of a stream, with its last events."""
        self._caller.served = True
        await self._send({"type": "http.response.body", "body": last})

    async def error(self, error: RequestError) -> None:
        """An error: a status if none was sent yet, else the stream's last event, in place of its end."""
        form, request_id = self._form, self._journey.request_id
        self._journey.error = error.kind
        if self._started:
            await self.end_stream(form.event(error, request_id) if self.broken is None else self.broken(error))
        else:
            await self.whole(form.status(error), form.body(error, request_id), error_headers(error), form.content_type)

    def ids(self) -> Lines:
        """The headers that every answer carries."""
        return self._form.ids(self._journey)

    def compresses(self, size: int) -> bool:
        """Is a whole answer of this size sent in a coding?"""
        return size >= COMPRESS_FROM and choose(self._accepts) is not None


class Exchange:
    """A request and its answer: headers, caller, sender, and the journey that is told of it."""

    __slots__ = ("_beside", "caller", "direct", "entrance", "headers", "journey", "method", "path", "sender")

    entrance: Entrance
    """By which it comes in."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, now: float, intake: Intake, form: ErrorForm) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.direct: Direct | None = scope.get("extensions", {}).get(DIRECT)
        self.headers = headers = header_map(scope["headers"]) if self.direct is None else self.direct.fields
        sentinel_id, client = draw_id(), scope.get("client")
        self.journey = journey = Journey(
            route=UNMATCHED,
            method=self.method,
            request_id=request_id(headers.get(b"x-request-id"), sentinel_id),
            sentinel_id=sentinel_id,
            at=now,
            client=client[0] if client else "",
        )
        self.caller = caller = Caller(receive, headers.get(b"content-length"), intake, self.direct)
        self.sender = Sender(send, journey, caller, form, headers.get(b"accept-encoding", b""), self.direct)
        self._beside: list[asyncio.Task[None] | asyncio.TimerHandle] = []

    def enter(self) -> None:
        """Tell the caller once more: its key may have been revoked while its body was on the way."""
        self.entrance.enter(self.headers, self.journey)

    async def cancel_when_gone(self) -> None:
        """From now on cancel what makes the answer once nobody waits for it; raises `ClientLeft` if nobody does any more."""
        direct = self.direct
        if direct is not None:
            direct.tell_when_gone(lambda: self._cancel(direct.task))
        else:  # another server
            self.run_beside(self._cancel_later(asyncio.current_task()))

    async def _cancel_later(self, task: asyncio.Task[Any] | None) -> None:
        await self.caller.gone()
        self._cancel(task)

    def _cancel(self, task: asyncio.Task[Any] | None) -> None:
        if self.caller.served:
            return
        self.caller.left = True
        if task is None:  # it has not waited for anything
            raise ClientLeft("The caller left before its request was begun.")
        task.cancel()

    def run_beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something until the exchange ends."""
        self._beside.append(asyncio.create_task(work))

    def run_later(self, seconds: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """The same, in so many seconds. Most exchanges have ended by then: a timer costs them less than a task that sleeps."""
        self._beside.append(asyncio.get_running_loop().call_later(seconds, lambda: self.run_beside(work())))

    def end(self) -> None:
        """Stop what runs beside, and let go of it: it ends with an error whose frames hold this."""
        while self._beside:
            self._beside.pop().cancel()


def whole_head(headers: Lines, ids: Lines, size: int, *, content_type: bytes = JSON, coding: bytes = b"") -> Lines:
    """All headers of a complete answer of `size` bytes, but for those of every answer of this server."""
    lines = b"content-type: %b\r\n%b%b%bcontent-length: %d\r\n" % (content_type, headers.raw, ids.raw, coding, size)
    return Lines(lines, size)


def id_headers(record: Record) -> Lines:
    """The headers that every answer carries."""
    return Lines(f"x-request-id: {record.request_id}\r\nx-sentinel-id: {record.sentinel_id}\r\n".encode("ascii"))


def _draw_some() -> list[str]:
    drawn = os.urandom(ID_BYTES * IDS_AT_ONCE).hex()
    return [drawn[start : start + 2 * ID_BYTES] for start in range(0, len(drawn), 2 * ID_BYTES)]


draw_id: Final[Callable[[], str]] = chain.from_iterable(iter(_draw_some, [])).__next__
"""A request's own id: 32 hex digits that nobody can foretell. On the event loop only."""


def request_id(asked: bytes | None, drawn: str) -> str:
    """The caller's id for its request if it is sane, else one of ours."""
    return asked.decode("ascii") if asked and SANE_ID.fullmatch(asked) else f"req_{drawn}"


def own_fault(exc: BaseException, journey: Journey, events: Events) -> InternalError:
    """A fault of ours, told to the operator with its place; what the caller is told names the line of the log."""
    events.note("internal_error", error=type(exc).__name__, at=place_of(exc), sentinel_id=journey.sentinel_id)
    return InternalError(f"The gateway failed on this request. Its log says more under {journey.sentinel_id}.")


def wait_after(error: RequestError) -> float | None:
    """Seconds after which the same request may be sent again; None for an error of which nobody says that."""
    if error.http_status in {429, 503} and (error.retry or not isinstance(error, BudgetSpent)):
        return 1.0 if error.retry_after is None else error.retry_after
    return None


def error_headers(error: RequestError) -> Lines:
    """Whether and when a retry may help, as the SDKs read it, and what HTTP wants said beside a status."""
    headers: list[Header] = [*PRIVATE]
    if not error.retry:
        headers.append((b"x-should-retry", b"false"))
    if (wait := wait_after(error)) is not None:
        headers += [(b"retry-after", b"%d" % math.ceil(wait)), (b"retry-after-ms", b"%d" % math.ceil(wait * 1000))]
    if isinstance(error, InvalidKey):
        headers.append((b"www-authenticate", b'Bearer realm="sentinel"'))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", ", ".join(error.allowed).encode()))
    return Lines.of(headers)
