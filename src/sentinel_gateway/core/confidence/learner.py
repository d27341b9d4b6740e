"""Learns from labels how likely a stored answer is right for another question.

One learner serves a namespace: what one entry teaches serves all, so a new entry needs no labels of its own.

The confidence is a logistic regression over `features` and the *standing* of the entry: how its labels so far differed from what
was expected. Labels are taken as they come, in microseconds. Every few hundred of them weights and curve are made anew, from a
window of the last ones, by `refit`: a pure function of what `work` hands out, for another thread; `adopt` puts its result in
force, here or on another node.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b
from typing import Final, Self

import msgspec
import numpy as np

from sentinel_gateway.core.confidence.curve import NO_CANDIDATE, Point, Records, at_once, curve, expected_threshold, threshold
from sentinel_gateway.core.confidence.features import NAMES
from sentinel_gateway.core.confidence.kinship import Kinship
from sentinel_gateway.core.confidence.rarity import WORDS, Counts, Rarity
from sentinel_gateway.core.confidence.regression import FARTHEST, Numbers, curvature, fit, left_out
from sentinel_gateway.core.confidence.window import WIDTH, Block, Row, Window

VERSION: Final = 3
"""Of `State`: one of another version is not read, and stays beside it. Who raises this learns anew: say so in the changelog."""
MARK_BYTES: Final = 8
UNTOLD: Final = math.nan
ENTRY_BYTES: Final = 1_900
"""What is known of an entry, about: its standing, and five others that it was compared with."""
WORD_BYTES: Final = 100
DOUBT: Final = 2.0
"""An entry's standing begins as if it had so many labels that were as expected."""
VETO: Final = -8.0
"""What a guard's doubt takes from the logit before evidence says otherwise: no similarity makes up for it."""


class Prior(msgspec.Struct, frozen=True):
    """What holds before there are labels; below `least` of them the operator's similarity is a condition beside what they say.

    `weights` are one for each of `NAMES`, one for the entry's standing, and one that is common to all; a refit starts from them.
    `strengths`: how firmly each is held where labels say otherwise; to move it by 1 costs half of that, in nats.
    """

    least: int = 300
    weights: tuple[float, ...] = (1.0, 1.0, *(12 * [0.0]), VETO, VETO, VETO, 2.0, 1.0)
    strengths: tuple[float, ...] = (*(5 * [3.0]), 1.0, 1.0, *(7 * [3.0]), 0.2, 0.2, 0.2, 1.0, 1.0)


class Pace(msgspec.Struct, frozen=True):
    """When to learn, and from how much.

    Labels from one refit to the next: an eighth of those before, from `least` to `most`. `window`: requests that a refit looks
    back on. `entries`: so many keep their standing; the one judged longest ago goes first. `words`: whose rarity is counted.
    """

    least: int = 25
    most: int = 200
    window: int = 10_000
    entries: int = 50_000
    words: int = WORDS


class Observation(msgspec.Struct, frozen=True):
    """A request that reached the decision, and what came of it.

    `entry`: the stored answer that was judged, with the `features` and the confidence it had then. `right`: is it right for what
    was asked? None if nobody can say. `weight`: so many requests it stands for, one by the chance that it was labelled; 0 if it
    was not drawn by chance (a complaint): it teaches, and does not count. `at`: Unix time. A request for which no stored answer
    came into question is an observation, too, with nothing but its weight.

    `decision`: its id, by which others may have a say in it later.

    `asked`: the entry under which the fresh answer is kept, if it is, and `around` how near its question's neighbours are on
    average; `compared`: whether the answer says the same as those of others.
    """

    entry: str = ""
    features: tuple[float, ...] = (0.0,) * len(NAMES)
    confidence_then: float = 0.0
    right: bool | None = None
    weight: float = 1.0
    at: float = 0.0
    decision: str = ""
    asked: str = ""
    around: float = 0.0
    compared: dict[str, bool] = {}


class Fit(msgspec.Struct, frozen=True):
    """What a refit found, from so many labels."""

    weights: tuple[float, ...]
    points: tuple[Point, ...] = ()
    labels: int = 0


class Work(msgspec.Struct, frozen=True):
    """All that a refit needs; nobody changes it."""

    blocks: tuple[Block, ...]
    prior: Prior


class State(msgspec.Struct, frozen=True):
    """A learner, to be kept. Its mappings are the learner's own, which goes on changing them: each is to be read in one step."""

    fit: Fit
    blocks: tuple[Block, ...]
    standings: dict[str, tuple[float, float]]
    kinship: dict[str, dict[str, bool]]
    arounds: dict[str, float]
    counts: Counts
    version: int = VERSION
    lesson: int = 0
    """The number of the last lesson in it, where nodes learn from each other's."""


class Learner:
    """The confidence of one namespace. Not for several threads at a time; the same observations make the same learner.

    `key` is that of the checksums of words (`Rarity`).
    """

    def __init__(self, prior: Prior | None = None, pace: Pace | None = None, *, key: bytes = b"") -> None:
        self.prior = prior or Prior()
        self.pace = pace or Pace()
        self.rarity = Rarity(most=self.pace.words, key=key)
        self.kinship = Kinship(most=self.pace.entries)
        self.fit = Fit(self.prior.weights)
        self._window = Window(self.pace.window)
        self._standings: dict[str, tuple[float, float]] = {}
        self._arounds: dict[str, float] = {}
        self._fresh = 0

    def __repr__(self) -> str:
        return f"<Learner of {len(self._window)} requests, fitted to {self.fit.labels} labels, {len(self._standings)} entries>"

    def confidence(self, features: Sequence[float], entry: str) -> float:
        """The probability, 0 to 1, that what is stored as `entry` is right."""
        *weights, standing, common = self.fit.weights
        logit = common + standing * self._standing(entry)
        logit += math.fsum(weight * value for weight, value in zip(weights, features, strict=True))
        return 1.0 / (1.0 + math.exp(-max(-FARTHEST, min(FARTHEST, logit))))

    def around(self, entry: str) -> float:
        """How near the neighbours of its question were on average, when it was asked; 0 if that is not known."""
        return self._arounds.get(entry, 0.0)

    @property
    def calibrated(self) -> bool:
        """Do labels decide, and not the operator's similarity?"""
        return self.fit.labels >= self.prior.least

    def threshold(self, budget: float) -> float:
        """The lowest confidence that may serve, so that wrong hits by requests stay within `budget`; infinite: nothing may.

        Few labels prove nothing: below `Prior.least` of them it is by the rate that is to be expected, 0 without any. That only
        tightens, for then the operator's similarity must hold as well (`core.calibration`).
        """
        return (threshold if self.calibrated else expected_threshold)(self.fit.points, budget)

    def learn(self, observation: Observation) -> None:
        """Take it. What is known of the entry changes at once, the rest with the next refit."""
        seen = observation
        right = seen.right
        if right is not None:
            right = self.kinship.second_opinion(seen.entry, seen.compared, right=right)
        told = seen.confidence_then if seen.entry else NO_CANDIDATE
        known = UNTOLD if right is None else float(right)
        numbers = (*seen.features, self._standing(seen.entry))
        self._window.append(Row(numbers, told, known, seen.weight, seen.at, _mark(seen.decision)))
        if seen.asked:
            self._note_kin(seen)
            self._note_around(seen)
        if right is not None:
            self._fresh += 1
            self._judge(seen.entry, right - seen.confidence_then)

    def correct(self, decision: str, entry: str, *, right: bool, drawn: bool) -> bool:
        """Put this in place of what was said of a decision; False if nothing was, or that is too long ago.

        `drawn`: chance has drawn it, so that the word also stands where nobody could tell.
        """
        mark = _mark(decision)
        said = [row for row in self._window.find(mark) if drawn or not math.isnan(row.right)]
        if not said:
            return False
        before, after = said[0], float(right)
        self._window.tell(mark, before.right, after)
        if math.isnan(before.right):
            self._fresh += 1
            self._judge(entry, after - before.confidence)
        elif before.right != after:
            self._fresh += 1
            self._judge(entry, after - before.right, labels=0.0)
        return True

    def forget(self, decision: str, entry: str) -> None:
        """Take back what was said of a decision, which is to be learned anew."""
        mark = _mark(decision)
        for row in self._window.find(mark):
            if not math.isnan(row.right):
                self._judge(entry, row.confidence - row.right, labels=-1.0)
        self._window.void(mark)

    @property
    def worth_keeping(self) -> bool:
        """Has it labels enough for a first refit, or had one?"""
        return self.fit.labels > 0 or _labels(self._window.blocks()) >= self.pace.least

    @property
    def weight(self) -> int:
        """Bytes of memory, about."""
        entries = max(len(self._standings), len(self._arounds), len(self.kinship.verdicts()))
        return self._window.nbytes + ENTRY_BYTES * entries + WORD_BYTES * len(self.rarity)

    @property
    def due(self) -> bool:
        """Have enough labels come in since the last refit?"""
        return self._fresh >= min(self.pace.most, max(self.pace.least, self.fit.labels // 8))

    def work(self) -> Work:
        """What the next refit is made of; it counts as begun."""
        self._fresh = 0
        return self.recorded

    @property
    def recorded(self) -> Work:
        """The same for who only looks."""
        return Work(self._window.blocks(), self.prior)

    def adopt(self, fit: Fit) -> None:
        """Decide by this from now on."""
        self.fit = fit

    def state(self) -> State:
        """All of it, with what has come in since the last refit."""
        kin, counts = self.kinship.verdicts(), self.rarity.counts()
        return State(self.fit, self._window.blocks(), self._standings, kin, self._arounds, counts)

    @classmethod
    def restore(cls, state: State, prior: Prior | None = None, pace: Pace | None = None, *, key: bytes = b"") -> Self:
        """As it was kept, and the state is its own from now on; a new one if that is of another version, or of other features."""
        learner = cls(prior, pace, key=key)
        if state.version == VERSION and len(state.fit.weights) == len(learner.prior.weights):
            learner.fit = state.fit
            learner.rarity = Rarity(state.counts, most=learner.pace.words, key=key)
            learner.kinship = Kinship(state.kinship, most=learner.pace.entries)
            learner._window = Window(learner.pace.window, state.blocks)
            learner._standings = state.standings
            learner._arounds = state.arounds
        return learner

    def _standing(self, entry: str) -> float:
        surprise, labels = self._standings.get(entry, (0.0, 0.0))
        return surprise / (labels + DOUBT)

    def _judge(self, entry: str, surprise: float, *, labels: float = 1.0) -> None:
        before, known = self._standings.pop(entry, (0.0, 0.0))
        self._standings[entry] = (before + surprise, max(0.0, known + labels))
        if len(self._standings) > self.pace.entries:
            del self._standings[next(iter(self._standings))]

    def _note_around(self, seen: Observation) -> None:
        self._arounds.pop(seen.asked, None)
        self._arounds[seen.asked] = seen.around
        if len(self._arounds) > self.pace.entries:
            del self._arounds[next(iter(self._arounds))]

    def _note_kin(self, seen: Observation) -> None:
        """As the judge said it, of each by itself: a second opinion on these would be an echo."""
        verdicts = seen.compared if seen.right is None else seen.compared | {seen.entry: seen.right}
        for other, same in verdicts.items():
            self.kinship.note(seen.asked, other, same=same)


def refit(work: Work, breathe: Callable[[], None] = at_once) -> Fit:
    """Weights and curve from the window, some tens of milliseconds for 10,000 requests; `breathe` is called every few of them."""
    features, right, weight = _told_rows(work, breathe)
    breathe()
    prior, strengths = np.array(work.prior.weights), np.array(work.prior.strengths)
    weights = fit(features, right, centre=prior, strength=strengths, breathe=breathe)
    breathe()
    bent = curvature(features, weights, strengths)
    breathe()
    points = curve(_told_anew(work.blocks, partial(left_out, weights=weights, curvature=bent), breathe), breathe)
    drawn = int((weight > 0).sum())  # complaints teach, but prove no rate
    return Fit(tuple(weights.tolist()), tuple(points), drawn)


def retold(work: Work, weights: Sequence[float], breathe: Callable[[], None] = at_once) -> Records:
    """The window's requests with the confidence that these weights tell each, as if its own label were not known."""
    known = np.array(weights)
    features, _, _ = _told_rows(work, breathe)
    bent = curvature(features, known, np.array(work.prior.strengths))
    breathe()
    return _told_anew(work.blocks, partial(left_out, weights=known, curvature=bent), breathe)


def _told_rows(work: Work, breathe: Callable[[], None]) -> tuple[Numbers, Numbers, Numbers]:
    """Of the requests that somebody could tell: the features, with a last column that is common to all; right or not; weights."""
    told: list[Block] = []
    for block in work.blocks:
        told.append(block[~np.isnan(block["right"])])
        breathe()
    right, weight = _column(told, "right"), _column(told, "weight")
    known = np.concatenate([np.empty((0, WIDTH)), *(rows["features"] for rows in told)])
    return np.column_stack((known, np.ones(len(right)))), right, weight


def _told_anew(blocks: Sequence[Block], tell: Callable[[Numbers, Numbers], Numbers], breathe: Callable[[], None]) -> Records:
    """The window's requests with the confidence that each is told now."""
    records = Records(*(_column(blocks, name) for name in Records._fields))
    told = []
    for block in blocks:
        told.append(tell(np.column_stack((block["features"], np.ones(len(block)))), block["right"]))
        breathe()
    confidence = np.concatenate([np.empty(0), *told])
    return records._replace(confidence=np.where(records.confidence == NO_CANDIDATE, NO_CANDIDATE, confidence))


def _column(blocks: Sequence[Block], name: str) -> Numbers:
    return np.concatenate([np.empty(0), *(block[name] for block in blocks)])


def _labels(blocks: Sequence[Block]) -> int:
    return sum(int(np.count_nonzero(~np.isnan(block["right"]))) for block in blocks)


def _mark(decision: str) -> int:
    """By which its row is found again; 0 for none."""
    return int.from_bytes(blake2b(decision.encode(), digest_size=MARK_BYTES).digest()) if decision else 0
