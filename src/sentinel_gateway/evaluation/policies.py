"""Rules that decide from neighbours: the gateway's own, and those it is compared with."""

import random
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple, Self

import msgspec

from sentinel_gateway import rules
from sentinel_gateway.core.budget import ErrorBudgets
from sentinel_gateway.core.caching import Head
from sentinel_gateway.core.calibration import PACE, Calibrator
from sentinel_gateway.core.confidence.learner import Learner, refit
from sentinel_gateway.core.evidence import Fresh, Lesson, Study, Weighed
from sentinel_gateway.core.guards import veto
from sentinel_gateway.core.identity import Question
from sentinel_gateway.core.matching import Bar, Neighbour, Thresholds
from sentinel_gateway.evaluation.replay import Asked, Candidate, Decision
from sentinel_gateway.settings.model import Settings


class Guards:
    """What the guards say of pairs of texts, remembered: the same pairs come up in many runs."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self._vetoed: dict[tuple[int, int, bool], bool] = {}

    def vetoed(self, a: int, b: int, *, weighed: bool = False) -> bool:
        """As `core.guards.veto`."""
        asked = (a, b, weighed)
        if asked not in self._vetoed:
            self._vetoed[asked] = veto(self._texts[a], self._texts[b], weighed=weighed) is not None
        return self._vetoed[asked]


class Terms(msgspec.Struct, frozen=True):
    """What the operator has set: thresholds with their error budgets, and the share of hits that is explored."""

    thresholds: Thresholds
    exploration: float

    @classmethod
    def of(cls, settings: Settings, *, budget: float) -> Self:
        """As they are set, held to this error budget, 0 to 1."""
        set_ = rules.thresholds(settings)
        held = Thresholds(set_.usual, set_.least, ErrorBudgets(budget))
        return cls(held, rules.habits(settings).exploration)


class Sentinel:
    """The gateway's own decision (`core.calibration`, one for each realm), and what the path does around it.

    What is set apart from it: refits are at once, no store loses anything, every miss is studied (the gateway: one a second),
    nothing is audited, and nothing is tightened besides.
    """

    def __init__(self, texts: Sequence[str], guards: Guards, terms: Terms) -> None:
        self._texts = texts
        self._guards = guards
        self._terms = terms
        self._heads: dict[tuple[str, int], Head] = {}
        self._seen = _Seen([])
        self._calibrators: dict[str, Calibrator] = {}

    @property
    def budget(self) -> float:
        """Wrong hits by requests that are allowed."""
        return self._terms.thresholds.budgets.deployment

    def calibrator(self, realm: str = "") -> Calibrator:
        """Of this realm."""
        if realm not in self._calibrators:
            self._calibrators[realm] = Calibrator(Learner(pace=PACE))
        return self._calibrators[realm]

    def decide(self, asked: Asked, chance: random.Random) -> Decision:
        terms, bar = self._terms, self._bar(asked.realm)
        neighbours = [Neighbour(self._head(asked.scope, near.text), near.similarity) for near in asked.candidates]
        within = [near for near in asked.candidates if near.similarity >= terms.thresholds.least]
        place = self._first_fit(asked, bar.similarity, weighed=bar.weighed)
        weighed = None if place is None else self._weigh(asked, neighbours[place], neighbours)
        serves = weighed is not None and not bar.fails(weighed.confidence)
        if not serves:  # what a miss is studied for
            place = self._first_fit(asked, terms.thresholds.least, weighed=True)
            weighed = None if place is None else self._weigh(asked, neighbours[place], neighbours)
        if place is None or weighed is None:
            self._seen = _Seen(neighbours)
            return Decision(compared=within)
        explored = serves and chance.random() < terms.exploration
        entry = neighbours[place].head.key
        self._seen = _Seen(neighbours, entry, weighed, weight=1.0 / terms.exploration if explored else 1.0)
        if serves and not terms.exploration:
            self._learn(asked.realm, right=None)  # no hit is ever drawn: each counts as one that nobody can tell
        return Decision(within[place], serves and not explored, weighed.confidence, within)

    def transferred(self, texts: Sequence[str], guards: Guards) -> "Sentinel":
        """What it has learned, before other texts."""
        other = Sentinel(texts, guards, self._terms)
        learner, copy = self.calibrator().learner, other.calibrator()
        copy.adopt(learner.fit)
        copy.learner.rarity = learner.rarity
        return other

    def serves(self, asked: Asked) -> bool:
        """As it decides now, from its only neighbour, without exploring and without learning."""
        (found,) = asked.candidates
        bar = self._bar(asked.realm)
        if self._first_fit(asked, bar.similarity, weighed=bar.weighed) is None:
            return False
        near = Neighbour(self._head(asked.scope, found.text), found.similarity)
        return not bar.fails(self._weigh(asked, near, [near]).confidence)

    def learn(self, asked: Asked, decision: Decision, heard: Mapping[int, bool]) -> bool:
        entry = self._head(asked.scope, asked.text)
        study = Study(Question(asked.scope, entry.text), entry.key, asked.realm, self._seen.neighbours)
        told = {self._head(asked.scope, text).key: same for text, same in heard.items()}
        right = None if decision.candidate is None else heard.get(decision.candidate.text)
        self._learn(asked.realm, right=right, fresh=Fresh(study, told, kept=True))
        return True

    def _learn(self, realm: str, *, right: bool | None, fresh: Fresh | None = None) -> None:
        seen, calibrator = self._seen, self.calibrator(realm)
        calibrator.learn(Lesson(entry=seen.entry, weighed=seen.weighed, right=right, weight=seen.weight, fresh=fresh), at=0.0)
        if calibrator.learner.due:
            calibrator.adopt(refit(calibrator.learner.work()))

    def _weigh(self, asked: Asked, near: Neighbour, neighbours: Sequence[Neighbour]) -> Weighed:
        return self.calibrator(asked.realm).weigh(self._texts[asked.text], near, neighbours, objecting=None)

    def _bar(self, realm: str) -> Bar:
        thresholds = self._terms.thresholds
        return self.calibrator(realm).bar(thresholds, thresholds.budgets.of(model="", namespace="", key=None))

    def _first_fit(self, asked: Asked, least: float, *, weighed: bool) -> int | None:
        """The place of the first neighbour that may come into question."""
        near_enough = (place for place, near in enumerate(asked.candidates) if near.similarity >= least)
        fit = (n for n in near_enough if not self._guards.vetoed(asked.text, asked.candidates[n].text, weighed=weighed))
        return next(fit, None)

    def _head(self, scope: str, text: int) -> Head:
        head = self._heads.get((scope, text))
        if head is None:
            key = blake2b(f"{scope}:{text}".encode(), digest_size=8).hexdigest()
            head = Head(key=key, model="", created=0.0, expires=0.0, scope=scope, text=self._texts[text])
            self._heads[scope, text] = head
        return head


class _Seen(NamedTuple):
    """What was decided last, until it is heard what came of it."""

    neighbours: Sequence[Neighbour]
    entry: str = ""
    weighed: Weighed | None = None
    weight: float = 1.0


class Fixed:
    """Serves the candidate with the highest score, from `least` on; it never learns. Without `score`, the cosine."""

    def __init__(
        self, least: float, *, guards: Guards | None = None, score: Callable[[int, Candidate], float] | None = None
    ) -> None:
        self._least = least
        self._guards = guards
        self._score = score or (lambda _, near: near.similarity)

    def decide(self, asked: Asked, chance: random.Random) -> Decision:  # noqa: ARG002 - nothing is left to chance
        scored = sorted(((self._score(asked.text, near), near) for near in asked.candidates), key=lambda pair: -pair[0])
        for score, near in scored:
            if score < self._least:
                break
            if self._guards is None or not self._guards.vetoed(asked.text, near.text):
                return Decision(near, serve=True, confidence=score)
        return Decision()

    def serves(self, asked: Asked) -> bool:
        """As it decides."""
        return self.decide(asked, random.Random(0)).serve

    def learn(self, asked: Asked, decision: Decision, heard: Mapping[int, bool]) -> bool:  # noqa: ARG002
        """Nothing; every fresh answer is stored."""
        return True


def cosine_and_overlap(texts: Sequence[str]) -> Callable[[int, Candidate], float]:
    """BetterDB's score: 0.7 of the cosine and 0.3 of the share of words that both texts have."""
    words = [frozenset(text.lower().split()) for text in texts]

    def score(asked: int, near: Candidate) -> float:
        a, b = words[asked], words[near.text]
        return 0.7 * near.similarity + 0.3 * len(a & b) / max(len(a | b), 1)

    return score
