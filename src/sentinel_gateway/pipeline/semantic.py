"""The semantic tier: is there a stored answer to the same question in other words? An error here is a miss, never more.

Vectors are made late (docs/decisions/012): an entry is stored with its text, and only a second question in the same scope makes
it worth a vector. That request embeds itself together with a few that wait; the rest follow beside the path.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from sentinel_gateway.core.budget import in_arm
from sentinel_gateway.core.caching import Entry, Head, Hit, Step
from sentinel_gateway.core.confidence.rarity import Rarity
from sentinel_gateway.core.explanation import Explanation, candidate
from sentinel_gateway.core.identity import Question
from sentinel_gateway.core.matching import BELOW_THRESHOLD, NO_NEIGHBOUR, Bar, Neighbour, Thresholds, Verdict, first_fit, ranked
from sentinel_gateway.core.tightening import OFF, tightened
from sentinel_gateway.errors import EmbedderDown, StoreDown, place_of
from sentinel_gateway.pipeline.aside import AT_ONCE, Aside
from sentinel_gateway.pipeline.decisions import Decisions
from sentinel_gateway.pipeline.evidence import Evidence
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.plan import Plan
from sentinel_gateway.pipeline.remembered import Recollection, Remembered
from sentinel_gateway.pipeline.tiers import Tiers
from sentinel_gateway.ports import Embedder, Events, VectorIndex

if TYPE_CHECKING:
    from sentinel_gateway.ports.cache import Vector

NEIGHBOURS: Final = 5
"""So many are asked before it is a miss."""
ON_THE_PATH: Final = 8
"""Texts that a request embeds beside its own: about a millisecond each in a batch."""
ON_ITS_WAY: Final = 10.0
"""Seconds. A question may be known on all nodes before its answer has come to where they look for it."""
TIER_DOWN: Final = "tier-down"
EMPTY_SCOPE: Final = "empty-scope"
GONE: Final = frozenset({"uri-miss", "stale"})
"""What every tier says of an entry that will not come back."""


class Semantic:
    """Finds neighbours and judges them. `thresholds` may be replaced at any time; `evidence` has a say in what is served."""

    def __init__(
        self,
        index: VectorIndex,
        embedder: Embedder,
        tiers: Tiers,
        thresholds: Thresholds,
        evidence: Evidence | None = None,
        *,
        events: Events,
    ) -> None:
        self.thresholds = thresholds
        self.evidence = evidence
        self.index = index
        self.embedder = embedder
        self.aside: Aside = AT_ONCE if evidence is None else evidence.calibration.aside
        self.recent = Decisions()
        self.remembered = Recollection()
        self._tiers = tiers
        self._events = events
        self._behind: dict[str, asyncio.Task[None]] = {}
        """Scopes in which more questions wait for a vector than one request can make."""

    def __repr__(self) -> str:
        return f"<Semantic {self.index!r} {self.embedder!r}, {len(self._behind)} scopes behind>"

    async def look_up(self, question: Question, plan: Plan, journey: Journey) -> Hit | Step:
        """An answer that may serve, or why there is none."""
        try:
            found = await self._neighbours(question, plan)
            return found if isinstance(found, Step) else await self._first_fit(question, found, plan, journey)
        except (EmbedderDown, StoreDown):
            return _passed(TIER_DOWN)
        except Exception as exc:  # noqa: BLE001 - broad: a rule that trips over a text costs its asker a provider's call, not the answer
            self.tripped(exc, journey)
            return _passed(TIER_DOWN)

    def tripped(self, exc: Exception, journey: Journey) -> None:
        """Tell of a fault of ours that costs a request its hit, and no more."""
        self._events.note("semantic_failed", error=type(exc).__name__, at=place_of(exc), sentinel_id=journey.sentinel_id)

    def note(self, found: Hit | Step, question: Question, plan: Plan, journey: Journey) -> None:
        """Remember how this was decided, for whoever looks after it, if anything came into question."""
        if self.evidence is not None and journey.neighbours and journey.neighbours[0].similarity >= self.thresholds.least:
            journey.bar = self._tightened(self.bar(plan, journey), question, journey)
            self.recent.note(found, question, journey.bar, journey)

    def is_cleared(self, one: Remembered) -> bool:
        """May somebody have cleared since then what it tells of?"""
        spaces = {one.space, *(near.head.tenant for near in one.neighbours)}
        return any(self._tiers.cleared_since(one.epoch, space) for space in spaces)

    async def _neighbours(self, question: Question, plan: Plan) -> list[Neighbour] | Step:
        view = await self.index.view(question.scope, waiting=ON_THE_PATH + 1)
        waiting = [head for head in view.waiting if head.key != plan.key]
        if not view.vectors and not waiting:
            return _passed(EMPTY_SCOPE)
        await asyncio.sleep(0)  # to read a request and to have its vector made are two holds of the loop
        together = waiting[:ON_THE_PATH]
        vector, *others = await self.embedder.embed([question.text, *(head.text for head in together)])
        await self.give(together, others)
        if vector is None:
            return _passed("uncacheable-unread")
        if len(waiting) > ON_THE_PATH:
            self._catch_up(question.scope)
        found = await self.index.nearest(question.scope, vector, limit=NEIGHBOURS)
        return ranked(question.text, [near for near in found if near.head.key != plan.key])

    async def _first_fit(self, question: Question, neighbours: list[Neighbour], plan: Plan, journey: Journey) -> Hit | Step:
        """The first that no rule objects to is the one that comes into question: if it is not sure enough, none is."""
        journey.neighbours = tuple(near for near in neighbours if near.head.scope == question.scope)
        if self.evidence is not None:
            await self.evidence.calibration.ready(journey.realm)
        bar, limit = self.bar(plan, journey), plan.request.token_limit
        journey.bar = bar
        if journey.wish.explain:
            journey.explanation = await self._explained(question, self._tightened(bar, question, journey), plan, journey)
        if neighbours:
            journey.similarity = neighbours[0].similarity
        rarity = self._rarity(journey)
        rest, miss = neighbours, None
        while rest:
            verdict = await self._judged(question.text, rest, bar, limit, rarity)
            for near, reason in zip(rest, verdict.reasons, strict=False):
                found = await self._fetch(near.head, question, journey) if reason is None else _passed(reason)
                if isinstance(found, Entry):
                    journey.similarity, journey.considered = near.similarity, near.head.key
                    hit = Hit(found, "vector", near.similarity)
                    return self._sure_enough(hit, near, bar, verdict.words, journey)
                miss = miss or found
            rest = rest[len(verdict.reasons) :]
        return miss or _passed(NO_NEIGHBOUR)

    async def _judged(
        self, text: str, neighbours: list[Neighbour], bar: Bar, token_limit: int | None, rarity: Rarity | None
    ) -> Verdict:
        """What the rules say, up to the first that fits. Where none is near enough, nothing more is asked."""
        rule = partial(first_fit, threshold=bar.similarity, token_limit=token_limit, rarity=rarity, weighed=bar.weighed)
        ask = partial(rule, text, neighbours)
        return ask() if neighbours[0].similarity < bar.similarity else await self.aside(ask)

    def _rarity(self, journey: Journey) -> Rarity | None:
        """How much words tell; None where nobody asks how sure it is: who has set a threshold asks for similarity alone."""
        if self.evidence is None or journey.wish.similarity_threshold is not None:
            return None
        return self.evidence.calibration.rarity(journey.realm)

    def bar(self, plan: Plan, journey: Journey) -> Bar:
        """What an answer has to reach for this caller."""
        thresholds, key = self.thresholds, journey.caller.key
        if self.evidence is None:
            return Bar(thresholds.of(journey.wish))
        model, namespace = plan.request.model, journey.wish.namespace
        id_, allowed = ("", None) if key is None else (key.id, key.max_wrong_hit_rate)
        budget = thresholds.budgets.of(model=model, namespace=namespace, key=allowed)
        journey.stricter = thresholds.budgets.stricter(model=model, namespace=namespace, key=(id_, allowed))
        wish = journey.wish
        if journey.place is not None:
            budget, journey.stricter = in_arm(journey.place, budget, journey.stricter, thresholds.budgets)
            if wish.similarity_threshold is None:  # the arm's goes by the same rules as a caller's: what is closed stays closed
                wish = replace(wish, similarity_threshold=journey.place.arm.threshold)
        return self.evidence.calibration.bar(journey.realm, wish, thresholds, budget)

    def _tightened(self, bar: Bar, question: Question, journey: Journey) -> Bar:
        """What it comes to where the evidence has made it stricter, or has closed it (`Evidence.weigh`)."""
        if self.evidence is None:
            return bar
        level = self.evidence.log.level(question.scope, journey.stricter)
        if journey.wish.similarity_threshold is not None and level < OFF:
            return bar
        return tightened(bar, self.evidence.habits.threshold, level)

    def _sure_enough(self, hit: Hit, near: Neighbour, bar: Bar, words: tuple[float, ...] | None, journey: Journey) -> Hit | Step:
        if self.evidence is None or words is None:
            return replace(hit, confidence=hit.similarity)
        weighed = journey.weighed = self.evidence.calibration.weighed(journey.realm, near, journey.neighbours, words)
        if bar.fails(weighed.confidence):
            return _passed(BELOW_THRESHOLD)
        return replace(hit, confidence=hit.similarity if bar.confidence is None else weighed.confidence)

    async def _fetch(self, head: Head, question: Question, journey: Journey) -> Entry | Step | None:
        """The answer itself; None if it is there no more."""
        found = await self._tiers.find(head.key, journey.wish)
        if isinstance(found, Hit) and found.entry.scope == question.scope:
            return found.entry
        if isinstance(found, Hit):  # its newer answer serves nobody else; and never across scopes, whatever an index says
            self.index.drop([head])
            return None
        held = next((step for step in found.steps if step.forward not in GONE), None)
        if held is None:
            if journey.at - head.created > ON_ITS_WAY:
                self.index.drop([head])
            return None
        return Step("vector", held.forward, held.detail)

    async def give(self, heads: Sequence[Head], vectors: Sequence["Vector | None"]) -> None:
        """Let these have their vectors. A text that is too long for one will not be asked for it again. Raises `StoreDown`."""
        made = [(head, vector) for head, vector in zip(heads, vectors, strict=True) if vector is not None]
        await self.index.attach(made)
        self.index.drop([head for head, vector in zip(heads, vectors, strict=True) if vector is None])

    def _catch_up(self, scope: str) -> None:
        if scope not in self._behind:
            task = self._behind[scope] = asyncio.create_task(self.embed_all(scope))
            task.add_done_callback(lambda _: self._behind.pop(scope))

    async def _explained(self, question: Question, bar: Bar, plan: Plan, journey: Journey) -> Explanation:
        """Every rule's word on every neighbour of the same scope, also on those that are not asked in the end."""
        candidates = []
        for near in journey.neighbours:
            told: float | None = None
            if self.evidence is not None and bar.confidence is not None:
                calibration, near_by = self.evidence.calibration, journey.neighbours
                told = (await calibration.weigh(journey.realm, question.text, near, near_by, objecting=None)).confidence
            limit = plan.request.token_limit
            rule = partial(candidate, question.text, near, bar, token_limit=limit, confidence=told)
            candidates.append(await self.aside(rule))
        return Explanation(bar, tuple(candidates))

    async def embed_all(self, scope: str) -> None:
        """Let every question of the scope have its vector. What fails here waits for the next request."""
        with suppress(EmbedderDown, StoreDown):
            while waiting := (await self.index.view(scope, waiting=ON_THE_PATH)).waiting:
                await self.give(waiting, await self.embedder.embed([head.text for head in waiting]))

    async def close(self) -> None:
        """Stop what runs beside the path."""
        behind = list(self._behind.values())
        for task in behind:
            task.cancel()
        await asyncio.gather(*behind, return_exceptions=True)


def _passed(detail: str) -> Step:
    return Step("vector", "miss", detail)
