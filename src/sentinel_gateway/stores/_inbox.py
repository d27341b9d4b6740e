"""How a store's threads speak to the event loop: calls that are made there, many per wake-up.

Waking the loop costs a system call (about 10 us with the switch of threads), so whatever was sent meanwhile goes with it.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any


class Inbox:
    """Calls sent by any thread, made in order on `loop`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._announced = False

    def send(self, call: Callable[..., None], *arguments: Any) -> None:
        """From any thread: have `call(*arguments)` made on the loop, soon."""
        self.hold(call, *arguments)
        self.announce()

    def hold(self, call: Callable[..., None], *arguments: Any) -> None:
        """As `send`, but it waits for `announce`."""
        self._calls.append((call, arguments))

    def announce(self) -> None:
        """From any thread: wake the loop for the calls that it holds."""
        # They were added before this is looked at, and drain() does the reverse: no call is left without a wake-up.
        if not self._announced:
            self._announced = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self.drain)

    def drain(self) -> None:
        """On the loop: make the calls that have arrived."""
        self._announced = False
        while self._calls:
            call, arguments = self._calls.popleft()
            call(*arguments)
