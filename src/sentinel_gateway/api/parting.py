"""How a server parts from a connection: from one that a proxy may keep for its next request, and from one that nobody reads."""

import asyncio
import os
import socket
import struct
from contextlib import suppress
from typing import Final

LAST_WORD: Final = 1.0
"""Seconds that a connection without a request is kept, once the server leaves; longer than a proxy in front keeps one idle."""
MORE: Final = getattr(socket, "MSG_MORE", 0)
"""Linux waits with what it was given for what comes next: the end of the answer and of the connection travel as one."""
NO_TIME: Final = struct.pack("ii", 1, 0)
"""For SO_LINGER: on, for none."""


def send_and_close(transport: asyncio.Transport, last: bytes) -> None:
    """The end of an answer whose head has said that its connection stays, and the connection's end, with nothing between.

    A transport closes in the next turn of its loop: by then a proxy may have taken the connection for its next request.
    """
    if transport.is_closing():
        return
    left = last
    if not transport.get_write_buffer_size():
        with suppress(OSError), socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as wire:
            left = last[wire.send(last, MORE) :]
            if not left:
                wire.shutdown(socket.SHUT_WR)
    if left:  # no descriptor is free, or the kernel has no room: an end that comes a turn before the close is an end all the same
        transport.write(left)
    transport.close()


def reset(transport: asyncio.Transport) -> None:
    """Drop the connection with all that was not read: the kernel would keep it for minutes for a reader who never reads."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_TIME)
    transport.abort()
