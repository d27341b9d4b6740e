"""Which of the misses are looked at: their fresh answers teach for nothing but the work of comparing them."""

from typing import Final

REMEMBERED: Final = 16
"""Gaps between misses, about, that say how fast they come."""
RAREST: Final = 0.01
"""One in a hundred at the least: a label that stood for more would outweigh all others."""


class Sampling:
    """All of them while they are few, and about `most` a second of many, by chance."""

    def __init__(self, most: float) -> None:
        self._most = most
        self._gap = 1.0 / most
        self._last = 0.0

    def __repr__(self) -> str:
        return f"<Sampling {self._most:g} a second, gaps of {self._gap:.3g} s>"

    def chance(self, now: float) -> float:
        """That of one which comes now, in seconds of any clock; it stands for one by its chance."""
        gap = min(now - self._last, 1.0 / self._most)
        self._last = now
        self._gap += (gap - self._gap) / REMEMBERED
        return max(RAREST, min(1.0, self._most * self._gap))
