"""Refusals where there is no room: answered before a request is read as HTTP.

Whoever refuses must spend next to nothing on it, or refusing itself takes what it was to save: at three times what the gateway
can do, two of three requests are refused. So what is refused is rendered ahead, for each dialect and many waits, as
`exchange.py` renders every error, and a request is looked at only as far as it takes to be sure that it is one, whole and plain.
Whatever is not goes the whole way, where `Admission.check` refuses it for more. Whose key it has is asked there only: here a
stranger is refused as everybody is.

These are counted as every request is, and have no line each in the log, which would cost more than the rest: once a second it
tells how many they were.
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from sentinel_gateway.api.endpoint import Post
from sentinel_gateway.api.exchange import SANE_ID, ErrorForm, draw_id, error_headers, request_id, whole_head
from sentinel_gateway.core.record import Record
from sentinel_gateway.errors import Overloaded
from sentinel_gateway.pipeline.admit import TOO_MUCH, retry_wait
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.ports import Clock, Events

WAITS: Final = 64
"""Of them one is drawn for each refusal."""
HEADS: Final = 1024
"""That are remembered, as they came, until the next time that it is told how many were refused: there are keys in them."""
HEAD_BYTES: Final = 2048
"""Of one that is remembered, at most."""
TOLD_EVERY: Final = 1.0
"""Seconds."""
MARK: Final = "0" * 32
"""Where the id belongs that we give a request."""
NAME: Final = request_id(None, "1" * 32)
"""Where its caller's belongs; as long as one of ours, which it has where the caller sent none."""
LINE: Final = re.compile(rb"POST (/[a-z0-9_/]+) HTTP/1\.1\r\n")
LENGTH: Final = re.compile(rb"\r\ncontent-length: ?([0-9]{1,9})\r\n")
UNUSUAL: Final = re.compile(rb"\r\n(?:transfer-encoding|expect|connection:(?! keep-alive\r\n)|upgrade|origin|[ \t])")
"""What changes how a request is framed or answered."""
OWN_ID: Final = re.compile(rb"\r\n(?i:x-request-id): ?(%b)\r\n" % SANE_ID.pattern)
"""Proxies send one with every request."""


class Plain(NamedTuple):
    """What a head says: which path is asked, how many bytes of body follow it, and the caller's id, if it has one."""

    path: bytes
    length: int
    own_id: bytes | None


class Refusal(NamedTuple):
    """One kind of them: its status, everything after the server's own headers for each wait, and what is told of it."""

    status: int
    rests: tuple[bytes, ...]
    record: Record


class Refusals:
    """For requests to the usual path of each endpoint, by its form. `count` is told of each, `events` of how many they were.

    `chance` gives 0..1.
    """

    def __init__(
        self,
        posts: Mapping[ErrorForm, Iterable[Post]],
        *,
        count: Callable[[Record], None],
        events: Events,
        clock: Clock,
        chance: Callable[[], float],
    ) -> None:
        self._by_path = {post.route.encode("ascii"): _render(form, post.route) for form, of in posts.items() for post in of}
        self._count = count
        self._events = events
        self._untold = 0
        self._telling: asyncio.TimerHandle | None = None
        self._heads: dict[bytes, Plain] = {}
        self._clock = clock
        self._chance = chance

    def __repr__(self) -> str:
        return f"<Refusals of {len(self._by_path)} paths>"

    def answer(self, segment: bytes) -> tuple[int, bytes] | None:
        """A segment's status, and its answer but for that and the server's own headers; None: it must go the whole way."""
        end = segment.find(b"\r\n\r\n") + len(b"\r\n\r\n")
        head = self._read(segment[:end])
        refusal = None if head is None else self._by_path.get(head.path)
        if head is None or refusal is None or end + head.length != len(segment):
            return None
        record, sentinel_id = refusal.record, draw_id()
        record.at, record.sentinel_id = self._clock(), sentinel_id
        self._count(record)
        self._untold += 1
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(TOLD_EVERY, self._tell)
        rest = refusal.rests[int(self._chance() * WAITS) % WAITS].replace(MARK.encode(), sentinel_id.encode())
        return refusal.status, _named(rest, request_id(head.own_id, sentinel_id).encode())

    def close(self) -> None:
        """Another takes its place, or none: tell what is untold."""
        if self._telling is not None:
            self._telling.cancel()
            self._tell()

    def _tell(self) -> None:
        count, self._untold, self._telling = self._untold, 0, None
        self._heads.clear()
        self._events.note("requests_refused", count=count, reason=TOO_MUCH)

    def _read(self, head: bytes) -> Plain | None:
        """Clients hardly change their heads; those with an id of their own do each time."""
        if (known := self._heads.get(head)) is not None:
            return known
        plain = read_plain(head)
        if plain is not None and plain.own_id is None and len(head) <= HEAD_BYTES and len(self._heads) < HEADS:
            self._heads[head] = plain
        return plain


def read_plain(head: bytes) -> Plain | None:
    """The head of a POST, if it is one of which nobody could think otherwise."""
    line, lower = LINE.match(head), head[:-2].lower()
    lines = lower.count(b"\r\n")
    if line is None or UNUSUAL.search(lower) is not None or b"\0" in lower:
        return None
    if lines != lower.count(b"\n") or lines != lower.count(b"\r") or lower.count(b"\r\nhost:") != 1:
        return None
    lengths, ids = LENGTH.findall(lower), OWN_ID.findall(head)
    if len(ids) != lower.count(b"\r\nx-request-id") or len(ids) > 1:
        return None
    single = len(lengths) == 1 == lower.count(b"\r\ncontent-length")
    return Plain(line[1], int(lengths[0]), ids[0] if ids else None) if single else None


def _named(rest: bytes, name: bytes) -> bytes:
    """An answer's rest for the request of this name."""
    if len(name) == len(NAME):
        return rest.replace(NAME.encode(), name)
    lines, _, body = rest.partition(b"\r\n\r\n")
    size, body = len(body), body.replace(NAME.encode(), name)
    lines = lines.replace(b"content-length: %d" % size, b"content-length: %d" % len(body))
    return b"%b\r\n\r\n%b" % (lines.replace(NAME.encode(), name), body)


def _render(form: ErrorForm, route: str) -> Refusal:
    journey = Journey(at=0.0, request_id=NAME, sentinel_id=MARK, route=route, method="POST")
    errors = [Overloaded(TOO_MUCH, retry_after=retry_wait((number + 0.5) / WAITS)) for number in range(WAITS)]
    rests = []
    for error in errors:
        body = form.body(error, journey.request_id)
        head = whole_head(error_headers(error), form.ids(journey), len(body), content_type=form.content_type)
        rests.append(b"%b\r\n%b" % (head.raw, body))
    status = form.status(errors[0])
    return Refusal(status, tuple(rests), Record(0.0, "", "", route, "POST", status, error=errors[0].kind))
