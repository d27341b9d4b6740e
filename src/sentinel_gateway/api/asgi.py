"""The shapes of ASGI, as far as they are used here, and the form in which our answers carry their headers."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Protocol

import msgspec

Header = tuple[bytes, bytes]
"""Name in lower case, value."""
Scope = Any
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Again = Callable[[bytes, str], tuple[int, bytes] | None]
"""The answer to bytes that need not be read for it, to this address: its status, and all after the server's own headers."""
DIRECT: Final = "sentinel.direct"
"""Our server's extension: a `Direct`."""
SEGMENT_BYTES: Final = 32 * 1024
"""Longer pieces are neither told nor asked after: a longer request comes in several, or is about to."""
REFUSED: Final = "sentinel.refused"
"""In our server's `http.disconnect` before the end of a body: the error to answer, if it was the server that gave up on it."""

_BREAK: Final = re.compile(rb"[\r\n\0]")


class Lines(msgspec.Struct, frozen=True, gc=False):
    """Headers of an answer, as the lines that are sent: our server sends them as they are, any other one reads them as pairs.

    A line costs a fifth of a pair that has to be joined for each answer.
    """

    raw: bytes
    """Each line with its break."""
    length: int | None = None
    """The body's, if one of the lines says it."""

    @classmethod
    def of(cls, headers: Iterable[Header], length: int | None = None) -> "Lines":
        """Lines of pairs, none of which may hold a line break."""
        lines = [b"%b: %b" % header for header in headers]
        if any(map(_BREAK.search, lines)):
            raise RuntimeError("a header of the answer holds a line break or a NUL")
        return cls(b"".join([b"%b\r\n" % line for line in lines]), length)

    def __add__(self, other: "Lines") -> "Lines":
        return Lines(self.raw + other.raw)

    def __iter__(self) -> Iterator[Header]:
        for line in self.raw.split(b"\r\n")[:-1]:
            name, _, value = line.partition(b": ")
            yield name, value


class Direct(Protocol):
    """What our server does for an app beside messages, each of which costs more than what it says.

    What can't be done now is not done at all, and has to be done by messages, which wait.
    """

    @property
    def fields(self) -> Mapping[bytes, bytes]:
        """The request's headers, as `header_map` has them."""
        ...

    @property
    def segment(self) -> bytes | None:
        """The bytes of the whole request, if they came in one piece.

        None as well if the connection closes after it, or anything but the answer is to be sent.
        """
        ...

    @property
    def task(self) -> asyncio.Task[None] | None:
        """That makes the answer; None until it first waits for something."""
        ...

    def keep_to_messages(self) -> None:
        """Somebody adds to the head of the answer: it has to come as a message."""
        ...

    def tell_when_gone(self, callback: Callable[[], None]) -> None:
        """Call this once the caller has left without its answer."""
        ...

    def whole_body(self) -> bytes | None:
        """The request's body, if all of it is here and nothing of it was handed out yet."""
        ...

    def answer_at_once(self, status: int, headers: Lines, body: bytes) -> bool:
        """Send a whole answer, with all of its headers but the server's own. Was it done?"""
        ...

    def go_on(self, body: bytes) -> bool:
        """Send one more piece of an answer that has begun. Was it done?"""
        ...
