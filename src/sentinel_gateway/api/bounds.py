"""What a connection may take, of time and of memory."""

from typing import Final

import msgspec

PIPELINED: Final = 32
"""Requests that may wait on one connection for the answers before theirs."""
MOST_CHUNKS: Final = 65_536
"""Of a body. Each takes the loop's time, however little is in it: tiny ones without end would keep everybody else waiting."""


class ServerLimits(msgspec.Struct, frozen=True):
    """Seconds, bytes, numbers. A time runs from the start of what it limits and is not moved along by single bytes.

    In `write_timeout` a reader that we wait for has to take 64 KiB, or all there is.
    """

    header_timeout: float = 10.0
    body_timeout: float = 30.0
    write_timeout: float = 30.0
    keep_alive: float = 75.0
    head_bytes: int = 65536
    header_count: int = 100
    max_connections: int = 10_000
