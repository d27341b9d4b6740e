"""One thread that does what a coroutine asks of it, one thing after another."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Worker:
    """A daemon: a disk that hangs must not hold up the end of the program, as it would with an executor of the library."""

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def __repr__(self) -> str:
        return f"<Worker {self._jobs.qsize()} waiting>"

    async def run(self, job: Callable[[], T]) -> T:
        """What `job` returns or raises. One that nobody waits for any more is not begun."""
        future: Future[T] = Future()
        self._jobs.put((job, future))
        return await asyncio.wrap_future(future)

    def stop(self) -> None:
        """Do what was asked for until now, then end."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (asked := self._jobs.get()) is not None:
            job, future = asked
            if future.set_running_or_notify_cancel():
                _settle(future, job)


def _settle(future: Future[T], job: Callable[[], T]) -> None:
    try:
        future.set_result(job())
    except BaseException as exc:  # noqa: BLE001 - broad: whatever it is, it is raised where the job was asked for
        future.set_exception(exc)
