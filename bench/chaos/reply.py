"""An answer as a plan: what is written, after which pause, and how the connection is left.

Plans are values made without a socket or a clock; `connection.py` plays them. Whatever goes wrong on the wire
(cut, trickled, bombed) is a change to the plan's parts.
"""

import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from http import HTTPStatus
from itertools import chain, cycle, repeat
from typing import Final

import msgspec

from bench.chaos.answer import FILLER_MARK
from bench.chaos.fault import Ending, Fault, plain_number

NEXT_TURN: Final = 0.0
"""A pause of one turn of the event loop, so that the peer can see the write apart from the one before."""
ODD_SIZES: Final = (1, 2, 3, 5, 7)
SLICE: Final = 65_536
GZIP_WINDOW: Final = 31
FILLER: Final = b" "
PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}

JSON: Final = "application/json"
HTML: Final = "text/html; charset=utf-8"
TEXT: Final = "text/plain; charset=utf-8"
PAGE: Final = b"<!doctype html><html><head><title>Sign in</title></head><body><h1>Please sign in</h1></body></html>\n"
TORN: Final = b'{"id": "chatcmpl-mock", "choices": [{"index": 0, "mess'

_encode = msgspec.json.encode


class Part(msgspec.Struct, frozen=True):
    """One write. With its last byte `chunks` content chunks and `tokens` tokens have been sent."""

    data: bytes
    pause: float | None = None
    """Seconds since the part before; None: in the same write as far as possible."""
    chunks: int = 0
    tokens: int = 0


class Reply(msgspec.Struct, frozen=True):
    """The plan of one answer."""

    status: int
    parts: Iterator[Part]
    ending: Ending = "keep"


def body_reply(status: int, body: bytes, fault: Fault, *, kind: str = JSON, tokens: int = 0, headers: str = "") -> Reply:
    """An answer with a content length. A content chunk counts as sent with the whole body; cut after one, half of it is sent."""
    head = b"%bcontent-length: %d\r\n\r\n" % (_head(status, HTML if fault.wrong_type else kind, headers), len(body))
    start = fault.latency_ms / 1000 or None
    if fault.ending is not None:
        after, ending = fault.ending
        sent = (b"", head, head + body[: len(body) // 2])[min(after, 1) + 1]
        return Reply(status, iter((Part(sent, start),)), ending)
    if fault.trickle or fault.split_utf8:
        return Reply(status, chain((Part(head, start),), sliced((Part(body, NEXT_TURN, 1, tokens),), fault)))
    return Reply(status, iter((Part(head + body, start, 1, tokens),)))


def chunked_reply(kind: str, parts: Iterable[Part], fault: Fault) -> Reply:
    """A 200 in chunked encoding; a broken one lacks its end."""
    start = fault.latency_ms / 1000 or None
    after, ending = fault.ending or (0, "keep")
    if after < 0:
        return Reply(200, iter((Part(b"", start),)), ending)
    encoding = ""
    if fault.gzip_bomb:
        parts, encoding = gzipped(parts), "content-encoding: gzip\r\n"
    head = _head(200, HTML if fault.wrong_type else kind, encoding) + b"transfer-encoding: chunked\r\n\r\n"
    framed = (Part(_frame(part.data), part.pause, part.chunks, part.tokens) for part in sliced(parts, fault))
    end = (Part(b"0\r\n\r\n"),) if ending == "keep" else ()
    return Reply(200, chain((Part(head, start),), framed, end), ending)


def error_reply(fault: Fault, status: int) -> Reply:
    """What `err` asks for."""
    retry_after = "" if fault.retry_after is None else f"retry-after: {plain_number(fault.retry_after)}\r\n"
    plain = msgspec.structs.replace(fault, wrong_type=False)
    match fault.err_body:
        case "openai":
            return body_reply(status, error_body(status, f"mock error {status}"), plain, headers=retry_after)
        case "text":
            return body_reply(status, f"mock error {status}\n".encode(), plain, kind=TEXT, headers=retry_after)
        case "html":
            return body_reply(status, PAGE, plain, kind=HTML, headers=retry_after)
        case "empty":
            return body_reply(status, b"", plain, kind=TEXT, headers=retry_after)


def error_body(status: int, message: str) -> bytes:
    """An OpenAI error object."""
    kinds = {401: ("invalid_request_error", "invalid_api_key"), 429: ("requests", "rate_limit_exceeded")}
    kind, code = kinds.get(
        status, ("server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error", None)
    )
    return _encode({"error": {"message": message, "type": kind, "param": None, "code": code}})


def filled(data: bytes, size: int, *, pause: float | None = None, tokens: int) -> Iterator[Part]:
    """One content chunk with `size` bytes in place of each filler mark, made while they are taken."""
    before, *rest = data.split(FILLER_MARK.encode())
    yield Part(before, pause)
    for after in rest:
        for start in range(0, size, SLICE):
            yield Part(FILLER * min(SLICE, size - start))
        yield Part(after)
    yield Part(b"", None, 1, tokens)


def gzipped(parts: Iterable[Part]) -> Iterator[Part]:
    """The same bytes as one gzip member."""
    compressor = zlib.compressobj(wbits=GZIP_WINDOW)
    for part in parts:
        yield Part(compressor.compress(part.data), part.pause, part.chunks, part.tokens)
    yield Part(compressor.flush())


def sliced(parts: Iterable[Part], fault: Fault) -> Iterable[Part]:
    """The same bytes in writes as small as the fault wants them."""
    if fault.trickle:
        return _slices(parts, repeat(1))
    if fault.split_utf8:
        return _slices(parts, cycle(ODD_SIZES))
    return parts


def _slices(parts: Iterable[Part], sizes: Iterator[int]) -> Iterator[Part]:
    for part in parts:
        rest, pause = part.data, part.pause or NEXT_TURN
        while len(rest) > (size := next(sizes)):
            yield Part(rest[:size], pause)
            rest, pause = rest[size:], NEXT_TURN
        yield Part(rest, pause, part.chunks, part.tokens)


def _frame(data: bytes) -> bytes:
    # An empty HTTP chunk would end the answer.
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


@lru_cache
def _head(status: int, kind: str, headers: str) -> bytes:
    return f"HTTP/1.1 {status} {PHRASES.get(status, 'Mock')}\r\ncontent-type: {kind}\r\nserver: chaos\r\n{headers}".encode()
