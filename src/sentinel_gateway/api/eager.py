"""Run a coroutine at once, and give it a task only when it first waits.

Most answers are hits, and a hit waits for nothing: without a task it costs a tenth less. Python 3.12 calls this an eager task;
until that is the oldest version served, it is done here.
"""

import asyncio
import types
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
    if awaited is not None:
        awaited._asyncio_future_blocking = False  # noqa: SLF001 - not waited for yet: the task's first step asks it again
    return loop.create_task(run)


@types.coroutine
def own_task() -> Generator[None, None, None]:
    """Returns within a task."""
    if asyncio.current_task() is None:
        yield  # to the next turn of the loop
