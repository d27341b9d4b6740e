"""May the stored answer to one question serve another? Similarity proposes, the guards dispose.

Neighbours are asked in order of similarity; the reason told of a miss is that of the nearest one.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from sentinel_gateway.core.budget import ErrorBudget, ErrorBudgets
from sentinel_gateway.core.caching import Head, Wish
from sentinel_gateway.core.chat import Answer
from sentinel_gateway.core.confidence.features import worded
from sentinel_gateway.core.confidence.rarity import Rarity
from sentinel_gateway.core.guards import Guard, vetoes

SAME: Final = 1.0
"""The similarity of a text to itself, which a rounded vector may miss by a little."""
NO_NEIGHBOUR: Final = "no-neighbour"
BELOW_THRESHOLD: Final = "below-threshold"
TOO_LONG: Final = "guard-length"
"""The stored answer has more tokens than the caller allows, or an unknown number."""


class Thresholds(msgspec.Struct, frozen=True):
    """The operator's: cosines, 0 to 1. A caller may ask for another than the `usual` one, though never below `least`."""

    usual: float
    least: float
    budgets: ErrorBudgets = ErrorBudgets()

    def of(self, wish: Wish) -> float:
        """What holds for this caller."""
        asked = wish.similarity_threshold
        return self.usual if asked is None else max(asked, self.least)


class Bar(msgspec.Struct, frozen=True):
    """What a stored answer has to reach: a least similarity, and a least confidence, a probability, where there is one.

    `confidence` None: similarity alone decides; infinite: nothing serves. `budget`: what it is made for. `weighed`: labels were
    enough for what soft guards say of rewordings to be a doubt (`core.guards.vetoes`).
    """

    similarity: float
    confidence: float | None = None
    budget: ErrorBudget | None = None
    weighed: bool = False

    def fails(self, confidence: float | None) -> bool:
        """Is it below what is asked for? Not, where none is asked for."""
        return self.confidence is not None and confidence is not None and confidence < self.confidence


class Neighbour(msgspec.Struct, frozen=True):
    """A stored question and its similarity to the one asked: their true cosine, to 1e-3."""

    head: Head
    similarity: float


def ranked(text: str, neighbours: Iterable[Neighbour]) -> list[Neighbour]:
    """The most similar first; the very same text, asked with another seed or limit, before all."""
    true = (found if found.head.text != text else Neighbour(found.head, SAME) for found in neighbours)
    return sorted(true, key=lambda found: -found.similarity)


def objections(
    text: str, neighbour: Neighbour, *, threshold: float, token_limit: int | None, weighed: bool = False
) -> Iterator[str]:
    """All reasons why the neighbour's answer may not serve `text`, for a caller who allows so many tokens; cheap ones first."""
    head = neighbour.head
    if neighbour.similarity < threshold:
        yield BELOW_THRESHOLD
    if token_limit is not None and not 0 < head.completion_tokens <= token_limit:
        yield TOO_LONG
    for guard in vetoes(text, head.text, weighed=weighed):
        yield f"guard-{guard}"


class Verdict(msgspec.Struct, frozen=True):
    """What the rules say of neighbours one after the other, up to the first whose answer may serve: its reason is None.

    `words` are the numbers that the words of that one tell (`core.confidence.features.worded`), where they were asked for.
    """

    reasons: tuple[str | None, ...]
    words: tuple[float, ...] | None = None


def first_fit(
    text: str,
    neighbours: Iterable[Neighbour],
    *,
    threshold: float,
    token_limit: int | None = None,
    rarity: Rarity | None = None,
    weighed: bool = False,
) -> Verdict:
    """Ask every rule of each, until one fits. Some tenths of a millisecond each: not for the event loop."""
    doubted = None if weighed else frozenset[Guard]()
    reasons: list[str | None] = []
    for near in neighbours:
        against = objections(text, near, threshold=threshold, token_limit=token_limit, weighed=weighed)
        reasons.append(next(against, None))
        if reasons[-1] is None:
            words = None if rarity is None else worded(text, near.head.text, rarity, objecting=doubted)
            return Verdict(tuple(reasons), words)
    return Verdict(tuple(reasons))


def serves_rewordings(answer: Answer) -> bool:
    """Only what was said to its end: an answer cut short or a call of a tool belongs to the very request that got it."""
    return all(reason == "stop" for reason in answer.finish_reasons) and not any(map(_calls, answer.fields["choices"]))


def _calls(choice: dict[str, object]) -> bool:
    message = choice["message"]
    return isinstance(message, dict) and bool(message.get("tool_calls") or message.get("function_call"))
