"""Administration: clearing the cache, its statistics, reloading the configuration.

All of it is for the operator; whoever administrates a tenant may clear what that tenant has asked for.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from sentinel_gateway.api.bodies import StrictBody, read_body, takes
from sentinel_gateway.api.cache_bodies import HIDDEN, shown
from sentinel_gateway.api.guard import Guard
from sentinel_gateway.core.access import Caller
from sentinel_gateway.core.caching import Selector
from sentinel_gateway.core.identity import MAX_CHARACTERS
from sentinel_gateway.core.issuance import AuditEntry
from sentinel_gateway.errors import (
    ClearFailed,
    ConfigurationError,
    ConfigurationMoved,
    EmbedderDown,
    InsufficientScope,
    InvalidField,
    KeysUnavailable,
    ReloadRejected,
    StoreDown,
    StoreUnavailable,
)
from sentinel_gateway.pipeline.purge import Purge, Purged
from sentinel_gateway.pipeline.tiers import Tiers
from sentinel_gateway.ports import AuditLog, Clock

SAMPLE: Final = 20
"""Entries that a preview tells of."""


class ClearRequest(BaseModel):
    """What to clear; nothing given clears all that the caller may. `older_than` in seconds, `min_similarity` a cosine.

    `dry_run`: nothing is cleared, and what would be is told.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    tenant: str | None = None
    namespace: str | None = None
    model: str | None = None
    tag: str | None = None
    writer: str | None = None
    older_than: Annotated[float, Field(ge=0)] | None = None
    similar_to: Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)] | None = None
    min_similarity: Annotated[float, Field(ge=0, le=1)] | None = None
    dry_run: bool = False

    def told(self) -> dict[str, Any]:
        """As the audit log has it: a question is not for everybody who reads there."""
        given = self.model_dump(exclude_none=True, exclude={"dry_run"})
        return given if self.similar_to is None else given | {"similar_to": f"a text of {len(self.similar_to)} characters"}

    def selector(self, caller: Caller) -> Selector:
        """What this caller may clear of it; raises `InvalidField`, and `InsufficientScope` for a tenant that is not its own."""
        if caller.tenant is not None and self.tenant not in {None, caller.tenant}:
            raise InsufficientScope("Your key clears its own tenant's entries only: leave 'tenant' out.", param="tenant")
        return Selector(
            tenant=self.tenant if caller.tenant is None else caller.tenant,
            namespace=self.namespace,
            model=self.model,
            tag=self.tag,
            writer=self.writer,
            older_than=self.older_than,
        )


class ReloadBody(StrictBody):
    """`mark`, as `/admin/config/check` tells it: put in force what was looked at, and nothing else."""

    mark: Annotated[str, Field(min_length=1, max_length=64)] | None = None


class Controls(msgspec.Struct, frozen=True):
    """What the process shows and does for its operator: seed 000's statistics, the state of each service, a reload."""

    counters: Callable[[], Awaitable[Mapping[str, int | float]]]
    services: Callable[[], Awaitable[Mapping[str, str]]]
    reload: Callable[[str | None], Awaitable[list[str]]]
    """By the mark of the configuration that is to be put in force; None: whichever it is."""
    texts: Callable[[], bool] = lambda: False
    """May stored questions be told now?"""


class Admin:
    """What is changed is told to the audit log, before it is done. `purge` is None where questions are not compared."""

    def __init__(
        self, tiers: Tiers, purge: Purge | None, log: AuditLog, *, guard: Guard, controls: Controls, clock: Clock
    ) -> None:
        self._tiers = tiers
        self._purge = purge
        self._log = log
        self._guard = guard
        self._clock = clock
        self._controls = controls

    def routes(self) -> APIRouter:
        """The router of these endpoints, each behind a key."""
        router = APIRouter(prefix="/admin", tags=["admin"])
        operator, administrator = [Depends(self._guard.operator())], [Depends(self._guard.administrator())]
        router.add_api_route(
            "/cache/clear", self.clear, methods=["POST"], dependencies=administrator, openapi_extra=takes(ClearRequest)
        )
        router.add_api_route("/stats", self.stats, methods=["GET", "HEAD"], dependencies=operator)
        router.add_api_route("/reload", self.reload, methods=["POST"], dependencies=operator, openapi_extra=takes(ReloadBody))
        return router

    async def clear(self, request: Request) -> dict[str, Any]:
        """Remove entries from every tier of every node, of Sentinel's own only; with `dry_run` tell what would go."""
        asked = await read_body(request, ClearRequest)
        return await (self.foresee if asked.dry_run else self.carry_out)(request.state.caller, asked)

    async def carry_out(self, caller: Caller, asked: ClearRequest) -> dict[str, Any]:
        """Clear what this caller has chosen."""
        chosen, purge = asked.selector(caller), self._comparing(asked)
        await self._record(caller, "cache.clear", asked.told(), tenant=chosen.tenant)
        try:
            if purge is None or asked.similar_to is None:
                purged = Purged(await self._tiers.clear(chosen), whole=True)
            else:
                least = purge.usual if asked.min_similarity is None else asked.min_similarity
                purged = await purge.clear(chosen, asked.similar_to, least)
        except StoreDown as exc:
            raise ClearFailed(f"Failed to {exc}. Memory was cleared; try again.") from exc
        except EmbedderDown as exc:
            raise ClearFailed(f"Failed to compare the stored questions: {exc}. Try again.") from exc
        return {
            "status": "success",
            "message": _told(chosen, asked, purged),
            "cleared": purged.removed,
        }

    async def foresee(self, caller: Caller, asked: ClearRequest) -> dict[str, Any]:
        """What a clear would remove: chosen by the very queries that it removes by. Raises `InvalidField`.

        Hidden questions are not compared: asked again and again, and leaving no trace, it would tell what they are.
        """
        texts = self._controls.texts()
        if asked.similar_to is not None and not texts:
            raise InvalidField(HIDDEN.format(param="similar_to"), param="similar_to")
        chosen, purge = asked.selector(caller), self._comparing(asked)
        try:
            if purge is None or asked.similar_to is None:
                selection, whole = await self._tiers.preview(chosen, sample=SAMPLE), True
            else:
                least = purge.usual if asked.min_similarity is None else asked.min_similarity
                selection, whole = await purge.preview(chosen, asked.similar_to, least, sample=SAMPLE)
        except (StoreDown, EmbedderDown) as exc:
            raise StoreUnavailable(f"What would be cleared can't be told now ({exc}); nothing was. Try again.") from exc
        told = f"Nothing was cleared. A clear would remove {selection.count}"
        return {
            "status": "success",
            "message": told if whole else f"{told} or more: not all questions could be compared yet, so send the same again",
            "would_clear": selection.count,
            "complete": whole,
            "sample": [shown(head, texts=texts) for head in selection.sample],
        }

    def _comparing(self, asked: ClearRequest) -> Purge | None:
        """What clears by similarity, if that is asked for; raises `InvalidField` where it can't be."""
        if asked.similar_to is None:
            if asked.min_similarity is not None:
                raise InvalidField("'min_similarity' needs a text to compare with: send 'similar_to'.", param="min_similarity")
            return None
        if self._purge is None:
            sentence = "'similar_to' needs the semantic tier, which is off: set cache.semantic.enabled to true, or leave it out."
            raise InvalidField(sentence, param="similar_to")
        return self._purge

    async def stats(self) -> dict[str, Any]:
        """Counters since start, and the state of each service."""
        return {"cache_stats": dict(await self._controls.counters()), "services": dict(await self._controls.services())}

    async def reload(self, request: Request) -> dict[str, Any]:
        """Read the configuration again; a faulty one changes nothing, which the audit log is told as well."""
        asked = await read_body(request, ReloadBody)
        return await self.put_in_force(request.state.caller, asked.mark)

    async def put_in_force(self, caller: Caller, mark: str | None) -> dict[str, Any]:
        """Reload; with a mark only what was looked at. Raises `ReloadRejected` and `ConfigurationMoved`."""
        await self._record(caller, "configuration.reload", {})
        try:
            notes = await self._controls.reload(mark)
        except ConfigurationMoved:
            await self._record_rejected(caller)
            raise
        except ConfigurationError as exc:
            await self._record_rejected(caller)
            raise ReloadRejected(f"The new configuration is rejected, the old one stays in force. {exc}") from exc
        return {"status": "success", "message": "Configuration reloaded", "notes": notes}

    async def _record_rejected(self, caller: Caller) -> None:
        with suppress(KeysUnavailable):  # the faults matter more to whoever asked
            await self._record(caller, "configuration.rejected", {})

    async def _record(self, caller: Caller, action: str, asked: dict[str, Any], *, tenant: str | None = None) -> None:
        """Before it is done: what the log can't take is not done. `tenant` as in `AuditEntry`."""
        entry = AuditEntry(at=self._clock(), actor=caller.actor, action=action, object="", tenant=tenant, after=asked)
        try:
            await self._log.append(entry)
        except StoreDown as exc:
            raise KeysUnavailable(
                "The audit log can't be written, so nothing was done: try again shortly.", retry_after=1.0
            ) from exc


def _told(cleared: Selector, asked: ClearRequest, purged: Purged) -> str:
    if cleared.everything and asked.similar_to is None:
        return "Cache cleared"
    told = "Matching entries cleared" if cleared.tenant is None else "Matching entries that this tenant asked for cleared"
    return told if purged.whole else f"{told}, but not all questions could be compared yet: send the same again"
