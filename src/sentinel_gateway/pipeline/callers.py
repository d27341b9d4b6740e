"""Who asks, and what each of its requests takes: the charges of its limits and the budgets that concern it, made once.

A key, its tenant, the model that is named and an end user of the key each have buckets of their own; all of a tenant begin alike,
so that a cluster has them in one place. What callers and operators write reaches no store.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, Protocol

import msgspec

from sentinel_gateway.core.budgets import NO_BUDGET, Budget
from sentinel_gateway.core.limits import NO_LIMITS, Charge, Kind, Limits, Scope, Verdict, charge
from sentinel_gateway.pipeline.budgeting import BudgetRules, make_purse

USERS_KEPT: Final = 256
"""End users whose charges are kept made; nobody knows how many there are."""


class Party(Protocol):
    """Who asks: a key, or whatever stands for one. The same object for each of its requests, until its limits change."""

    @property
    def id(self) -> str: ...

    @property
    def tenant(self) -> str: ...

    @property
    def limits(self) -> Limits: ...

    @property
    def user_limits(self) -> Limits:
        """Those of each of its end users."""
        ...

    @property
    def budget(self) -> Budget: ...


class LimitRules(msgspec.Struct, frozen=True):
    """Limits by configuration: a key's where it has none of its own, tenants' and public models' by name."""

    keys: Limits = NO_LIMITS
    tenants: Mapping[str, Limits] = {}
    models: Mapping[str, Limits] = {}
    budgets: BudgetRules = BudgetRules()


class Costs(msgspec.Struct, frozen=True):
    """What a request takes: `entry` before the cache, tokens only looked at; of it `places` go back; `tokens` are taken later.

    `request` is `entry` without the places.
    """

    entry: Sequence[Charge]
    request: Sequence[Charge]
    places: Sequence[Charge]
    tokens: Sequence[Charge]


class Caller:
    """What is known of a party: its charges, made once, and its last refusal that would meet any request of its."""

    __slots__ = (
        "_by_model",
        "_by_user",
        "_charges",
        "_costs",
        "_rules",
        "_tag",
        "is_free",
        "party",
        "places",
        "purse",
        "refused",
        "refused_at",
        "requests",
    )

    def __init__(self, party: Party, rules: LimitRules) -> None:
        self.party = party
        self.refused: Verdict | None = None
        self.refused_at = 0.0
        self._by_user = party.user_limits != NO_LIMITS
        self._rules = rules
        self._tag = tag_of(party.tenant)
        self._charges = [
            *self._make(party.limits.or_else(rules.keys), "key", party.id),
            *self._make(rules.tenants.get(party.tenant, NO_LIMITS), "tenant"),
        ]
        shared = rules.budgets.tenants.get(party.tenant, NO_BUDGET)
        self.purse = make_purse(self._tag, party.id, party.budget.or_else(rules.budgets.keys), shared)
        self.requests = [charge for charge in self._charges if charge.kind == "requests"]
        self.places = min((charge.limit for charge in self._charges if charge.kind == "concurrency"), default=None)
        self.is_free = not (self._charges or self._by_user or rules.models or self.purse)
        """Does nothing limit it, whatever it asks?"""
        self._costs = _sort(self._charges)
        self._by_model: dict[str, Costs] = {}

    def __repr__(self) -> str:
        return f"<Caller {self.party.id}{', refused' if self.refused else ''}>"

    def costs(self, model: str, user: str) -> Costs:
        """What a request takes."""
        if self._by_user:
            return _costs_of_user(self, model, _digest(f"{len(self.party.id)} {self.party.id}{user}"))
        if model not in self._rules.models:
            return self._costs
        made = self._by_model.get(model)
        if made is None:
            made = self._by_model[model] = _sort([*self._charges, *self._model_charges(model)])
        return made

    def of_user(self, model: str, digest: str) -> Costs:
        users = self._make(self.party.user_limits, "user", digest, shared=f"{self.party.id}:others")
        return _sort([*self._charges, *self._model_charges(model), *users])

    def _model_charges(self, model: str) -> list[Charge]:
        return self._make(self._rules.models.get(model, NO_LIMITS), "model", model)

    def _make(self, limits: Limits, scope: Scope, owner: str = "", *, shared: str = "") -> list[Charge]:
        sizes: tuple[tuple[Kind, int | None, int], ...] = (
            ("requests", limits.requests_per_minute, 1),
            ("tokens", limits.tokens_per_minute, 0),
            ("concurrency", limits.concurrency, 1),
        )
        return [
            charge(
                f"{self._tag}:{kind}:{scope}:{owner}",
                kind,
                scope,
                limit=limit,
                amount=amount,
                spill=f"{self._tag}:{kind}:{scope}:{shared}" if shared else "",
            )
            for kind, limit, amount in sizes
            if limit is not None
        ]


FREE: Final = Costs((), (), (), ())


@lru_cache(maxsize=USERS_KEPT)
def _costs_of_user(caller: Caller, model: str, digest: str) -> Costs:
    return caller.of_user(model, digest)


def _sort(charges: Sequence[Charge]) -> Costs:
    return Costs(
        charges,
        [charge for charge in charges if charge.kind != "concurrency"],
        [charge.of(-charge.amount) for charge in charges if charge.kind == "concurrency"],
        [charge for charge in charges if charge.kind == "tokens"],
    )


def tag_of(tenant: str) -> str:
    """How all that is counted of a tenant begins: what Redis Cluster chooses a slot by."""
    return f"{{{_digest(tenant, size=8)}}}"


def _digest(text: str, *, size: int = 16) -> str:
    """A short name in plain letters: what callers and operators write reaches no store."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).hexdigest()
