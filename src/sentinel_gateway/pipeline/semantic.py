"""The semantic tier: is there a stored answer to the same question in other words? An error here is a miss, never more.

Vectors are made late (docs/decisions/012): an entry is stored with its text, and only a second question in the same scope makes
it worth a vector. That request embeds itself together with a few that wait; the rest follow beside the path.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from sentinel_gateway.core.caching import Entry, Head, Hit, Step
from sentinel_gateway.core.identity import Question
from sentinel_gateway.core.matching import NO_NEIGHBOUR, Neighbour, Thresholds, objection, ranked
from sentinel_gateway.errors import EmbedderDown, StoreDown
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.plan import Plan
from sentinel_gateway.pipeline.tiers import Tiers
from sentinel_gateway.ports import Embedder, VectorIndex

if TYPE_CHECKING:
    from sentinel_gateway.ports import Vector

NEIGHBOURS: Final = 5
"""So many are asked before it is a miss."""
ON_THE_PATH: Final = 8
"""Texts that a request embeds beside its own: about a millisecond each in a batch."""
TIER_DOWN: Final = "tier-down"
EMPTY_SCOPE: Final = "empty-scope"
GONE: Final = frozenset({"uri-miss", "stale"})
"""What every tier says of an entry that will not come back."""


class Semantic:
    """Finds neighbours and judges them. `thresholds` may be replaced at any time."""

    def __init__(self, index: VectorIndex, embedder: Embedder, tiers: Tiers, thresholds: Thresholds) -> None:
        self.thresholds = thresholds
        self._index = index
        self._embedder = embedder
        self._tiers = tiers
        self._behind: dict[str, asyncio.Task[None]] = {}
        """Scopes in which more questions wait for a vector than one request can make."""

    def __repr__(self) -> str:
        return f"<Semantic {self._index!r} {self._embedder!r}, {len(self._behind)} scopes behind>"

    async def look_up(self, question: Question, plan: Plan, journey: Journey) -> Hit | Step:
        """An answer that may serve, or why there is none."""
        try:
            found = await self._neighbours(question, plan)
            return found if isinstance(found, Step) else await self._first_fit(question, found, plan, journey)
        except (EmbedderDown, StoreDown):
            return _passed(TIER_DOWN)

    async def _neighbours(self, question: Question, plan: Plan) -> list[Neighbour] | Step:
        view = await self._index.view(question.scope, waiting=ON_THE_PATH + 1)
        waiting = [head for head in view.waiting if head.key != plan.key]
        if not view.vectors and not waiting:
            return _passed(EMPTY_SCOPE)
        together = waiting[:ON_THE_PATH]
        vector, *others = await self._embedder.embed([question.text, *(head.text for head in together)])
        await self._give(together, others)
        if vector is None:
            return _passed("uncacheable-unread")
        if len(waiting) > ON_THE_PATH:
            self._catch_up(question.scope)
        found = await self._index.nearest(question.scope, vector, limit=NEIGHBOURS)
        return ranked(question.text, [near for near in found if near.head.key != plan.key])

    async def _first_fit(self, question: Question, neighbours: list[Neighbour], plan: Plan, journey: Journey) -> Hit | Step:
        threshold, limit = self.thresholds.of(journey.wish), plan.request.token_limit
        miss: Step | None = None
        for near in neighbours:
            journey.similarity = journey.similarity or near.similarity
            reason = objection(question.text, near, threshold=threshold, token_limit=limit)
            found = await self._fetch(near.head, question, journey) if reason is None else _passed(reason)
            if isinstance(found, Entry):
                journey.similarity = near.similarity
                return Hit(found, "vector", near.similarity)
            miss = miss or found
            await asyncio.sleep(0)  # the guards take some tenths of a millisecond each: let others go on
        return miss or _passed(NO_NEIGHBOUR)

    async def _fetch(self, head: Head, question: Question, journey: Journey) -> Entry | Step | None:
        """The answer itself; None if it is there no more."""
        found = await self._tiers.find(head.key, journey.wish)
        if isinstance(found, Hit) and found.entry.scope == question.scope:
            return found.entry
        if isinstance(found, Hit):  # its newer answer serves nobody else; and never across scopes, whatever an index says
            self._index.drop([head])
            return None
        held = next((step for step in found.steps if step.forward not in GONE), None)
        if held is None:
            self._index.drop([head])
            return None
        return Step("vector", held.forward, held.detail)

    async def _give(self, heads: Sequence[Head], vectors: Sequence["Vector | None"]) -> None:
        """A text that is too long for a vector will not be asked for one again."""
        made = [(head, vector) for head, vector in zip(heads, vectors, strict=True) if vector is not None]
        await self._index.attach(made)
        self._index.drop([head for head, vector in zip(heads, vectors, strict=True) if vector is None])

    def _catch_up(self, scope: str) -> None:
        if scope not in self._behind:
            task = self._behind[scope] = asyncio.create_task(self._embed_all(scope))
            task.add_done_callback(lambda _: self._behind.pop(scope))

    async def _embed_all(self, scope: str) -> None:
        """Until none waits. What fails here waits for the next request."""
        with suppress(EmbedderDown, StoreDown):
            while waiting := (await self._index.view(scope, waiting=ON_THE_PATH)).waiting:
                await self._give(waiting, await self._embedder.embed([head.text for head in waiting]))

    async def close(self) -> None:
        """Stop what runs beside the path."""
        behind = list(self._behind.values())
        for task in behind:
            task.cancel()
        await asyncio.gather(*behind, return_exceptions=True)


def _passed(detail: str) -> Step:
    return Step("vector", "miss", detail)
