"""How low may a confidence be that serves? As low as the upper bound of the wrong hits that it would have let through allows.

Judged are confidences as they were told *before* their label was known: what a model says of labels it has learned from flatters.
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
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from sentinel_gateway.core.confidence.interval import gamma_quantile, upper

STRATUM: Final = 40
"""Labels of a stratum, at least."""
TAIL: Final = 0.2
"""The chance that the true rate is above a bound, of either kind."""
FORETOLD: Final = 30.0
"""Wrong labels that must have been foretold where it is asked how many there were."""


LEAST: Final = 1e-6


NO_CANDIDATE: Final = 0.0
"""In place of a confidence, which is never 0: nothing came into question."""


class Record(NamedTuple):
    """A request: the confidence its candidate was told, and whether that was right; None if nobody can say.

    It stands for `weight` requests; for none if it was not drawn by chance. One that nobody can tell is taken to be like those of
    its stratum that were told.
    """

    confidence: float
    right: bool | None
    weight: float


class Point(msgspec.Struct, frozen=True, array_like=True):
    """If everything from `confidence` on served: the rate of wrong hits to be expected, and what it would hardly exceed."""

    confidence: float
    rate: float
    bound: float


class Stratum(NamedTuple):
    """Labels of like confidence, and the requests they stand for, of each run of labels that was pooled."""

    labels: int
    wrong: int
    runs: tuple[tuple[float, float], ...]
    """The lowest confidence of a run, and its requests."""


def curve(records: Sequence[Record]) -> list[Point]:
    """Points with falling confidence, rising rate and rising bound; none without labels."""
    requests = math.fsum(record.weight for record in records)
    known = sorted((record for record in records if record.right is not None and record.weight > 0), reverse=True)
    runs = _runs(known)
    untold = _untold(runs, (record for record in records if record.right is None and record.confidence != NO_CANDIDATE))
    told = iter(_told(runs, untold))
    points: list[Point] = []
    mass = spread = heaviest = bound = 0.0
    for stratum in _pooled(map(_stratum, runs, untold)):
        reached = share = 0.0
        for confidence, more in stratum.runs:
            reached += more
            share = reached / stratum.labels
            here, squares = mass + stratum.wrong * share, spread + stratum.wrong * share * share
            counted = upper(here, squares, max(heaviest, share), TAIL)
            bound = max(bound, max(counted, next(told)) / requests)
            points.append(Point(confidence, here / requests, bound))
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


def _untold(runs: Sequence[Sequence[Record]], opened: Iterable[Record]) -> list[list[Record]]:
    """What nobody can tell, by the runs among which it stands."""
    among: list[list[Record]] = [[] for _ in runs]
    lowest = [-run[-1].confidence for run in runs[:-1]]
    for record in opened if runs else ():
        among[bisect_left(lowest, -record.confidence)].append(record)
    return among


def _told(runs: Sequence[Sequence[Record]], untold: Sequence[Sequence[Record]]) -> list[float]:
    """For each run what the wrong answers from its confidence up hardly exceed, if they are as foretold but for a factor."""
    bounds: list[float] = []
    requests = foretold = wrong = 0.0
    seen = 0
    for number, run in enumerate(runs):
        requests += math.fsum((1.0 - record.confidence) * record.weight for record in (*run, *untold[number]))
        while seen < len(runs) and (seen <= number or foretold < FORETOLD):
            foretold += math.fsum(1.0 - record.confidence for record in runs[seen])
            wrong += sum(not record.right for record in runs[seen])
            seen += 1
        bounds.append(requests * gamma_quantile(wrong + 1.0, 1.0 - TAIL) / max(foretold, LEAST))
    return bounds


def _stratum(run: Sequence[Record], untold: Sequence[Record]) -> Stratum:
    requests = math.fsum(record.weight for record in (*run, *untold))
    return Stratum(len(run), sum(not record.right for record in run), ((run[-1].confidence, requests),))


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


def _runs(known: Sequence[Record]) -> list[Sequence[Record]]:
    """Of at least `STRATUM` labels; those of equal confidence stay together, and a rest belongs to the last run."""
    runs: list[Sequence[Record]] = []
    start = 0
    for end in range(1, len(known) + 1):
        full = end - start >= STRATUM and len(known) - end >= STRATUM
        if end == len(known) or (full and known[end].confidence < known[end - 1].confidence):
            runs.append(known[start:end])
            start = end
    return runs
