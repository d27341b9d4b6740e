"""Why a stored answer would serve a text, or would not: for whoever administrates. Shown is what was sent, nothing stored."""

import math
from typing import Any, Final

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from sentinel_gateway.api.bodies import read_body, takes
from sentinel_gateway.api.guard import Check
from sentinel_gateway.api.keys import KEY_ID
from sentinel_gateway.core.access import ANONYMOUS, Caller, Key
from sentinel_gateway.core.explanation import Comparison, basis, threshold
from sentinel_gateway.core.issuance import find
from sentinel_gateway.errors import InvalidField, KeysUnavailable, StoreDown
from sentinel_gateway.pipeline.explaining import Explainer, Place
from sentinel_gateway.ports import KeyStore

OFF: Final = "Texts can't be compared: the semantic tier is off. Set cache.semantic.enabled to true, and start anew."


class Texts(BaseModel):
    """`a` has been answered; `b` is asked, of `model`, in a namespace of a tenant: who is of one asks within its own.

    `key` is the id of a key that asks; its tenant is then the key's.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    a: str = Field(min_length=1)
    b: str = Field(min_length=1)
    tenant: str | None = Field(default=None, max_length=1024)
    namespace: str = Field(default="", max_length=128)
    model: str = Field(default="", max_length=200)
    key: str | None = Field(default=None, max_length=64)


class Explaining:
    """`explainer` is None where questions are not compared. `access` is a dependency that says who may ask."""

    def __init__(self, explainer: Explainer | None, keys: KeyStore, *, access: Check) -> None:
        self._explainer = explainer
        self._keys = keys
        self._access = access

    def routes(self) -> APIRouter:
        """The router of this endpoint."""
        router = APIRouter(prefix="/admin", tags=["admin"], dependencies=[Depends(self._access)])
        router.add_api_route("/cache/explain", self.explain, methods=["POST"], openapi_extra=takes(Texts))
        return router

    async def explain(self, request: Request) -> dict[str, Any]:
        """Would the answer to `a` serve `b`? With each guard's verdict and what decides."""
        texts = await read_body(request, Texts)
        if self._explainer is None:
            raise InvalidField(OFF, param="a")
        caller: Caller = request.state.caller
        key = caller.key if texts.key is None else await self._find(texts.key, caller)
        return _shown(await self._explainer.compare(texts.a, texts.b, _place(texts, caller, key)))

    async def _find(self, id_: str, caller: Caller) -> Key:
        """A key that this caller may know of. Raises `KeyNotFound`."""
        try:
            return find(await self._keys.get(id_ if KEY_ID.fullmatch(id_) else ""), caller)
        except StoreDown as exc:
            raise KeysUnavailable("The keys can't be read now: ask again, or leave 'key' out.", retry_after=1.0) from exc


def _place(texts: Texts, caller: Caller, key: Key | None) -> Place:
    own = caller.tenant if key is None else key.tenant
    if own is not None and texts.tenant not in {None, own}:
        raise InvalidField("A key asks within its own tenant: leave 'tenant' out.", param="tenant")
    id_, allowed = ("", None) if key is None else (key.id, key.max_wrong_hit_rate)
    return Place(own or texts.tenant or ANONYMOUS, texts.namespace, texts.model, allowed, id_)


def _shown(found: Comparison) -> dict[str, Any]:
    budget = found.bar.budget
    return {
        "serves": found.reason is None,
        "reason": found.reason,
        "similarity": found.similarity,
        "confidence": found.confidence,
        "confidence_is": basis(found.bar),
        "threshold": least if math.isfinite(least := threshold(found.bar)) else None,
        "max_wrong_hit_rate": None if budget is None else {"rate": budget.rate, "of": budget.by},
        "guards": {guard: "objects" if objects else "passes" for guard, objects in found.guards.items()},
    }
