"""Run a coroutine at once, and give it a task only when it first waits.

Most answers are hits, and a hit waits for nothing: without a task it costs a tenth less. Python 3.12 calls this an eager task;
until that is the oldest version served, it is done here.
"""

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any


def run_eagerly(run: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> asyncio.Task[None] | None:
    """The task that carries `run` on; None if it has ended already.

    Up to its first wait there is no current task: what needs one (`asyncio.timeout`, for example) comes after `own_task()`.
    Raises what `run` raises before it waits.
    """
    try:
        awaited = run.send(None)
    except StopIteration:
        return None
    return loop.create_task(_Begun(run, awaited))


async def own_task() -> None:
    """Returns within a task."""
    if asyncio.current_task() is None:
        await asyncio.sleep(0)


class _Begun(Coroutine[Any, Any, None]):
    """A coroutine that waits already. To the task it looks fresh: its first step yields what is waited for."""

    __slots__ = ("_awaited", "_run", "_told")

    def __init__(self, run: Coroutine[Any, Any, None], awaited: Any) -> None:
        self._run = run
        self._awaited = awaited
        self._told = False

    def __repr__(self) -> str:
        return f"<_Begun {self._run!r}>"

    def send(self, value: Any) -> Any:
        if self._told:
            return self._run.send(value)
        self._told = True
        return self._awaited

    def throw(self, kind: Any, *rest: Any) -> Any:
        """Also before the first step: a task that is cancelled at once."""
        self._told = True
        return self._run.throw(kind, *rest)

    def close(self) -> None:
        self._run.close()

    def __await__(self) -> Generator[Any, Any, None]:
        return self._run.__await__()
