"""How low may a confidence be that serves? As low as the upper bound of the wrong hits that it would have let through allows.

Judged are confidences as the latest fit tells them, each as if its own label were not known (`regression.left_out`): what a model
says of labels that it has learned from flatters, and what it said when it knew less is no measure of what it says now.
Two bounds must both hold, for each is blind where the other sees:

- *counted*: labels in strata of like confidence. Below the threshold in force nearly every request yields a label, above it few
  do; within a stratum a label is a label, however it was come by, and stands for its share of the requests there. A stratum that
  did worse than the one below it is counted together with it: that more confidence means no more errors is all that is assumed.
  Few labels stand for many hits, so this one sways.
- *told*: the wrong answers that the confidences themselves foretell, times by how much they have understated them so far. All
  labels from the threshold up share in that factor, and more below until enough wrong ones are foretold. This one is steady, but
  only as good as the shape of what was told.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np

from sentinel_gateway.core.confidence.interval import gamma_quantile, upper
from sentinel_gateway.core.confidence.regression import Numbers

STRATUM: Final = 40
"""Labels of a stratum, at least."""
COUNTED: Final = 0.2
TOLD: Final = 0.1
"""The chance that the true rate is above the one bound, and above the other."""
FORETOLD: Final = 30.0
"""Wrong labels that must have been foretold where it is asked how many there were."""


LEAST: Final = 1e-6
FEW: Final = 4
"""Points between two pauses: some 0.2 ms."""
NO_CANDIDATE: Final = 0.0
"""In place of a confidence, which is never 0: nothing came into question."""


class Records(NamedTuple):
    """Requests, as columns: the confidence of a candidate, and whether it was right: 1, 0, or NaN if nobody can say.

    Each stands for `weight` requests; for none if it was not drawn by chance. One that nobody can tell is taken to be like those
    of its stratum that were told.
    """

    confidence: Numbers
    right: Numbers
    weight: Numbers


class Point(msgspec.Struct, frozen=True, array_like=True):
    """If everything from `confidence` on served: the rate of wrong hits to be expected, and what it would hardly exceed."""

    confidence: float
    rate: float
    bound: float


class Run(NamedTuple):
    """Labels of like confidence, and what stands among them untold: labels, wrong ones, the lowest confidence, and two sums.

    `requests` they stand for, `foretold` wrong of those by their confidences; `doubts`: foretold wrong of the labels alone.
    """

    labels: int
    wrong: int
    lowest: float
    requests: float
    foretold: float
    doubts: float


class Stratum(NamedTuple):
    """Labels of like confidence, and the runs of labels that were pooled for it."""

    labels: int
    wrong: int
    runs: tuple[Run, ...]


def at_once() -> None:
    """In place of a pause."""


def curve(records: Records, breathe: Callable[[], None] = at_once) -> list[Point]:
    """Points with falling confidence, rising rate and rising bound; none without labels. `breathe` is called every few points."""
    requests = float(records.weight.sum())
    runs = _runs(records)
    told = iter(_told(runs, breathe))
    points: list[Point] = []
    mass = spread = heaviest = bound = 0.0
    for stratum in _pooled(Stratum(run.labels, run.wrong, (run,)) for run in runs):
        reached = share = 0.0
        for run in stratum.runs:
            reached += run.requests
            share = reached / stratum.labels
            here, squares = mass + stratum.wrong * share, spread + stratum.wrong * share * share
            counted = upper(here, squares, max(heaviest, share), COUNTED)
            bound = max(bound, max(counted, next(told)) / requests)
            points.append(Point(run.lowest, here / requests, bound))
            if len(points) % FEW == 0:
                breathe()
        mass += stratum.wrong * share
        spread += stratum.wrong * share * share
        heaviest = max(heaviest, share)
    return points


def threshold(points: Sequence[Point], budget: float) -> float:
    """The lowest confidence whose bound is within the budget; infinite if there is none."""
    return min((point.confidence for point in points if point.bound <= budget), default=math.inf)


def expected_threshold(points: Sequence[Point], budget: float) -> float:
    """The same for the rate that is to be expected; 0 without points."""
    if not points:
        return 0.0
    return min((point.confidence for point in points if point.rate <= budget), default=math.inf)


def _told(runs: Sequence[Run], breathe: Callable[[], None]) -> list[float]:
    """For each run what the wrong answers from its confidence up hardly exceed, if they are as foretold but for a factor."""
    bounds: list[float] = []
    requests = foretold = wrong = 0.0
    seen = 0
    for number, run in enumerate(runs):
        requests += run.foretold
        while seen < len(runs) and (seen <= number or foretold < FORETOLD):
            foretold += runs[seen].doubts
            wrong += runs[seen].wrong
            seen += 1
        bounds.append(requests * gamma_quantile(wrong + 1.0, 1.0 - TOLD) / max(foretold, LEAST))
        if number % FEW == 0:
            breathe()
    return bounds


def _pooled(strata: Iterable[Stratum]) -> list[Stratum]:
    """From one to the next the share of wrong labels rises (pool adjacent violators)."""
    pooled: list[Stratum] = []
    for stratum in strata:
        lower = stratum
        while pooled and pooled[-1].wrong * lower.labels >= lower.wrong * pooled[-1].labels:
            higher = pooled.pop()
            lower = Stratum(higher.labels + lower.labels, higher.wrong + lower.wrong, higher.runs + lower.runs)
        pooled.append(lower)
    return pooled


def _runs(records: Records) -> list[Run]:
    """Of at least `STRATUM` labels; those of equal confidence stay together, and a rest belongs to the last run.

    What nobody can tell belongs to the run among whose confidences it stands.
    """
    confidence, right, weight = records
    told = ~np.isnan(right)
    known = np.flatnonzero(told & (weight > 0))
    if not len(known):
        return []
    known = known[np.lexsort((weight[known], right[known], confidence[known]))[::-1]]
    starts = np.array(_starts(confidence[known]))
    lowest = confidence[known][np.append(starts[1:], len(known)) - 1]
    opened = np.flatnonzero(~told & (confidence != NO_CANDIDATE))
    among = np.searchsorted(-lowest[:-1], -confidence[opened])
    doubt = 1.0 - confidence
    columns = (
        np.diff(np.append(starts, len(known))),
        np.add.reduceat(right[known] == 0, starts, dtype=int),
        lowest,
        np.add.reduceat(weight[known], starts) + np.bincount(among, weight[opened], len(starts)),
        np.add.reduceat((doubt * weight)[known], starts) + np.bincount(among, (doubt * weight)[opened], len(starts)),
        np.add.reduceat(doubt[known], starts),
    )
    return [Run(*run) for run in zip(*(column.tolist() for column in columns), strict=True)]


def _starts(falling: Numbers) -> list[int]:
    """Where each run begins among these confidences."""
    steps = np.flatnonzero(falling[1:] < falling[:-1]) + 1
    starts = [0]
    while (place := int(np.searchsorted(steps, starts[-1] + STRATUM))) < len(steps) and len(falling) - steps[place] >= STRATUM:
        starts.append(int(steps[place]))
    return starts
