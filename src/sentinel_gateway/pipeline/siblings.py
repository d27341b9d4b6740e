"""Which queries of a batch wait for which: the same as an earlier one, or one in other words, waits for that one's answer.

Only the order is decided here. Whether the answer serves is decided by the path, when the query is asked, as for any other
request: an error here costs a wait or a call of a provider, and never an answer. So the rules that propose who waits are the
matcher's own, guards included (`core/matching.py`): a question that is negated waits for nobody.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from sentinel_gateway.core.bound import BoundRules, restriction
from sentinel_gateway.core.caching import Head, Hit
from sentinel_gateway.core.identity import Question
from sentinel_gateway.core.matching import Bar, Neighbour, first_fit, ranked
from sentinel_gateway.errors import EmbedderDown, RequestError
from sentinel_gateway.pipeline.flight import shares
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.plan import Plan, Planner
from sentinel_gateway.pipeline.semantic import NEIGHBOURS, Semantic
from sentinel_gateway.pipeline.tiers import Tiers

if TYPE_CHECKING:
    from sentinel_gateway.ports.cache import Vector

TOGETHER: Final = 8
"""Queries that are looked at at a time: as many texts are embedded in one go as a request embeds beside its own."""


class Leader(msgspec.Struct, frozen=True):
    """The earlier query, by its number, that one waits for. `same`: it is the same request; else one in other words."""

    number: int
    same: bool


class Siblings:
    """Looks at batches. Without `semantic` only the same requests wait for each other."""

    def __init__(self, planner: Planner, tiers: Tiers, semantic: Semantic | None, bounds: BoundRules) -> None:
        self._planner = planner
        self._tiers = tiers
        self._semantic = semantic
        self._bounds = bounds

    def __repr__(self) -> str:
        return f"<Siblings {self._planner!r} {self._semantic!r}>"

    def meet(self, journey: Journey) -> "Gathering":
        """For one batch, whose journey says who asks, and what of the cache."""
        return Gathering(self, journey)

    def plan(self, body: bytes, journey: Journey) -> Plan | None:
        """What a query asks; None for one that will be refused."""
        try:
            return self._planner.plan(body, tenant=journey.tenant, namespace=journey.wish.namespace)
        except RequestError:
            return None

    def question(self, plan: Plan, journey: Journey) -> Question | None:
        """What is compared with others; None where nothing is, or where memory has the very answer."""
        if self._semantic is None or isinstance(self._tiers.look_near(plan.key, journey.wish), Hit):
            return None
        asked = self._planner.question(plan, tenant=journey.tenant, namespace=journey.wish.namespace)
        return asked if isinstance(asked, Question) and restriction(asked.text, self._bounds) is None else None

    async def near(self, asked: "Sequence[_Asked]", circles: "dict[str, _Circle]", journey: Journey) -> Mapping[int, int]:
        """The numbers of those that an earlier one may answer, and whose that is. The others join the circles of their scopes."""
        if self._semantic is None or not asked:
            return {}
        try:
            vectors = await self._semantic.embedder.embed([one.question.text for one in asked])
            if (evidence := self._semantic.evidence) is not None:
                await evidence.calibration.ready(journey.realm)
            bars = [self._semantic.bar(one.plan, _as_said(one.plan, journey)) for one in asked]
            return await self._semantic.aside(partial(_leaders, asked, vectors, bars, circles))
        except EmbedderDown:
            return {}
        except Exception as exc:  # noqa: BLE001 - broad: a rule that trips over a text costs its batch a provider's call, not the answers
            self._semantic.tripped(exc, journey)
            return {}

    async def settle(self, scope: str) -> None:
        """Let what was answered in a scope be found there."""
        if self._semantic is not None:
            await self._semantic.embed_all(scope)


class Gathering:
    """The queries of one batch, as they come. One call of `join` at a time."""

    def __init__(self, siblings: Siblings, journey: Journey) -> None:
        self._siblings = siblings
        self._journey = journey
        self._count = 0
        self._first: dict[str, int] = {}
        """By the exact key."""
        self._scopes: dict[int, str] = {}
        """Of those that are compared with others."""
        self._circles: dict[str, _Circle] = {}

    def __repr__(self) -> str:
        return f"<Gathering of {self._count} queries, {len(self._circles)} scopes>"

    async def join(self, bodies: Sequence[bytes]) -> list[Leader | None]:
        """Of the next queries: whom each waits for. Who takes no answer of others, or leaves them none, waits for nobody."""
        start, self._count = self._count, self._count + len(bodies)
        leaders: list[Leader | None] = [None] * len(bodies)
        if not shares(self._journey):
            return leaders
        asked = []
        for number, body in enumerate(bodies, start):
            plan = self._siblings.plan(body, self._journey)
            if plan is None:
                continue
            first = self._first.setdefault(plan.key, number)
            if first != number:
                leaders[number - start] = Leader(first, same=True)
            elif (question := self._siblings.question(plan, self._journey)) is not None:
                self._scopes[number] = question.scope
                asked.append(_Asked(number, plan, question))
        found = await self._siblings.near(asked, self._circles, self._journey)
        for number, nearest in found.items():
            leaders[number - start] = Leader(nearest, same=False)
        return leaders

    async def settle(self, leader: Leader) -> None:
        """The leader has its answer: let it be found by who asks the same in other words."""
        if not leader.same:
            await self._siblings.settle(self._scopes[leader.number])


class _Asked(msgspec.Struct, frozen=True):
    number: int
    plan: Plan
    question: Question


class _Circle:
    """Those of one scope that wait for nobody, with their vectors."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        """By their texts, which are none the same: within a scope that would be the same request, but for a limit of tokens."""
        self.vectors: list[Vector] = []

    def nearest(self, text: str, vector: "Vector") -> list[Neighbour]:
        if not self.vectors:
            return []
        import numpy as np  # noqa: PLC0415 - loaded only where questions are compared

        similarities = np.stack(self.vectors) @ vector
        texts = list(self.numbers)
        near = [Neighbour(_head(texts[place]), float(similarities[place])) for place in np.argsort(-similarities)[:NEIGHBOURS]]
        return ranked(text, near)

    def join(self, number: int, text: str, vector: "Vector") -> None:
        if text not in self.numbers:
            self.numbers[text] = number
            self.vectors.append(vector)


def _as_said(plan: Plan, journey: Journey) -> Journey:
    """What a query itself asks for stands above what its batch does."""
    threshold = plan.request.similarity_threshold
    return journey if threshold is None else replace(journey, wish=replace(journey.wish, similarity_threshold=threshold))


def _leaders(
    asked: Sequence[_Asked], vectors: "Sequence[Vector | None]", bars: Sequence[Bar], circles: dict[str, _Circle]
) -> Mapping[int, int]:
    """On a thread, for the time it takes."""
    found: dict[int, int] = {}
    for one, vector, bar in zip(asked, vectors, bars, strict=True):
        if vector is None:
            continue
        text, circle = one.question.text, circles.setdefault(one.question.scope, _Circle())
        near = circle.nearest(text, vector)
        verdict = first_fit(text, near, threshold=bar.similarity, weighed=bar.weighed)
        fits = [neighbour for neighbour, reason in zip(near, verdict.reasons, strict=False) if reason is None]
        if fits:
            found[one.number] = circle.numbers[fits[0].head.text]
        else:
            circle.join(one.number, text, vector)
    return found


def _head(text: str) -> Head:
    """As the rules are told of a stored question; how long its answer will be nobody knows yet."""
    return Head(key="", model="", created=0.0, expires=0.0, text=text)
