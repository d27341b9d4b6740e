"""The last close decisions on reworded questions, for whoever looks after them: what stood near, and what was made of it.

In memory, and of this node alone. Both questions are among it only while the configuration lets them be read.
"""

from collections import deque
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from sentinel_gateway.core.caching import Hit, Step
from sentinel_gateway.core.explanation import Basis, basis, threshold
from sentinel_gateway.core.identity import Question
from sentinel_gateway.core.matching import Bar, Neighbour
from sentinel_gateway.pipeline.journey import Journey

if TYPE_CHECKING:
    from collections.abc import Callable

KEPT: Final = 500
"""Some 6 KB each at most."""

Outcome = Literal["served", "explored", "refused"]


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """How one request was decided. `similarity` and `confidence` are those of the answer that came into question, 0 to 1.

    `threshold`: what was asked of the one that `basis` names; infinite: nothing serves.
    """

    id: str
    at: float
    tenant: str
    namespace: str
    model: str
    entry: str
    similarity: float
    confidence: float | None
    basis: Basis
    threshold: float
    outcome: Outcome
    reason: str | None
    """Why it was not served, of the closed list of miss reasons."""
    asked: str | None = None
    stored: str | None = None

    @property
    def margin(self) -> float:
        """By how much it was above what was asked for, or below."""
        told = self.similarity if self.basis == "similarity" or self.confidence is None else self.confidence
        return told - self.threshold


class Decisions:
    """The last of them. `texts` says whether questions may be kept now."""

    def __init__(self) -> None:
        self.texts: Callable[[], bool] = lambda: False
        self._last: deque[Decided] = deque(maxlen=KEPT)

    def __repr__(self) -> str:
        return f"<Decisions {len(self._last)}>"

    def note(self, found: Hit | Step, question: Question, bar: Bar, journey: Journey) -> None:
        """Take one. `journey` has neighbours: the nearest is what it is about, unless another was served."""
        near, outcome, reason = _about(found, journey)
        texts = self.texts()
        self._last.append(
            Decided(
                id=journey.sentinel_id,
                at=journey.at,
                tenant=journey.caller.space,
                namespace=journey.wish.namespace,
                model=near.head.model,
                entry=near.head.key,
                similarity=near.similarity,
                confidence=None if journey.weighed is None else journey.weighed.confidence,
                basis=basis(bar),
                threshold=threshold(bar),
                outcome=outcome,
                reason=reason,
                asked=question.text if texts else None,
                stored=near.head.text if texts else None,
            )
        )

    def latest(self) -> list[Decided]:
        """The newest first, and without a word if that is how it is to be now."""
        texts = self.texts()
        found = list(reversed(self._last))
        return found if texts else [msgspec.structs.replace(one, asked=None, stored=None) for one in found]


def _about(found: Hit | Step, journey: Journey) -> tuple[Neighbour, Outcome, str | None]:
    hit = journey.trial.hit if isinstance(found, Step) and journey.trial is not None else found
    if isinstance(hit, Step):
        return journey.neighbours[0], "refused", hit.detail or hit.forward
    near = next((near for near in journey.neighbours if near.head.key == hit.entry.key), journey.neighbours[0])
    return near, "served" if isinstance(found, Hit) else "explored", None
