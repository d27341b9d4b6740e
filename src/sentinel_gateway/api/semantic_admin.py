"""`/admin/semantic`: how the answers to reworded questions stand, and the operator's own word on one of them."""

import math
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Request
from pydantic import Field

from sentinel_gateway.api.bodies import StrictBody, read_body, takes
from sentinel_gateway.api.guard import Guard
from sentinel_gateway.core.access import Caller
from sentinel_gateway.core.evidence import Calibrated, Standing, parts_of, realm_id
from sentinel_gateway.core.issuance import AuditEntry
from sentinel_gateway.core.tightening import OFF, least_similarity
from sentinel_gateway.errors import AnswerNotFound, EvidenceUnavailable, KeysUnavailable, StoreDown
from sentinel_gateway.pipeline.evidence import Evidence
from sentinel_gateway.pipeline.evidence_log import WINDOW
from sentinel_gateway.ports import AuditLog, Clock

DAY: Final = 86_400
NO_TIER: Final = "The semantic tier is off: set cache.semantic.enabled to true, and start again."
UNKNOWN: Final = "No decision is known under this id: send the x-sentinel-id of a semantic hit of the last 30 days."
UNREAD: Final = "What is known of answers can't be read or changed now: send the same again."


class LabelBody(StrictBody):
    """`sentinel_id` is our own id of a request whose question found a stored answer, given or explored."""

    sentinel_id: Annotated[str, Field(min_length=1, max_length=128)]
    correct: bool


class SemanticAdmin:
    """The endpoints. `evidence` is None where the semantic tier is off."""

    def __init__(self, evidence: Evidence | None, log: AuditLog, *, guard: Guard, clock: Clock) -> None:
        self._evidence = evidence
        self._log = log
        self._guard = guard
        self._clock = clock

    def routes(self) -> APIRouter:
        """The router of these endpoints, each behind the admin key."""
        router = APIRouter(prefix="/admin/semantic", tags=["semantic"], dependencies=[Depends(self._guard.operator())])
        router.add_api_route("", self.show, methods=["GET", "HEAD"])
        router.add_api_route("/labels", self.label, methods=["POST"], openapi_extra=takes(LabelBody))
        return router

    async def show(self) -> dict[str, Any]:
        """Estimates with their 95 % intervals, and what they are made of. Rates are 0 to 1, money is in USD."""
        evidence = self._on()
        try:
            standings = await evidence.log.estimate()
        except StoreDown as exc:
            raise EvidenceUnavailable(UNREAD, retry_after=1.0) from exc
        habits, heard, compared = evidence.habits, evidence.heard, evidence.compared
        (whole, served), (cost, spent) = evidence.told, evidence.spending.today()
        return {
            "max_wrong_hit_rate": habits.most_wrong,
            "window_days": WINDOW / DAY,
            "overall": _shown(standings.overall, evidence),
            "scopes": [_shown(scope, evidence) for scope in standings.scopes],
            "budgets": [
                _shown(budget, evidence) | {"max_wrong_hit_rate": evidence.log.rate(budget.scope)} for budget in standings.budgets
            ],
            "namespaces": [_learned(realm) for realm in evidence.calibration.standings(habits.most_wrong)],
            "exploration": habits.exploration,
            "audit": habits.audit,
            "shadow": habits.shadow,
            "since_start": {
                "compared": {"right": compared[True], "wrong": compared[False], "unresolved": compared[None]},
                "feedback": {"right": heard[True], "wrong": heard[False]},
                "served": {"hits": served, "mean_confidence": whole / served if served else None},
            },
            "today": {"spend_usd": cost, "evidence_usd": spent, "evidence_budget": habits.budget},
        }

    async def label(self, request: Request) -> dict[str, Any]:
        """Say whether a stored answer was right. It stands above what a judge has said; a wrong one that was given is removed."""
        self._on()
        return await self.rule(request.state.caller, await read_body(request, LabelBody))

    async def rule(self, caller: Caller, said: LabelBody) -> dict[str, Any]:
        """What `label` does."""
        evidence = self._on()
        await self._record(caller, said)
        try:
            decision = await evidence.rule(said.sentinel_id, correct=said.correct)
        except StoreDown as exc:
            raise EvidenceUnavailable(UNREAD, retry_after=1.0) from exc
        if decision is None:
            raise AnswerNotFound(UNKNOWN, param="sentinel_id")
        evicted = decision.kind == "served" and not said.correct
        return {"sentinel_id": decision.id, "kind": decision.kind, "correct": said.correct, "evicted": evicted}

    def _on(self) -> Evidence:
        if self._evidence is None:
            raise AnswerNotFound(NO_TIER)
        return self._evidence

    async def _record(self, caller: Caller, said: LabelBody) -> None:
        """Before it is done, as every change."""
        after = {"correct": said.correct}
        entry = AuditEntry(
            at=self._clock(), actor=caller.actor, action="semantic.label", object=said.sentinel_id, tenant=None, after=after
        )
        try:
            await self._log.append(entry)
        except StoreDown as exc:
            raise KeysUnavailable("The audit log can't be written, so nothing was done: try again.", retry_after=1.0) from exc


def _learned(realm: Calibrated) -> dict[str, Any]:
    """`threshold`: the least confidence that serves; None: none does, or similarity decides, which `labels` 0 tells."""
    tenant, namespace = parts_of(realm.realm)
    reachable = realm.threshold is not None and math.isfinite(realm.threshold)
    return {
        "id": realm_id(realm.realm),
        "tenant": tenant.strip(),
        "namespace": namespace,
        "labels": realm.labels,
        "decided_by": "confidence" if realm.decides else "similarity" if not realm.labels else "both",
        "threshold": realm.threshold if reachable else None,
        "serves": realm.threshold is None or reachable,
    }


def _shown(standing: Standing, evidence: Evidence) -> dict[str, Any]:
    """`level`: how many steps stricter than configured it is; `least_similarity`: None serves nothing."""
    level = evidence.log.level(standing.scope)  # a budget's name stands in place of a scope's
    least = least_similarity(evidence.habits.threshold, level)
    shown: dict[str, Any] = msgspec.to_builtins(standing)
    return shown | {"level": level, "least_similarity": None if level >= OFF else least}
