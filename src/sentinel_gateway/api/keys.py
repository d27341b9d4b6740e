"""Administration of client keys and the audit log. Behind the scope `admin`, each within its own tenant; the operator within all.

Nobody passes on more than is theirs, no field can be set but those of the bodies below, and what belongs to another tenant is
answered as what does not exist.
"""

import re
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from functools import partial
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import Field

from sentinel_gateway.api.bodies import StrictBody, read_body, takes
from sentinel_gateway.api.guard import Check
from sentinel_gateway.core import budgets, issuance
from sentinel_gateway.core.access import (
    DEFAULT_TENANT,
    Caller,
    Grant,
    Key,
    KeyScope,
    describe,
    faults,
    standing,
)
from sentinel_gateway.core.budgets import Budget
from sentinel_gateway.core.issuance import ID_BYTES, Amendment, AuditEntry, Draw, Minter
from sentinel_gateway.core.limits import Limits
from sentinel_gateway.errors import KeysUnavailable, StoreDown
from sentinel_gateway.pipeline.keyring import KeyRing
from sentinel_gateway.ports import AuditLog, Clock, KeyPage, KeyStore

READ: Final = ["GET", "HEAD"]
LONGEST_OVERLAP: Final = 90 * 86400
MOST_ROWS: Final = (1 << 63) - 1
KEY_ID: Final = re.compile(r"key_[0-9a-f]{16}", re.ASCII)

PageSize = Annotated[int, Query(ge=1, le=200)]


class LimitsBody(StrictBody):
    """None is no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None

    def value(self) -> Limits:
        return Limits(self.requests_per_minute, self.tokens_per_minute, self.concurrency)


class BudgetBody(StrictBody):
    """In USD, as a number or as text; None is no budget."""

    day: Decimal | None = None
    month: Decimal | None = None

    def value(self) -> Budget:
        """Raises `RequestValidationError` for an amount that is none."""
        return Budget(*(_nano(span, amount) for span, amount in (("day", self.day), ("month", self.month))))


class CreateBody(StrictBody):
    """A key to be made. `expires` in Unix seconds; no `tenant` is the caller's own."""

    name: str
    tenant: str | None = None
    scopes: list[KeyScope] = Field(default=["inference"])
    models: list[str] = Field(default=[])
    expires: float | None = None
    trial: bool = False
    limits: LimitsBody = LimitsBody()
    user_limits: LimitsBody = LimitsBody()
    max_wrong_hit_rate: float | None = None
    budget: BudgetBody = BudgetBody()

    def grant(self, caller: Caller) -> Grant:
        return Grant(
            name=self.name,
            tenant=self.tenant if self.tenant is not None else caller.tenant or DEFAULT_TENANT,
            scopes=frozenset(self.scopes),
            models=tuple(self.models),
            expires=self.expires,
            trial=self.trial,
            limits=self.limits.value(),
            user_limits=self.user_limits.value(),
            max_wrong_hit_rate=self.max_wrong_hit_rate,
            budget=self.budget.value(),
        )


class RotateBody(StrictBody):
    """`overlap`: seconds that the old key lives on."""

    overlap: Annotated[float, Field(ge=0, le=LONGEST_OVERLAP)] = 86400.0


class KeyAdmin:
    """`access` lets administrators in, and tells who it is in `request.state.caller`, before anything else is looked at."""

    def __init__(
        self,
        keys: KeyStore,
        log: AuditLog,
        ring: KeyRing,
        minter: Minter,
        *,
        access: Check,
        clock: Clock,
    ) -> None:
        self._keys = keys
        self._log = log
        self._ring = ring
        self._minter = minter
        self._access = access
        self._clock = clock

    def __repr__(self) -> str:
        return f"<KeyAdmin {self._ring!r}>"

    def routes(self) -> APIRouter:
        """The router of these endpoints, each behind `access`."""
        router = APIRouter(prefix="/admin", tags=["keys"], dependencies=[Depends(self._access)])
        router.add_api_route("/keys", self.list_keys, methods=READ)
        router.add_api_route("/keys", self.create, methods=["POST"], status_code=201, openapi_extra=takes(CreateBody))
        router.add_api_route("/keys/{id}", self.get, methods=READ)
        router.add_api_route("/keys/{id}/revoke", self.revoke, methods=["POST"])
        router.add_api_route("/keys/{id}/rotate", self.rotate, methods=["POST"], status_code=201, openapi_extra=takes(RotateBody))
        router.add_api_route("/keys/{id}/budget", self.rebudget, methods=["PUT"], openapi_extra=takes(BudgetBody))
        router.add_api_route("/audit", self.audit, methods=READ)
        return router

    async def list_keys(
        self,
        request: Request,
        search: Annotated[str, Query(max_length=100)] = "",
        tenant: Annotated[str | None, Query(max_length=1024)] = None,
        cursor: Annotated[str | None, Query(max_length=2048)] = None,
        limit: PageSize = 50,
    ) -> dict[str, Any]:
        """Keys in the order of their names; `search` is how a name begins."""
        caller: Caller = request.state.caller
        if caller.tenant is not None and tenant not in {None, caller.tenant}:
            page = KeyPage((), None)
        else:
            async with _store():
                page = await self._keys.page(prefix=search, tenant=caller.tenant or tenant, limit=limit, cursor=cursor)
        return {"data": [self._shown(key) for key in page.keys], "next": page.next}

    async def create(self, request: Request) -> dict[str, Any]:
        """Make a key; this answer is the only place where it ever stands."""
        return await self.make(request.state.caller, await read_body(request, CreateBody))

    async def make(self, caller: Caller, asked: CreateBody) -> dict[str, Any]:
        """The same, for whoever was let in."""
        grant = asked.grant(caller)
        now = self._clock()
        if wrong := list(faults(grant, now)):
            raise RequestValidationError([{"loc": ("body", field), "msg": sentence} for field, sentence in wrong])
        key, text = self._minter.mint(grant, _draw(), now)
        entry = issuance.create(caller, key, defaults=self._minter.defaults)
        async with _store():
            await self._keys.create(key, entry)
        await self._follow()
        return {"key": text} | self._shown(key)

    async def get(self, request: Request, id: str) -> dict[str, Any]:  # noqa: A002 - the parameter's name in the path
        """One key."""
        return self._shown(await self._find(request, id))

    async def revoke(self, request: Request, id: str) -> dict[str, Any]:  # noqa: A002 - as above
        """From now on it opens nothing, on this node; on others within a second."""
        caller: Caller = request.state.caller
        key = await self._find(request, id)
        return self._shown((await self._amend(key, partial(issuance.revoke, caller=caller, now=self._clock()))).key)

    async def rotate(self, request: Request, id: str) -> dict[str, Any]:  # noqa: A002 - as above
        """A new key with the same rights; the old one lives on for a while."""
        return await self.renew(request, id, await read_body(request, RotateBody))

    async def renew(self, request: Request, id_: str, asked: RotateBody) -> dict[str, Any]:
        """The same, with what is asked at hand."""
        caller: Caller = request.state.caller
        key = await self._find(request, id_)
        successor, text = self._minter.mint(key, _draw(), self._clock())
        defaults = self._minter.defaults
        rule = partial(issuance.rotate, caller=caller, successor=successor, overlap=asked.overlap, defaults=defaults)
        rotated = (await self._amend(key, rule)).key
        return {"key": text} | self._shown(successor) | {"rotated": self._shown(rotated)}

    async def rebudget(self, request: Request, id: str) -> dict[str, Any]:  # noqa: A002 - as above
        """What the key may spend from now on, on this node; on others within a second. What was spent stays spent."""
        return await self.allot(request, id, await read_body(request, BudgetBody))

    async def allot(self, request: Request, id_: str, asked: BudgetBody) -> dict[str, Any]:
        """The same, with what is asked at hand."""
        caller: Caller = request.state.caller
        budget = asked.value()
        if wrong := budgets.faults(budget):
            raise RequestValidationError([{"loc": ("body", span), "msg": sentence} for span, sentence in wrong])
        key = await self._find(request, id_)
        defaults, now = self._minter.defaults, self._clock()
        rule = partial(issuance.rebudget, caller=caller, budget=budget, now=now, defaults=defaults)
        return self._shown((await self._amend(key, rule)).key)

    async def audit(
        self,
        request: Request,
        cursor: Annotated[int | None, Query(ge=1, le=MOST_ROWS)] = None,
        limit: PageSize = 50,
    ) -> dict[str, Any]:
        """Administrative changes, the newest first."""
        caller: Caller = request.state.caller
        async with _store():
            page = await self._log.page(tenant=caller.tenant, limit=limit, cursor=cursor)
        return {"data": [_entry(entry) for entry in page.entries], "next": page.next}

    async def _find(self, request: Request, id_: str) -> Key:
        async with _store():
            key = await self._keys.get(id_ if KEY_ID.fullmatch(id_) else "")
        return issuance.find(key, request.state.caller)

    async def _amend(self, key: Key, rule: Callable[[Key], Amendment]) -> Amendment:
        async with _store():
            amendment = await self._keys.update(key.id, rule)
        await self._follow()
        return amendment

    async def _follow(self) -> None:
        with suppress(StoreDown):  # it is kept; the ring hears of it as soon as the store answers again
            await self._ring.changed()

    def _shown(self, key: Key) -> dict[str, Any]:
        return describe(key) | {"status": standing(key, self._clock()) or "active"}


def _nano(span: str, usd: Decimal | None) -> int | None:
    try:
        return None if usd is None else budgets.nano(usd)
    except ValueError as exc:
        raise RequestValidationError([{"loc": ("body", "budget", span), "msg": str(exc)}]) from exc


def _draw() -> Draw:
    return Draw(secrets.token_bytes(ID_BYTES), secrets.token_bytes(32))


def _entry(entry: AuditEntry) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(entry)
    return {"id": entry.id} | shown


@asynccontextmanager
async def _store() -> AsyncIterator[None]:
    """What the caller is told where the store does not answer."""
    try:
        yield
    except StoreDown as exc:
        sentence = "The keys can't be read or changed now. What you asked for may have happened: look before you try again."
        raise KeysUnavailable(sentence, retry_after=1.0) from exc
