"""`/admin/circuits`: which targets are failing, cooling or refuse our key, and the operator's word that one is well again."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import Field

from sentinel_gateway.api.bodies import StrictBody, read_body, takes
from sentinel_gateway.api.guard import Guard
from sentinel_gateway.core.access import Caller
from sentinel_gateway.core.issuance import AuditEntry
from sentinel_gateway.errors import KeysUnavailable, StoreDown
from sentinel_gateway.pipeline.circuits import Circuits
from sentinel_gateway.ports import AuditLog, Clock


class ResetBody(StrictBody):
    """`target` is a `provider/model`; null means all."""

    target: Annotated[str, Field(min_length=1, max_length=1024)] | None = None


class CircuitAdmin:
    """The endpoints."""

    def __init__(self, circuits: Circuits, log: AuditLog, *, guard: Guard, clock: Clock) -> None:
        self._circuits = circuits
        self._log = log
        self._guard = guard
        self._clock = clock

    def routes(self) -> APIRouter:
        """The router of these endpoints, each behind the admin key."""
        router = APIRouter(prefix="/admin/circuits", tags=["circuits"], dependencies=[Depends(self._guard.operator())])
        router.add_api_route("", self.show, methods=["GET", "HEAD"])
        router.add_api_route("/reset", self.reset, methods=["POST"], openapi_extra=takes(ResetBody))
        return router

    async def show(self) -> dict[str, Any]:
        """The targets of which anything is known on this node. `cooling` in seconds, 0 if it asked for no pause."""
        now, standings = self._clock(), self._circuits.standings
        return {
            "targets": [
                {
                    "target": name,
                    "state": standing.circuit.state(now),
                    "failures": standing.circuit.failures,
                    "in_flight": standing.busy,
                    "cooling": round(max(0.0, standing.cooled_until - now), 3),
                    "key_refused": now < standing.refused_until,
                }
                for name, standing in standings.all()
            ]
        }

    async def reset(self, request: Request) -> dict[str, Any]:
        """Close the circuit of one target, or all, on every node; those that were open here."""
        asked = await read_body(request, ResetBody)
        return {"closed": await self.close(request.state.caller, asked.target)}

    async def close(self, caller: Caller, target: str | None) -> list[str]:
        """The same, for whoever was let in: the targets that were closed."""
        entry = AuditEntry(at=self._clock(), actor=caller.actor, action="circuit.reset", object=target or "")
        try:
            await self._log.append(entry)
        except StoreDown as exc:
            raise KeysUnavailable("The audit log can't be written, so nothing was done: try again.", retry_after=1.0) from exc
        return self._circuits.reset(target)
