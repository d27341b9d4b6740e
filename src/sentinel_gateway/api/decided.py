"""`/api/monitoring/requests/{id}/decision`: how one request was decided, step by step, as far as this node remembers it."""

import asyncio
import math
from collections.abc import Callable, Iterable
from typing import Annotated, Final

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel

from sentinel_gateway.api.guard import Guard
from sentinel_gateway.api.monitoring_routes import reading
from sentinel_gateway.core.access import ANONYMOUS, ANYBODY, Caller
from sentinel_gateway.core.budgets import Span, Whose
from sentinel_gateway.core.caching import NotStorable, Store
from sentinel_gateway.core.explanation import Basis, basis, threshold
from sentinel_gateway.core.identity import Question
from sentinel_gateway.core.limits import Standing
from sentinel_gateway.core.pricing import NANO_PER_USD
from sentinel_gateway.pipeline.remembered import MOST, Candidate, Remembered
from sentinel_gateway.pipeline.semantic import Semantic

Id = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="Its x-sentinel-id.")]
MILLIS: Final = 1000
OFF: Final = "The semantic tier is off: no question is compared, and nothing is remembered but what the ledger has."
FORGOTTEN: Final = (
    f"No longer known. A node remembers how it decided the last {MOST} requests that memory, disk and Redis had no answer for, "
    "until it is started anew; of an exact hit there is nothing to remember: the very same request was stored."
)


class NormalisedBody(BaseModel):
    """What the request was taken for. `key`: of the exact tiers, by which the very same request is found.

    `compared`: the text by which it is found in other words, null where texts are hidden; `scope` stands for all else that has to
    be the same then. `why_not`: why it was compared with no other. `bound`: it is bound to its moment or to who asks.
    """

    key: str
    scope: str | None
    compared: str | None
    why_not: str | None
    bound: str | None


class TierBody(BaseModel):
    """What a tier said, as in Cache-Status: why it did not answer, and whether it took the answer in the end."""

    tier: str
    forward: str
    detail: str | None
    stored: bool


class BarBody(BaseModel):
    """What a stored answer had to reach: `threshold`, a `similarity`, or a `probability` of being right; null if none could.

    `least_similarity`: null if nothing is similar enough, because the error budget has closed the tier.
    """

    basis: Basis
    threshold: float | None
    least_similarity: float | None
    max_wrong_hit_rate: float | None
    confidence: float | None


class CandidateBody(BaseModel):
    """A stored question that stood near; `objections`: why its answer may not serve, all of them; none: it may.

    `weighed` false: no rule objects, but how likely it is right was not asked: another stored answer came into question.
    `doubts`: guards that object to what mostly turns out right; there the probability decided instead of them.
    """

    entry: str
    similarity: float
    objections: list[str]
    weighed: bool
    doubts: list[str]
    question: str | None


class StandingBody(BaseModel):
    limit: int
    remaining: int


class AllowanceBody(BaseModel):
    """Money in USD, as it stood before the answer."""

    scope: Whose
    span: Span
    limit: float
    remaining: float


class DecisionResponse(BaseModel):
    """`known` false: `why` says why nothing is known any more, and all else is empty."""

    id: str
    known: bool
    why: str | None = None
    normalised: NormalisedBody | None = None
    tiers: list[TierBody] = []
    bar: BarBody | None = None
    candidates: list[CandidateBody] = []
    explored: bool = False
    not_stored: str | None = None
    requests: StandingBody | None = None
    tokens: StandingBody | None = None
    budgets: list[AllowanceBody] = []
    waited_for_node_ms: float = 0.0


class RequestDecisions:
    """The endpoint. `semantic` is None where the semantic tier is off; `texts`: may questions be read?

    A tenant's reader is told of its tenant's requests, and never of a question: the operator is, and who needs no key is of those
    that were asked without one.
    """

    def __init__(self, semantic: Semantic | None, texts: Callable[[], bool], *, guard: Guard) -> None:
        self._semantic = semantic
        self._texts = texts
        self._guard = guard

    def __repr__(self) -> str:
        return f"<RequestDecisions {self._semantic!r}>"

    def routes(self) -> APIRouter:
        """The router of it."""
        return reading(self._guard, [("/requests/{id}/decision", self.decision)])

    async def decision(self, request: Request, id: Id) -> DecisionResponse:  # noqa: A002 - its name
        """How a request was decided: what it was taken for, each tier, each candidate with every rule's verdict, limits."""
        caller: Caller = request.state.caller
        if self._semantic is None:
            return DecisionResponse(id=id, known=False, why=OFF)
        one = self._semantic.remembered.find(id)
        if one is None or caller.tenant not in {None, "", one.tenant}:
            return DecisionResponse(id=id, known=False, why=FORGOTTEN)
        own = caller is ANYBODY and one.tenant == ANONYMOUS
        texts = self._texts() and (caller.tenant is None or own) and not self._semantic.is_cleared(one)
        found = await asyncio.to_thread(list, one.candidates())
        return _told(one, found, texts=texts)


def _told(one: Remembered, found: Iterable[Candidate], *, texts: bool) -> DecisionResponse:
    kept, standings = one.kept, (None, None) if one.grant is None else one.grant.standings()
    took = kept.tiers if isinstance(kept, Store) else ()
    budgets = () if one.grant is None else one.grant.budgets()
    return DecisionResponse(
        id=one.id,
        known=True,
        normalised=_normalised(one, texts=texts),
        tiers=[
            TierBody(tier=step.tier, forward=step.forward, detail=step.detail, stored=step.tier in took)
            for step in reversed(one.steps)
        ],
        bar=_bar(one),
        candidates=[
            CandidateBody(
                entry=near.entry,
                similarity=near.similarity,
                objections=list(near.objections),
                weighed=near.weighed,
                doubts=list(near.doubts),
                question=near.text if texts else None,
            )
            for near in found
        ],
        explored=one.explored,
        not_stored=kept.why if isinstance(kept, NotStorable) else None,
        requests=_standing(standings[0]),
        tokens=_standing(standings[1]),
        budgets=[
            AllowanceBody(
                scope=allowance.scope,
                span=allowance.span,
                limit=allowance.limit / NANO_PER_USD,
                remaining=account.left(allowance) / NANO_PER_USD,
            )
            for allowance, account in budgets
        ],
        waited_for_node_ms=one.waited * MILLIS,
    )


def _normalised(one: Remembered, *, texts: bool) -> NormalisedBody:
    asked, bound = one.question, one.restriction
    is_compared = isinstance(asked, Question)
    return NormalisedBody(
        key=one.key,
        scope=asked.scope if isinstance(asked, Question) else None,
        compared=asked.text if isinstance(asked, Question) and texts else None,
        why_not=None if is_compared or asked is None else str(asked),
        bound=None if bound is None else bound.why,
    )


def _bar(one: Remembered) -> BarBody | None:
    bar = one.bar
    if bar is None:
        return None
    least = threshold(bar)
    return BarBody(
        basis=basis(bar),
        threshold=least if math.isfinite(least) else None,
        least_similarity=bar.similarity if math.isfinite(bar.similarity) else None,
        max_wrong_hit_rate=None if bar.budget is None else bar.budget.rate,
        confidence=one.confidence,
    )


def _standing(one: Standing | None) -> StandingBody | None:
    return None if one is None else StandingBody(limit=one.limit, remaining=one.remaining)
