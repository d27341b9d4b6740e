"""How what was learned decides: what a stored answer has to reach, how sure it is, and what a comparison teaches.

The one place where a learner is asked and taught: by the gateway's path (`pipeline/calibration.py`), and by the evaluation that
foretells what the path would do.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final, Literal

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


class Taught(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A lesson as every learner of its realm takes it, on whichever node. There is no text in it.

    `learn`: it is new. `amend`: it takes the place of what was said of the same decision, `drawn` by chance or not; if there was
    nothing, it is new, unless it is said `again`. `forget`: what was said is taken back. `words`: checksums of a question's.
    """

    kind: Literal["learn", "amend", "forget"] = "learn"
    seen: Observation
    words: tuple[int, ...] | None = None
    drawn: bool = False
    again: bool = False


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
        self.take(self.taught(lesson, at))

    def taught(self, lesson: Lesson, at: float) -> Taught:
        """What there is to take of a label, here or elsewhere."""
        weighed, fresh = lesson.weighed, lesson.fresh
        seen = Observation(right=lesson.right, weight=lesson.weight, at=at, decision=lesson.decision)
        words = None
        if fresh is not None:
            words = self.learner.rarity.marks(read(fresh.study.question.text).tokens)
            compared = {_name(key): same for key, same in fresh.compared.items() if key != lesson.entry}
            kept = _name(fresh.study.entry) if fresh.kept else ""
            around = _mean(fresh.study.neighbours)
            seen = msgspec.structs.replace(seen, asked=kept, around=around, compared=compared)
        if weighed is not None:
            told, entry = weighed.confidence, _name(lesson.entry)
            seen = msgspec.structs.replace(seen, entry=entry, features=weighed.features, confidence_then=told)
        return Taught(seen=seen, words=words)

    def take(self, taught: Taught) -> None:
        """Learn from it."""
        seen, learner = taught.seen, self.learner
        if taught.kind == "forget":
            learner.forget(seen.decision, seen.entry)
            return
        if taught.kind == "amend" and seen.right is not None:
            corrected = learner.correct(seen.decision, seen.entry, right=seen.right, drawn=taught.drawn)
            if corrected or taught.again:
                return
        if len(seen.features) != len(NAMES):  # those of an older version
            return
        if taught.words is not None:
            learner.rarity.add(taught.words)
        learner.learn(seen)


def _name(key: str) -> str:
    return key[:DIGITS]


def _mean(neighbours: Iterable[Neighbour]) -> float:
    cosines = [near.similarity for near in neighbours][:NEIGHBOURS]
    return math.fsum(cosines) / len(cosines) if cosines else 0.0
