"""For tests of what must be done in time, on machines that now and then stand still, as virtual ones do.

    with awake() as clock:                     # a bar on time: what the machine slept does not count
        start = clock()
        ...
        assert clock() - start < 2.0

    @undisturbed                               # a short deadline of the product's: from the beginning, if the machine stood still
    async def test_...

Neither makes a bar looser: a program that is late while the machine runs is late by this clock, and fails in each attempt.
"""

import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec

P = ParamSpec("P")
Clock = Callable[[], float]
TICK = 0.02
"""Seconds from one look at the clock to the next, on a thread: a loop that is held up is no machine that stands still."""
STOOD_STILL = 0.25
"""Seconds between two looks, less those in which this process computed, beyond which it did."""
ATTEMPTS = 6


class Awake:
    """A clock that goes while the machine does; in seconds, from no moment in particular."""

    def __init__(self, now: Clock = time.monotonic, computed: Clock = time.process_time) -> None:
        self.slept = 0.0
        """Seconds that it stood still, since the beginning."""
        self._now, self._computed = now, computed
        self._seen = now(), computed()
        self._looking = threading.Lock()

    def __call__(self) -> float:
        with self._looking:
            now, computed = self._now(), self._computed()
            idle = now - self._seen[0] - (computed - self._seen[1])
            if idle > STOOD_STILL:
                self.slept += idle
            self._seen = now, computed
            return now - self.slept


@contextmanager
def awake() -> Iterator[Awake]:
    """The clock; it must not be asked afterwards."""
    clock, ended = Awake(), threading.Event()

    def tick() -> None:
        while not ended.wait(TICK):
            clock()

    ticking = threading.Thread(target=tick, name="awake", daemon=True)
    ticking.start()
    try:
        yield clock
    finally:
        ended.set()
        ticking.join()


def undisturbed(test: Callable[P, Awaitable[None]]) -> Callable[P, Awaitable[None]]:
    """A test that is made again if it fails while the machine stands still; any other failure is one. It finds what it left."""

    @wraps(test)
    async def attempts(*args: P.args, **kwargs: P.kwargs) -> None:
        for _ in range(ATTEMPTS - 1):
            with awake() as clock:
                try:
                    return await test(*args, **kwargs)
                except Exception:
                    clock()
                    if not clock.slept:
                        raise
        return await test(*args, **kwargs)

    return attempts
