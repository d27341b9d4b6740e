"""Limits on the path: what one request takes, and that it gives back what it must.

A request takes from the limits of its key, its tenant, its end user and its model, all at once or nothing: one request and a
place in flight before it is answered, its tokens before a provider is asked. A hit counts as a request and never as tokens; what
lies in memory is answered at once and takes no place. An end
user is one of a key's; a model's limit counts for each tenant apart, so no tenant can use up another's. A key that was refused
for its own or its tenant's requests stays refused until they come back, and no store is asked for that. A request that can't be
understood costs one as well: whoever sends nothing else is stopped by the same limit.
"""

import hashlib
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final, Protocol

import msgspec

from sentinel_gateway.core.limits import NO_LIMITS, Charge, Kind, Limits, Scope, Standing, Verdict, charge
from sentinel_gateway.errors import ConcurrencyLimited, NeverFits, RateLimited, RequestsLimited, TokensLimited
from sentinel_gateway.pipeline.admit import retry_wait
from sentinel_gateway.pipeline.plan import Plan
from sentinel_gateway.ports import Clock, LimitStore

MOST_CALLERS: Final = 10_000
"""Callers whose charges are kept made; then they are made anew."""
USERS_KEPT: Final = 256
"""End users whose charges are kept made; nobody knows how many there are."""
_WHOSE: Final[Mapping[Scope, str]] = {
    "key": "this key",
    "tenant": "this tenant",
    "user": "this end user",
    "model": "this tenant",
}
_WHAT: Final[Mapping[Kind, str]] = {
    "requests": "make {} requests a minute",
    "tokens": "use {} tokens a minute",
    "concurrency": "have {} requests in flight",
}


Estimate = Callable[[Plan], Awaitable[int]]
"""The tokens that the answer to a plan may cost at most, as far as that is known before."""


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


class LimitRules(msgspec.Struct, frozen=True):
    """Limits by configuration: a key's where it has none of its own, tenants' and public models' by name."""

    keys: Limits = NO_LIMITS
    tenants: Mapping[str, Limits] = {}
    models: Mapping[str, Limits] = {}


class Limiter:
    """Makes the grants. `chance` gives numbers from 0 to 1."""

    def __init__(self, store: LimitStore, *, rules: LimitRules, clock: Clock, chance: Callable[[], float]) -> None:
        self.store = store
        self._rules = rules
        self._clock = clock
        self._chance = chance
        self._callers: dict[str, _Caller] = {}

    def __repr__(self) -> str:
        return f"<Limiter {len(self._callers)} callers, {self.store!r}>"

    def grant(self, party: Party) -> "Grant":
        """For one request of this party; nothing is taken yet."""
        return Grant(self, self._caller(party), FREE)

    def toll(self, party: Party, *, model: str, user: str) -> "Toll":
        """What each request of this party takes whose answer is here already; `model` and `user` as `Grant.enter` has them."""
        caller = self._caller(party)
        return Toll(caller, caller.costs(model, user).request)

    def take_now(self, toll: "Toll") -> Verdict | None:
        """Take it without waiting; None where that can't be, or where it is refused."""
        if toll.caller.refused is not None:
            return None
        if not toll.charges:
            return UNLIMITED
        verdict = self.store.take_now(toll.charges)
        return None if verdict is None or verdict.refused is not None else verdict

    def _caller(self, party: Party) -> "_Caller":
        caller = self._callers.get(party.id)
        if caller is None or caller.party is not party:
            if len(self._callers) >= MOST_CALLERS:
                self._callers.clear()
            caller = self._callers[party.id] = _Caller(party, self._rules)
        return caller

    def recall(self, caller: "_Caller", verdict: Verdict) -> Verdict:
        """What would come by now of a take that was refused, if nobody has taken anything since."""
        return verdict.later(int((self._clock() - caller.refused_at) * 1000))

    def refusal(self, caller: "_Caller", verdict: Verdict, refused: Charge) -> RateLimited:
        """The error to raise; it is remembered if any other request of the caller would meet it too."""
        if _meets_all(refused):
            caller.refused, caller.refused_at = verdict, self._clock()
        return self.error(verdict, refused)

    def error(self, verdict: Verdict, refused: Charge) -> RateLimited:
        """The error for a refusal that is remembered already."""
        return _error(refused, verdict.retry_after, without_wait=retry_wait(self._chance()))


def end_user(plan: Plan) -> str:
    """Whom the caller names as its end user; all who have none are one."""
    user = plan.request.fields.get("user")
    return user if isinstance(user, str) else ""


class Grant(msgspec.Struct, eq=False):
    """One request's share of the limits: `check`, `enter`, `tokens` and `settle` where a provider is asked, `leave` in the end.

    All but the last two raise `RateLimited`s. Every step may be left out.
    """

    _limiter: Limiter
    _caller: "_Caller"
    _costs: "_Costs"
    _places: Sequence[Charge] = ()
    _reserved: int | None = None
    _entered: Verdict | None = None
    _paid: Verdict | None = None
    _held: bool = False
    _has_left: bool = False

    def __repr__(self) -> str:
        return f"<Grant of {self._caller!r}, {len(self._places)} places, {self._reserved or 0} tokens>"

    @property
    def counts_tokens(self) -> bool:
        """Is there a limit of tokens? Known once it has entered."""
        return bool(self._costs.tokens)

    @property
    def reserved(self) -> int | None:
        """Tokens that are taken and not settled yet."""
        return self._reserved

    def hold(self) -> None:
        """Keep the place in flight until `release`, also if the caller leaves: the work goes on without it."""
        self._held = True

    async def release(self) -> None:
        """The work has ended; the place goes back if the caller has left meanwhile."""
        self._held = False
        if self._has_left:
            await self.leave()

    def check(self) -> None:
        """Refuse at once, before a body is read, whoever is known to be refused still. Asks no store."""
        if self._caller.refused is not None:
            verdict = self._limiter.recall(self._caller, self._caller.refused)
            if verdict.refused is not None and _meets_all(verdict.refused):
                self._entered = verdict
                raise self._limiter.error(verdict, verdict.refused)
            self._caller.refused = None

    async def enter(self, *, model: str, user: str = "", place: bool = True) -> None:
        """Take a request, and a place in flight. `model` is the public name, `user` the end user; all who have none are one."""
        costs = self._costs = self._caller.costs(model, user)
        entry = costs.entry if place else costs.request
        if entry:
            verdict = self._entered = await self._limiter.store.take(entry)
            if verdict.refused is not None:
                raise self._limiter.refusal(self._caller, verdict, verdict.refused)
            if place:
                self._places = costs.places

    async def spoiled(self) -> None:
        """Instead of `enter`, for a request that can't be understood: it costs one of its key and its tenant."""
        if self._caller.requests:
            verdict = self._entered = await self._limiter.store.take(self._caller.requests)
            if verdict.refused is not None:
                raise self._limiter.refusal(self._caller, verdict, verdict.refused)

    async def tokens(self, estimate: int) -> None:
        """Take the tokens that a provider's answer may cost at most, before it is asked."""
        if self._costs.tokens:
            verdict = self._paid = await self._limiter.store.take([charge.of(estimate) for charge in self._costs.tokens])
            if verdict.refused is not None:
                raise self._limiter.refusal(self._caller, verdict, verdict.refused)
            self._reserved = estimate + (self._reserved or 0)

    async def settle(self, actual: int) -> None:
        """Book what the reserved tokens have come to; 0 if no provider answered. Once: without a reservation it does nothing."""
        reserved, self._reserved = self._reserved, None
        if reserved is not None and reserved != actual:
            await self._limiter.store.settle([charge.of(actual - reserved) for charge in self._costs.tokens])

    async def leave(self) -> None:
        """Give the place in flight back, once, whatever has happened. Reserved tokens stay taken until they are settled."""
        self._has_left = True
        if self._places and not self._held:
            places, self._places = self._places, ()
            await self._limiter.store.settle(places)

    def standings(self) -> tuple[Standing | None, Standing | None]:
        """How the tightest limits of requests and of tokens stood when they were last looked at; None where there is none."""
        requests, tokens = NOTHING_STANDS if self._entered is None else self._entered.standings()
        return requests, tokens if self._paid is None else self._paid.standings()[1]


class _Costs(msgspec.Struct, frozen=True):
    """What a request takes: `entry` before the cache, tokens only looked at; of it `places` go back; `tokens` are taken later.

    `request` is `entry` without the places.
    """

    entry: Sequence[Charge]
    request: Sequence[Charge]
    places: Sequence[Charge]
    tokens: Sequence[Charge]


class _Caller:
    """What is known of a party: its charges, made once, and its last refusal that would meet any request of its."""

    __slots__ = ("_by_model", "_by_user", "_charges", "_costs", "_rules", "_tag", "party", "refused", "refused_at", "requests")

    def __init__(self, party: Party, rules: LimitRules) -> None:
        self.party = party
        self.refused: Verdict | None = None
        self.refused_at = 0.0
        self._by_user = party.user_limits != NO_LIMITS
        self._rules = rules
        self._tag = f"{{{_digest(party.tenant, size=8)}}}"  # what Redis Cluster chooses a slot by
        self._charges = [
            *self._make(party.limits.or_else(rules.keys), "key", party.id),
            *self._make(rules.tenants.get(party.tenant, NO_LIMITS), "tenant"),
        ]
        self.requests = [charge for charge in self._charges if charge.kind == "requests"]
        self._costs = _sort(self._charges)
        self._by_model: dict[str, _Costs] = {}

    def __repr__(self) -> str:
        return f"<_Caller {self.party.id}{', refused' if self.refused else ''}>"

    def costs(self, model: str, user: str) -> _Costs:
        """What a request takes."""
        if self._by_user:
            return _costs_of_user(self, model, _digest(f"{len(self.party.id)} {self.party.id}{user}"))
        if model not in self._rules.models:
            return self._costs
        made = self._by_model.get(model)
        if made is None:
            made = self._by_model[model] = _sort([*self._charges, *self._model_charges(model)])
        return made

    def of_user(self, model: str, digest: str) -> _Costs:
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


class Toll(msgspec.Struct, frozen=True, eq=False):
    """What a request takes whose answer is here already, found out once for all requests that are alike."""

    caller: _Caller
    charges: Sequence[Charge]


FREE: Final = _Costs((), (), (), ())
UNLIMITED: Final = Verdict((), ())
NOTHING_STANDS: Final = UNLIMITED.standings()


@lru_cache(maxsize=USERS_KEPT)
def _costs_of_user(caller: _Caller, model: str, digest: str) -> _Costs:
    return caller.of_user(model, digest)


def _sort(charges: Sequence[Charge]) -> _Costs:
    return _Costs(
        charges,
        [charge for charge in charges if charge.kind != "concurrency"],
        [charge.of(-charge.amount) for charge in charges if charge.kind == "concurrency"],
        [charge for charge in charges if charge.kind == "tokens"],
    )


def _digest(text: str, *, size: int = 16) -> str:
    """A short name in plain letters: what callers and operators write reaches no store."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).hexdigest()


def _meets_all(refused: Charge) -> bool:
    """Is it what every request of the caller takes?"""
    return refused.kind == "requests" and refused.scope in {"key", "tenant"}


def _error(refused: Charge, wait: float | None, *, without_wait: float) -> RateLimited:
    of_model = " of this model" if refused.scope == "model" else ""
    limit = f"{_WHOSE[refused.scope]} may {_WHAT[refused.kind].format(refused.limit)}{of_model}"
    if refused.hopeless:
        return NeverFits(f"Request too large: it may cost {refused.amount} tokens, and {limit}. Ask for fewer with 'max_tokens'.")
    if wait is None:
        return ConcurrencyLimited(f"Rate limit reached: {limit}. Try again when one has ended.", retry_after=without_wait)
    kind = RequestsLimited if refused.kind == "requests" else TokensLimited
    return kind(f"Rate limit reached: {limit}. Try again in {math.ceil(wait * 10) / 10} s.", retry_after=wait)
