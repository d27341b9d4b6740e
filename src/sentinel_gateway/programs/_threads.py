"""Work that blocks, in a thread of its own, and the way back to the loop from there.

Not in the loop's own pool: that has a few threads for short work, and a program waits for models most of its life.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import TypeVar

from sentinel_gateway.errors import RequestError
from sentinel_gateway.ports import Ask

T = TypeVar("T")


class Over(BaseException):
    """Nobody waits for the program any more. What it catches of its own it must not catch of this."""


async def in_thread(work: Callable[[], T], name: str) -> T:
    """What `work` returns or raises. Whoever is cancelled does not wait for its end; it holds up no end of the process."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result = work()
        except BaseException as exc:  # noqa: BLE001 - broad: whatever it is, it is raised where the work was asked for
            future.set_exception(exc)
        else:
            future.set_result(result)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await asyncio.wrap_future(future)


class Bridge:
    """Lets threads ask what can only be asked on the loop. `failed` is the error of the last question, if that failed."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self.failed: RequestError | None = None

    def __repr__(self) -> str:
        return f"<Bridge {'closed' if self._closed else 'open'}>"

    def close(self) -> None:
        """Who asks from now on is told that it is `Over`."""
        self._closed = True

    def ask(self, body: bytes, *, fresh: bool) -> bytes:
        """As `ports.Ask`, from another thread than the loop's."""
        if self._closed:
            raise Over
        try:
            answer = asyncio.run_coroutine_threadsafe(self._ask(body, fresh=fresh), self._loop).result()
        except CancelledError:
            raise Over from None
        except RequestError as error:
            self.failed = error
            raise
        self.failed = None
        return answer
