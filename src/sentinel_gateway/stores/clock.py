"""The clock of a process. All that goes by time is given it, so that no jump of the machine's moves a deadline."""

import time


class SteadyClock:
    """The wall clock of now, carried on by one that never jumps, and goes on while the machine sleeps.

    Linux has two monotonic clocks, of which the usual one stands still meanwhile; elsewhere `CLOCK_MONOTONIC` does not.
    """

    __slots__ = ("_now", "_offset", "_which")

    def __init__(self) -> None:
        self._now, self._which = time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
        self._offset = time.time() - self._now(self._which)

    def __call__(self) -> float:
        return self._now(self._which) + self._offset

    def put_forward(self, seconds: float) -> None:
        """Go by a better clock from now on. It is a jump: for before anything is served."""
        self._offset += seconds
