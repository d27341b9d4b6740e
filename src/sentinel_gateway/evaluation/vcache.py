"""The rule of vCache (Schroeder et al., arXiv 2502.03771), written from the paper's description: each entry learns alone.

For each entry a logistic curve over the similarity is fitted to its own labels. With the chance `tau` the provider is asked, and
the entry gets a label; `tau` is the least that keeps the error within `delta`, over all levels of confidence, the location of the
curve being at the unfavourable end of its interval. Where the paper leaves a choice, it is the one with more hits: only an answer
that differs becomes an entry of its own. As its authors say of their program (vcache-project/vCache, issue 81), an entry's first
six look-ups always go to the provider; `least` is that number.
"""

import random
from collections import Counter
from collections.abc import Mapping
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sentinel_gateway.evaluation.replay import Asked, Decision

LOCATIONS: Final = np.linspace(0.0, 1.0, 101)[:, None]
STEEPNESSES: Final = np.geomspace(2.0, 200.0, 12)[None, :]
LEVELS: Final = np.linspace(0.0005, 0.5, 40)
"""The chance that the curve's location is beyond its interval."""
REACH: Final = np.array([NormalDist().inv_cdf(1.0 - level) ** 2 / 2.0 for level in LEVELS])
"""How far below the best the likelihood of a location may be, in nats, to be within the interval of that level."""
ENDS: Final = ((0.0, False), (1.0, True))
"""What every entry is taken to know: nothing in common is wrong, the same is right."""

Likelihoods = NDArray[np.float64]


class VCache:
    """`delta`: the share of requests that may be answered wrongly."""

    def __init__(self, delta: float, *, least: int = 6) -> None:
        self._delta = delta
        self._least = least
        self._fits: dict[tuple[str, int], Likelihoods] = {}
        self._labels: Counter[tuple[str, int]] = Counter()
        self._unknown = sum((_likelihood(similarity, right=right) for similarity, right in ENDS), np.zeros((101, 12)))

    def decide(self, asked: Asked, chance: random.Random) -> Decision:
        near = asked.candidates[0]
        key = (asked.scope, near.text)
        tau = 1.0 if self._labels[key] < self._least else self._tau(self._fits.get(key, self._unknown), near.similarity)
        return Decision(near, serve=chance.random() >= tau, confidence=1.0 - tau)

    def learn(self, asked: Asked, decision: Decision, heard: Mapping[int, bool]) -> bool:  # noqa: ARG002 - it asks of the nearest
        near = asked.candidates[0]
        key = (asked.scope, near.text)
        right = heard.get(near.text)
        if right is None:
            return True
        self._fits[key] = self._fits.get(key, self._unknown) + _likelihood(near.similarity, right=right)
        self._labels[key] += 1
        return not right

    def _tau(self, fit: Likelihoods, similarity: float) -> float:
        best = fit.max(axis=1)
        within = best[None, :] >= best.max() - REACH[:, None]
        farthest = within.shape[1] - 1 - np.argmax(within[:, ::-1], axis=1)
        steepness = STEEPNESSES[0, fit.argmax(axis=1)[farthest]]
        right = (1.0 - LEVELS) / (1.0 + np.exp(-steepness * (similarity - LOCATIONS[farthest, 0])))
        return float(np.clip((1.0 - self._delta - right) / (1.0 - right), 0.0, 1.0).min())


def _likelihood(similarity: float, *, right: bool) -> Likelihoods:
    """Of one label, for each location and steepness, as a logarithm."""
    logits = STEEPNESSES * (similarity - LOCATIONS)
    return -np.logaddexp(0.0, -logits if right else logits)
