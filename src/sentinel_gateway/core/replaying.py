"""What another policy would have done with the requests that were learned from: how many served, and how many of them wrongly.

The candidates are those that came into question, so what the hard guards veto is among none of them. Each is told the confidence
that holds now, as if its own label were not known.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel_gateway.core.confidence.curve import NO_CANDIDATE, at_once
from sentinel_gateway.core.confidence.features import NAMES, NEAR, SPREAD
from sentinel_gateway.core.confidence.interval import Estimate, wrong_hit_interval
from sentinel_gateway.core.confidence.learner import Work, retold
from sentinel_gateway.core.matching import Bar

SIMILARITY: Final = NAMES.index("similarity")
DOUBTS: Final = [place for place, name in enumerate(NAMES) if name.startswith("doubt_")]
CLOSE: Final = 1e-9
"""What a similarity may lose on its way through a feature."""


class Played(msgspec.Struct, frozen=True):
    """Requests that reached the decision, and hits among them, each standing for as many as chance has passed over.

    `labels`: of the hits that somebody could judge, whether they were right, and for how many hits each stands.
    """

    requests: float = 0.0
    hits: float = 0.0
    labels: tuple[tuple[bool, float], ...] = ()

    @property
    def wrong(self) -> Estimate:
        """Of the requests."""
        return wrong_hit_interval(self.labels, self.requests)

    @property
    def wrong_hits(self) -> Estimate:
        """Of the hits."""
        return wrong_hit_interval(self.labels, self.hits)


def played(
    work: Work, weights: Sequence[float], bars: Sequence[Bar], since: float, breathe: Callable[[], None] = at_once
) -> list[Played]:
    """What each of these would have come to, of what was decided since then (Unix time)."""
    records = retold(work, weights, breathe)
    features = np.concatenate([np.empty((0, len(NAMES) + 1)), *(block["features"] for block in work.blocks)])
    lately = np.concatenate([np.empty(0), *(block["at"] for block in work.blocks)]) >= since
    similarity = features[:, SIMILARITY] * SPREAD + NEAR
    doubted = (features[:, DOUBTS] > 0).any(axis=1)
    candidate = lately & (records.confidence != NO_CANDIDATE)
    found = []
    for bar in bars:
        serves = candidate & (similarity >= bar.similarity - CLOSE)
        if bar.confidence is not None:
            serves &= records.confidence >= bar.confidence
        if not bar.weighed:
            serves &= ~doubted
        found.append(_played(serves, records.right, records.weight, float(records.weight[lately].sum())))
        breathe()
    return found


def together(parts: Sequence[Played]) -> Played:
    """Of several places, as one."""
    labels = tuple(label for part in parts for label in part.labels)
    return Played(sum((part.requests for part in parts), 0.0), sum((part.hits for part in parts), 0.0), labels)


def _played(serves: NDArray[np.bool_], right: NDArray[np.float64], weight: NDArray[np.float64], requests: float) -> Played:
    """Those that nobody could tell are taken to be like those that somebody could."""
    hits = float(weight[serves].sum())
    told = serves & ~np.isnan(right) & (weight > 0)
    mass = float(weight[told].sum())
    scale = hits / mass if mass else 0.0
    labels = zip((right[told] == 1.0).tolist(), (weight[told] * scale).tolist(), strict=True)
    return Played(requests, hits, tuple(labels))
