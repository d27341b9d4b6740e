"""How what was learned decides: what a stored answer has to reach, how sure it is, and what a comparison teaches.

The one place where a learner is asked and taught: by the gateway's path (`pipeline/calibration.py`), and by the evaluation that
foretells what the path would do.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from sentinel_gateway.core.budget import ErrorBudget
from sentinel_gateway.core.confidence.features import NAMES, NEIGHBOURS, Surroundings, searched, worded
from sentinel_gateway.core.confidence.learner import Fit, Learner, Observation, Pace
from sentinel_gateway.core.evidence import Lesson, Weighed
from sentinel_gateway.core.guards import Guard
from sentinel_gateway.core.guards.words import read
from sentinel_gateway.core.matching import Bar, Neighbour, Thresholds

PACE: Final = Pace(entries=5_000, words=2_500)
"""Of each learner: ten megabytes where much was asked."""
BUDGETS: Final = 100
"""Thresholds that are remembered: one for each error budget."""
DIGITS: Final = 16
"""Of an entry's key, by which learners know it."""


class Calibrator:
    """One learner, and the thresholds that follow from it. Not for several threads at a time."""

    def __init__(self, learner: Learner) -> None:
        self.learner = learner
        self._thresholds: dict[float, float] = {}

    def __repr__(self) -> str:
        return f"<Calibrator {self.learner!r}>"

    def adopt(self, fit: Fit) -> None:
        """Decide by this from now on."""
        self.learner.adopt(fit)
        self._thresholds.clear()

    def threshold(self, budget: float) -> float | None:
        """The least confidence for an error budget, 0 to 1; None before there is a label."""
        if not self.learner.fit.labels:
            return None
        if budget not in self._thresholds:
            if len(self._thresholds) >= BUDGETS:
                self._thresholds.clear()
            self._thresholds[budget] = self.learner.threshold(budget)
        return self._thresholds[budget]

    def bar(self, thresholds: Thresholds, budget: ErrorBudget) -> Bar:
        """What an answer has to reach. Few labels loosen nothing, but they may tighten."""
        if not budget.rate:
            return Bar(thresholds.usual, math.inf, budget)
        least = self.threshold(budget.rate)
        if least is None:
            return Bar(thresholds.usual, budget=budget)
        if not self.learner.calibrated:
            return Bar(thresholds.usual, least, budget)
        return Bar(thresholds.least, least, budget, weighed=True)

    def weigh(
        self, text: str, near: Neighbour, neighbours: Sequence[Neighbour], *, objecting: frozenset[Guard] | None = frozenset()
    ) -> Weighed:
        """How sure it is that the answer of `near`, one of the `neighbours` of `text`, is right.

        `objecting`: the soft guards that do, None if unknown.
        """
        return self.weighed(near, neighbours, worded(text, near.head.text, self.learner.rarity, objecting=objecting))

    def weighed(self, near: Neighbour, neighbours: Sequence[Neighbour], words: tuple[float, ...]) -> Weighed:
        """The same, for the numbers that the words tell, which take longest."""
        entry = _name(near.head.key)
        others = [other for other in neighbours if other is not near]
        agreeing, disagreeing = self.learner.kinship.around(entry, [_name(other.head.key) for other in others])
        surroundings = Surroundings(
            similarity=near.similarity,
            second=max((other.similarity for other in others), default=0.0),
            mean_near_asked=_mean(neighbours),
            mean_near_stored=self.learner.around(entry),
            agreeing=agreeing,
            disagreeing=disagreeing,
        )
        numbers = (*searched(surroundings), *words)
        return Weighed(self.learner.confidence(numbers, entry), numbers)

    def learn(self, lesson: Lesson, at: float) -> None:
        """Take a label. `at`: Unix time."""
        weighed, fresh = lesson.weighed, lesson.fresh
        if weighed is not None and len(weighed.features) != len(NAMES):  # that of an older version
            return
        seen = Observation(right=lesson.right, weight=lesson.weight, at=at, decision=lesson.decision)
        if fresh is not None:
            self.learner.rarity.count(read(fresh.study.question.text).tokens)
            compared = {_name(key): same for key, same in fresh.compared.items() if key != lesson.entry}
            kept = _name(fresh.study.entry) if fresh.kept else ""
            around = _mean(fresh.study.neighbours)
            seen = msgspec.structs.replace(seen, asked=kept, around=around, compared=compared)
        if weighed is not None:
            told, entry = weighed.confidence, _name(lesson.entry)
            seen = msgspec.structs.replace(seen, entry=entry, features=weighed.features, confidence_then=told)
        self.learner.learn(seen)

    def correct(self, lesson: Lesson, *, drawn: bool) -> bool:
        """Put this in place of what was said of the same decision (`Learner.correct`); False if that is not there."""
        assert lesson.right is not None  # noqa: S101 - for the type checker
        return self.learner.correct(lesson.decision, _name(lesson.entry), right=lesson.right, drawn=drawn)

    def forget(self, lesson: Lesson) -> None:
        """Take back what was said of the same decision (`Learner.forget`)."""
        self.learner.forget(lesson.decision, _name(lesson.entry))


def _name(key: str) -> str:
    return key[:DIGITS]


def _mean(neighbours: Iterable[Neighbour]) -> float:
    cosines = [near.similarity for near in neighbours][:NEIGHBOURS]
    return math.fsum(cosines) / len(cosines) if cosines else 0.0
