"""Why was a question answered as it was? What stood near it, what every rule says of that, and what they were measured by.

Nothing here holds the text of a stored question: whoever reads an explanation need not be the one who asked it.
"""

from collections.abc import Mapping
from typing import Literal, get_args

import msgspec

from sentinel_gateway.core.guards import Guard, vetoes
from sentinel_gateway.core.matching import BELOW_THRESHOLD, Bar, Neighbour, objections

Basis = Literal["similarity", "probability"]
"""What a confidence is, and with that what the threshold is compared with.

`similarity`: the cosine itself, no probability: nothing is known of how right answers are, or the caller has set a threshold.
`probability`: that the stored answer is right, as labels have taught it (`core.confidence`).
"""


class Candidate(msgspec.Struct, frozen=True):
    """A stored question that was held against the one asked, by the key of its answer, and all that speaks against it."""

    key: str
    similarity: float
    confidence: float
    objections: tuple[str, ...]
    """Of the closed list of miss reasons; the first decides. None at all: its answer may serve."""


class Explanation(msgspec.Struct, frozen=True):
    """The candidates in the order in which they were asked, and what each had to reach."""

    bar: Bar
    candidates: tuple[Candidate, ...]

    @property
    def basis(self) -> Basis:
        return basis(self.bar)

    @property
    def threshold(self) -> float:
        return threshold(self.bar)


def basis(bar: Bar) -> Basis:
    """What is compared with the threshold."""
    return "similarity" if bar.confidence is None else "probability"


def threshold(bar: Bar) -> float:
    """The least confidence, on its basis; infinite: nothing serves."""
    return bar.similarity if bar.confidence is None else bar.confidence


def candidate(text: str, near: Neighbour, bar: Bar, *, token_limit: int | None, confidence: float | None = None) -> Candidate:
    """One neighbour of `text`, judged by every rule, whichever of them decides. `confidence`: the probability, if it is known."""
    against = tuple(objections(text, near, threshold=bar.similarity, token_limit=token_limit, weighed=bar.weighed))
    shown = near.similarity if bar.confidence is None or confidence is None else confidence
    return Candidate(near.head.key, near.similarity, shown, against + _unsure(against, bar, confidence))


def _unsure(against: tuple[str, ...], bar: Bar, confidence: float | None) -> tuple[str, ...]:
    return (BELOW_THRESHOLD,) if bar.fails(confidence) and BELOW_THRESHOLD not in against else ()


class Comparison(msgspec.Struct, frozen=True):
    """Would the answer to one text serve the other? `similarity` and `confidence` are None where there are no vectors."""

    reason: str | None
    """Why not, of the closed list of miss reasons; None: it would serve."""
    bar: Bar
    similarity: float | None = None
    confidence: float | None = None
    guards: Mapping[Guard, bool] = {}
    """Of every guard, whether it objects, be that a veto or a doubt; empty for texts that are compared with nothing."""


def compared(a: str, b: str, similarity: float, bar: Bar, *, confidence: float | None = None) -> Comparison:
    """Two texts whose cosine is known, judged by every rule."""
    against = tuple(vetoes(b, a))
    final = tuple(vetoes(b, a, weighed=bar.weighed))
    reasons = [BELOW_THRESHOLD] if similarity < bar.similarity else [f"guard-{guard}" for guard in final]
    if not reasons and bar.fails(confidence):
        reasons = [BELOW_THRESHOLD]
    guards = {guard: guard in against for guard in get_args(Guard)}
    shown = similarity if bar.confidence is None or confidence is None else confidence
    return Comparison(reasons[0] if reasons else None, bar, similarity, shown, guards)
