"""How well does a score tell right answers from wrong ones, and how many hits does an error rate buy? Pure sums over trials.

A rate is always by all trials, as the error budget counts (docs/evidence.md): by whatever was asked, not by hits alone.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final, NamedTuple

import msgspec

NEVER: Final = -math.inf
"""The score of what a rule would serve at no threshold."""


class Scored(NamedTuple):
    """One trial: what a rule thinks of a stored answer, and whether it is right."""

    score: float
    right: bool


class Point(msgspec.Struct, frozen=True):
    """If every score from `threshold` on served: the share of trials that are hits, and of those that are wrong hits."""

    threshold: float
    hit_rate: float
    wrong_hit_rate: float


def auc(trials: Iterable[Scored]) -> float | None:
    """The chance that a right answer scores above a wrong one, ties counted half; None unless there are both."""
    above = right = wrong = 0.0
    for _, group in groupby(sorted(trials), key=lambda trial: trial.score):
        tied = [trial.right for trial in group]
        risen = sum(tied)
        above += risen * (wrong + (len(tied) - risen) / 2.0)
        right += risen
        wrong += len(tied) - risen
    return above / (right * wrong) if right and wrong else None


def curve(trials: Sequence[Scored]) -> list[Point]:
    """A point for each score there is, with falling threshold; both rates rise."""
    points: list[Point] = []
    hits = wrong = 0
    for score, group in groupby(sorted(trials, reverse=True), key=lambda trial: trial.score):
        if score == NEVER:
            break
        for trial in group:
            hits += 1
            wrong += not trial.right
        points.append(Point(score, hits / len(trials), wrong / len(trials)))
    return points


def most_hits(points: Sequence[Point], wrong_hit_rate: float) -> Point | None:
    """The lowest threshold at which no more than this share of trials are wrong hits; None if there is none."""
    return next((point for point in reversed(points) if point.wrong_hit_rate <= wrong_hit_rate), None)


def thinned(points: Sequence[Point], most: int) -> list[Point]:
    """At most so many of them, evenly, the first and the last among them."""
    if len(points) <= most:
        return list(points)
    return [points[round(place * (len(points) - 1) / (most - 1))] for place in range(most)]


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all do not exceed; 0 without values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0
