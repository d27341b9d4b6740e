"""What came of a run, counted."""

from collections.abc import Sequence
from typing import Final

import msgspec

WINDOW: Final = 1_000
BINS: Final = 10


class Tally(msgspec.Struct):
    """`decided`: for each request that reached the decision, was it served, and was that wrong? `exact` ones never did.

    `judged`: verdicts asked of the judge. `told`: the confidence of each candidate that was chosen, and the truth about it.
    """

    decided: list[tuple[bool, bool]] = msgspec.field(default_factory=list)
    exact: int = 0
    judged: int = 0
    told: list[tuple[float, bool]] = msgspec.field(default_factory=list)

    def note(self, *, served: bool, right: bool, confidence: float | None) -> None:
        """One more decision."""
        self.decided.append((served, served and not right))
        if confidence is not None:
            self.told.append((confidence, right))

    @property
    def requests(self) -> int:
        return len(self.decided)

    @property
    def hits(self) -> int:
        return sum(served for served, _ in self.decided)

    @property
    def wrong(self) -> int:
        return sum(wrong for _, wrong in self.decided)

    @property
    def hit_rate(self) -> float:
        return self.hits / max(self.requests, 1)

    @property
    def error(self) -> float:
        """Wrong hits by requests that reached the decision: what the budget is about."""
        return self.wrong / max(self.requests, 1)

    @property
    def error_per_hit(self) -> float:
        return self.wrong / max(self.hits, 1)

    @property
    def judged_per_thousand(self) -> float:
        return 1_000 * self.judged / max(self.requests, 1)

    def part(self, start: int, end: int) -> "Tally":
        """The requests from `start` up to `end`, alone."""
        return Tally(self.decided[start:end])

    def windows_above(self, budget: float) -> float:
        """The share of whole windows of 1,000 requests, one after the other, with more wrong hits than the budget."""
        starts = range(0, self.requests - WINDOW + 1, WINDOW)
        above = [self.part(start, start + WINDOW).error > budget for start in starts]
        return sum(above) / max(len(above), 1)

    def calibration_error(self) -> float:
        """Expected calibration error: how far confidences are from the share that is right, in tenths, on average."""
        return sum(abs(sum(told - right for told, right in some)) for some in _tenths(self.told)) / max(len(self.told), 1)


def _tenths(told: Sequence[tuple[float, bool]]) -> list[list[tuple[float, bool]]]:
    tenths: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for confidence, right in told:
        tenths[min(int(confidence * BINS), BINS - 1)].append((confidence, right))
    return tenths
