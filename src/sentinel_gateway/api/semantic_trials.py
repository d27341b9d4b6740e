"""`/admin/semantic/decisions` and `/admin/semantic/try`: close decisions as they come, and what another threshold would do."""

import math
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from msgspec.structs import replace
from pydantic import Field

from sentinel_gateway.api.bodies import StrictBody, read_body, takes
from sentinel_gateway.api.cache_bodies import told
from sentinel_gateway.api.guard import Guard
from sentinel_gateway.api.operations import READ
from sentinel_gateway.api.semantic_admin import DAY, NO_TIER, UNREAD
from sentinel_gateway.core.evidence import parts_of, realm_id
from sentinel_gateway.errors import AnswerNotFound, EvidenceUnavailable, InvalidField, StoreDown
from sentinel_gateway.pipeline.decisions import Decided, Outcome
from sentinel_gateway.pipeline.evidence import Evidence
from sentinel_gateway.pipeline.semantic import Semantic
from sentinel_gateway.ports import Clock

if TYPE_CHECKING:  # numpy is loaded only where the semantic tier is on
    from sentinel_gateway.core.matching import Thresholds
    from sentinel_gateway.core.replaying import Played

NOTHING: Final = "Say what to try: a 'max_wrong_hit_rate', a 'threshold', or both."
TOO_LOW: Final = "Below cache.semantic.min_threshold ({least:g}) nothing is ever served: try that or more."


class TryBody(StrictBody):
    """What would have been in so many days with another `max_wrong_hit_rate`, or another `threshold` of similarity."""

    max_wrong_hit_rate: Annotated[float, Field(ge=0, le=1)] | None = None
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    window_days: Annotated[float, Field(gt=0, le=30)] = 7.0

    def policy(self, now: "Thresholds") -> "Thresholds":
        """As those in force, with that in their place."""
        budgets = now.budgets
        if self.max_wrong_hit_rate is not None:
            budgets = replace(budgets, deployment=self.max_wrong_hit_rate)
        return replace(now, usual=now.usual if self.threshold is None else self.threshold, budgets=budgets)


class SemanticTrials:
    """The endpoints. `semantic` is None where the semantic tier is off."""

    def __init__(self, semantic: Semantic | None, *, guard: Guard, clock: Clock) -> None:
        self._semantic = semantic
        self._guard = guard
        self._clock = clock

    def __repr__(self) -> str:
        return f"<SemanticTrials {self._semantic!r}>"

    def routes(self) -> APIRouter:
        """The router of these endpoints, each behind the admin key."""
        router = APIRouter(prefix="/admin/semantic", tags=["semantic"], dependencies=[Depends(self._guard.operator())])
        router.add_api_route("/decisions", self.decisions, methods=READ)
        router.add_api_route("/try", self.attempt, methods=["POST"], openapi_extra=takes(TryBody))
        return router

    async def decisions(
        self,
        outcome: Outcome | None = None,
        within: Annotated[float | None, Query(ge=0, le=1, description="So far from the threshold at most.")] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> dict[str, Any]:
        """The last requests of this node that had a near question, the newest first, with what was said of those answered."""
        return await self.latest(outcome, within, limit)

    async def latest(self, outcome: Outcome | None = None, within: float | None = None, limit: int = 50) -> dict[str, Any]:
        """What `decisions` answers."""
        semantic, evidence = self._on()
        found = [
            one
            for one in semantic.recent.latest()
            if outcome in {None, one.outcome} and (within is None or abs(one.margin) <= within)
        ]
        data = [_shown(one) | {"labels": await _labels(evidence, one)} for one in found[:limit]]
        return {"data": data, "texts": told(texts=semantic.recent.texts())}

    async def attempt(self, request: Request) -> dict[str, Any]:
        """What another budget or threshold would have come to, beside what holds now, by the requests that were learned from.

        Nothing changes. Rates are 0 to 1 with their 95 % intervals; `requests` and `hits` stand for all that chance passed over.
        """
        return await self.compare(await read_body(request, TryBody))

    async def compare(self, asked: TryBody) -> dict[str, Any]:
        """What `attempt` answers."""
        semantic, evidence = self._on()
        if asked.max_wrong_hit_rate is None and asked.threshold is None:
            raise InvalidField(NOTHING, param="max_wrong_hit_rate")
        thresholds = semantic.thresholds
        if asked.threshold is not None and asked.threshold < thresholds.least:
            raise InvalidField(TOO_LOW.format(least=thresholds.least), param="threshold")
        policies, since = (thresholds, asked.policy(thresholds)), self._clock() - asked.window_days * DAY
        overall, realms = await evidence.calibration.tried(policies, since)
        return {
            "window_days": asked.window_days,
            "max_wrong_hit_rate": policies[1].budgets.deployment,
            "threshold": policies[1].usual,
            **_compared(overall),
            "namespaces": [_named(realm) | _compared(parts) for realm, parts in realms.items() if parts[0].requests],
        }

    def _on(self) -> tuple[Semantic, Evidence]:
        if self._semantic is None or self._semantic.evidence is None:
            raise AnswerNotFound(NO_TIER)
        return self._semantic, self._semantic.evidence


async def _labels(evidence: Evidence, one: Decided) -> dict[str, bool]:
    """Who said that it was right; nobody can of what was refused, for there is no answer to judge."""
    if one.outcome == "refused":
        return {}
    try:
        return {label.source: label.correct for label in await evidence.log.labels(one.id)}
    except StoreDown as exc:
        raise EvidenceUnavailable(UNREAD, retry_after=1.0) from exc


def _shown(one: Decided) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(one)
    reachable = math.isfinite(one.threshold)
    return shown | {"threshold": one.threshold if reachable else None, "can_be_marked": one.outcome != "refused"}


def _named(realm: str) -> dict[str, str]:
    tenant, namespace = parts_of(realm)
    return {"id": realm_id(realm), "tenant": tenant.strip(), "namespace": namespace}


def _compared(parts: "list[Played]") -> dict[str, Any]:
    now, then = parts
    return {"now": _told(now), "then": _told(then)}


def _told(part: "Played") -> dict[str, Any]:
    wrong, wrong_hits = msgspec.to_builtins(part.wrong), msgspec.to_builtins(part.wrong_hits)
    return {"requests": part.requests, "hits": part.hits, "wrong": wrong, "wrong_hits": wrong_hits}
