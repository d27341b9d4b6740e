"""Where pure rules are asked that would hold the event loop up: on a thread, or at once where there is no loop to care for."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

T = TypeVar("T")


class Aside(Protocol):
    """Asks a rule that reads nothing which may change meanwhile."""

    async def __call__(self, rule: Callable[[], T]) -> T:
        """What it returns or raises."""
        ...

    def close(self) -> None:
        """Ask nothing more."""
        ...


class AtOnce:
    """Where nobody waits: an evaluation, a test."""

    async def __call__(self, rule: Callable[[], T]) -> T:
        return rule()

    def close(self) -> None:
        """There is nothing to close."""

    def __repr__(self) -> str:
        return "<AtOnce>"


class OneThread:
    """A thread that asks one rule after the other; it begins with the first. Who leaves before its turn is not asked for."""

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def __call__(self, rule: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, rule)

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)

    def __repr__(self) -> str:
        return f"<OneThread {self._thread._thread_name_prefix}>"  # noqa: SLF001 - told nowhere else


AT_ONCE = AtOnce()
