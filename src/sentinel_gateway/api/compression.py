"""Compressing whole answers: in what the caller can read and this installation can write. Streams are never compressed."""

import asyncio
import gzip
import importlib
import importlib.util
from collections.abc import Callable
from functools import cache, partial
from typing import Final, NamedTuple

COMPRESS_FROM: Final = 1024
"""Bytes. Below this, compression costs more than it saves."""
COMPRESS_LEVEL: Final = 4
BESIDE_FROM: Final = 64 * 1024
"""Bytes. From here on it takes a millisecond or more, and is done in a thread."""


class Coding(NamedTuple):
    """A content coding, by its name in headers."""

    name: bytes
    compress: Callable[[bytes], bytes]


@cache
def installed() -> tuple[Coding, ...]:
    """The best first. zstd needs the extra of that name."""
    codings = [Coding(b"gzip", partial(gzip.compress, compresslevel=COMPRESS_LEVEL, mtime=0))]
    if importlib.util.find_spec("zstandard") is not None:
        zstandard = importlib.import_module("zstandard")
        codings.insert(0, Coding(b"zstd", zstandard.compress))
    return tuple(codings)


def choose(accept_encoding: bytes) -> Coding | None:
    """The coding for a caller that sent this Accept-Encoding. `q=0` forbids one; other weights are not compared."""
    return next((coding for coding in installed() if accepts(accept_encoding, coding.name)), None) if accept_encoding else None


def accepts(accept_encoding: bytes, name: bytes) -> bool:
    """Does this Accept-Encoding allow the coding?"""
    for part in accept_encoding.lower().split(b","):
        coding, _, quality = part.partition(b";")
        if coding.strip() == name:
            return quality.replace(b" ", b"").rstrip(b"0.") != b"q="
    return False


async def compress(coding: Coding, body: bytes) -> bytes:
    """The body, compressed; off the loop if it is long."""
    return coding.compress(body) if len(body) < BESIDE_FROM else await asyncio.to_thread(coding.compress, body)
