"""Pairs of questions, each in a cache of its own: would the stored answer have served?"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from sentinel_gateway.core.bound import BoundRules
from sentinel_gateway.evaluation.corpus import Corpus
from sentinel_gateway.evaluation.replay import Asked, Candidate, alone


class Pair(NamedTuple):
    """`same`: may the answer to `stored` serve `asked`? `kind` is what the pair tries."""

    kind: str
    stored: str
    asked: str
    same: bool


class Served(NamedTuple):
    """Of so many pairs."""

    pairs: int
    served: int

    @property
    def rate(self) -> float:
        return self.served / max(self.pairs, 1)


def try_pairs(
    pairs: Sequence[Pair], corpus: Corpus, serves: Callable[[Asked], bool], bounds: BoundRules
) -> dict[tuple[str, bool], Served]:
    """How many were served, by kind and truth."""
    left = alone(corpus, bounds)
    seen: dict[tuple[str, bool], Served] = {}
    for pair in pairs:
        stored, asked = corpus.number[pair.stored], corpus.number[pair.asked]
        near = Candidate(stored, float(corpus.vectors[stored] @ corpus.vectors[asked]))
        served = left.isdisjoint((stored, asked)) and serves(Asked(asked, "", [near]))
        key = (pair.kind, pair.same)
        before = seen.get(key, Served(0, 0))
        seen[key] = Served(before.pairs + 1, before.served + served)
    return seen
