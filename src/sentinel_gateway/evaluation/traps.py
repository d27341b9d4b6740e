"""Pairs of questions, each in a cache of its own: would the stored answer have served?"""

from collections.abc import Sequence
from typing import NamedTuple

from sentinel_gateway.evaluation.corpus import Corpus
from sentinel_gateway.evaluation.policies import Guards, Sentinel
from sentinel_gateway.evaluation.replay import Asked, Candidate


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
    pairs: Sequence[Pair], corpus: Corpus, policy: Sentinel | None, *, least: float = 0.0
) -> dict[tuple[str, bool], Served]:
    """How many were served, by kind and truth: by the policy as it is now, or without one by guards and a fixed cosine."""
    guards = Guards(corpus.texts)
    seen: dict[tuple[str, bool], Served] = {}
    for pair in pairs:
        stored, asked = corpus.number[pair.stored], corpus.number[pair.asked]
        cosine = float(corpus.vectors[stored] @ corpus.vectors[asked])
        if policy is None:
            serves = cosine >= least and not guards.vetoed(asked, stored)
        else:
            near = Candidate(stored, cosine, 0.0)
            serves = policy.serves(Asked(asked, "", [near], cosine), near)
        key = (pair.kind, pair.same)
        before = seen.get(key, Served(0, 0))
        seen[key] = Served(before.pairs + 1, before.served + serves)
    return seen
