"""Sentinel's rule, and the simple ones that it is compared with."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from sentinel_gateway.core.confidence.exploration import exploration_rate
from sentinel_gateway.core.confidence.features import Surroundings, features
from sentinel_gateway.core.confidence.learner import Learner, Observation, refit
from sentinel_gateway.core.guards import ruled_out, veto
from sentinel_gateway.core.guards.words import read
from sentinel_gateway.evaluation.replay import Asked, Candidate, Decision

EXPLORED: Final = 0.02


class Guards:
    """What the guards say of pairs of texts, remembered: the same pairs come up in many runs."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self._vetoed: dict[tuple[int, int], bool] = {}
        self._ruled_out: dict[tuple[int, int], bool] = {}

    def vetoed(self, a: int, b: int) -> bool:
        pair = (a, b)
        if pair not in self._vetoed:
            self._vetoed[pair] = veto(self._texts[a], self._texts[b]) is not None
        return self._vetoed[pair]

    def ruled_out(self, a: int, b: int) -> bool:
        pair = (a, b)
        if pair not in self._ruled_out:
            self._ruled_out[pair] = ruled_out(self._texts[a], self._texts[b]) is not None
        return self._ruled_out[pair]


class Sentinel:
    """Guards, confidence and error budget, as in the gateway; one learner for all scopes.

    `compared`: is a fresh answer compared with those of all neighbours, or only with that of the candidate? `strict`: is every
    guard a veto, or may labels outweigh the soft ones?
    """

    def __init__(
        self, texts: Sequence[str], guards: Guards, *, budget: float, compared: bool = True, strict: bool = False
    ) -> None:
        self._texts = texts
        self._budget = budget
        self._compared = compared
        self._strict = strict
        self._stands_against = guards.vetoed if strict else guards.ruled_out
        self.learner = Learner()
        self._threshold = self.learner.threshold(budget)
        self._features: tuple[float, ...] = ()
        self._hits = 0
        self._weight = 1.0

    def decide(self, asked: Asked, chance: random.Random) -> Decision:
        self.learner.rarity.count(read(self._texts[asked.text]).tokens)
        others = asked.candidates if self._compared else ()
        found = next((near for near in asked.candidates if not self._stands_against(asked.text, near.text)), None)
        if found is None:
            return Decision(compared=others)
        confidence = self.confidence(asked, found)
        self._weight, serves = 1.0, confidence >= self._threshold
        if serves:
            rate = exploration_rate(confidence, threshold=self._threshold, hits=self._hits, least=EXPLORED)
            self._hits += 1
            if chance.random() < rate:
                self._weight, serves = 1.0 / rate, False
        return Decision(found, serves, confidence, others)

    def transferred(self, texts: Sequence[str], guards: Guards) -> "Sentinel":
        """What it has learned, before other texts."""
        other = Sentinel(texts, guards, budget=self._budget, compared=self._compared, strict=self._strict)
        other.learner.adopt(self.learner.fit)
        other.learner.rarity = self.learner.rarity
        other._threshold = self._threshold
        return other

    def serves(self, asked: Asked, found: Candidate) -> bool:
        """As it decides now, without exploring and without learning."""
        return not self._stands_against(asked.text, found.text) and self.confidence(asked, found) >= self._threshold

    def confidence(self, asked: Asked, found: Candidate) -> float:
        """As the gateway finds it, from what the search and the two texts tell."""
        entry = _entry(asked, found.text)
        others = [near for near in asked.candidates if near is not found]
        agreeing, disagreeing = self.learner.kinship.around(entry, [_entry(asked, near.text) for near in others])
        surroundings = Surroundings(
            similarity=found.similarity,
            second=max((near.similarity for near in others), default=0.0),
            mean_near_asked=asked.around,
            mean_near_stored=found.around,
            agreeing=agreeing,
            disagreeing=disagreeing,
        )
        self._features = features(self._texts[asked.text], self._texts[found.text], surroundings, self.learner.rarity)
        return self.learner.confidence(self._features, entry)

    def learn(self, asked: Asked, decision: Decision, heard: Mapping[int, bool]) -> bool:
        found = decision.candidate
        compared = {_entry(asked, text): same for text, same in heard.items() if found is None or text != found.text}
        kept = _entry(asked, asked.text)
        if found is None:
            self.learner.learn(Observation(asked=kept, compared=compared))
            return True
        self.learner.learn(
            Observation(
                entry=_entry(asked, found.text),
                features=self._features,
                confidence_then=decision.confidence,
                right=heard[found.text],
                weight=self._weight,
                asked=kept,
                compared=compared,
            )
        )
        if self.learner.due:
            self.learner.adopt(refit(self.learner.work()))
            self._threshold = self.learner.threshold(self._budget)
        return True


def _entry(asked: Asked, text: int) -> str:
    return f"{asked.scope}:{text}"


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
