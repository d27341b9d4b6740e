"""An event loop whose time leaps to whatever is due next: minutes take milliseconds, and the same run is the same again."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Leaping(selectors.SelectSelector):
    """Waits for nothing: the time that it should have waited has passed."""

    loop: "LeapingLoop"

    def select(self, timeout=None):
        if timeout is None:
            raise RuntimeError("nothing is due, and somebody still waits")
        self.loop.now += max(timeout, 0.0)
        return super().select(0)


class LeapingLoop(asyncio.SelectorEventLoop):
    """Time begins at 0 and stands still while anything can be done."""

    def __init__(self) -> None:
        self.now = 0.0
        selector = _Leaping()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now


def run(main: Coroutine[Any, Any, T]) -> T:
    """What it returns, in a loop of its own."""
    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        return runner.run(main)
