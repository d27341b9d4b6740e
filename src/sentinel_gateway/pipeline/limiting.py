"""Limits on the path: what one request takes, and that it gives back what it must.

A request takes from the limits of its key, its tenant, its end user and its model, all at once or nothing: one request and a
place in flight before it is answered, its tokens before a provider is asked. A hit counts as a request and never as tokens; what
lies in memory is answered at once and takes no place. An end
user is one of a key's; a model's limit counts for each tenant apart, so no tenant can use up another's. A key that was refused
for its own or its tenant's requests stays refused until they come back, and no store is asked for that. A request that can't be
understood costs one as well: whoever sends nothing else is stopped by the same limit.

Where a key or its tenant has a budget, what the answer may cost is held of it together with the tokens, and a request whose
budget is spent is refused before the cache is asked (`budgeting.py`).
"""

import math
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from sentinel_gateway.core.budgets import Account, Allowance, Hold
from sentinel_gateway.core.limits import Charge, Kind, Scope, Standing, Verdict
from sentinel_gateway.core.tokens import Expected
from sentinel_gateway.errors import BudgetSpent, ConcurrencyLimited, NeverFits, RateLimited, RequestsLimited, TokensLimited
from sentinel_gateway.pipeline.admit import retry_wait
from sentinel_gateway.pipeline.budgeting import Purse, refusal
from sentinel_gateway.pipeline.callers import FREE, Caller, Costs, LimitRules, Party
from sentinel_gateway.pipeline.plan import Plan
from sentinel_gateway.ports import Clock, LimitStore

UNCOUNTED: Final = 16
"""Of a limit one in so many parts may be spent by requests whose tokens nobody has counted."""
MOST_CALLERS: Final = 10_000
"""Callers whose charges are kept made; then they are made anew."""
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


class Tokens(Protocol):
    """What the answer to a request may cost in tokens."""

    @property
    def most(self) -> Expected:
        """Each byte of a text taken for a token: no count comes to more."""
        ...

    def counted(self) -> Expected | Awaitable[Expected]:
        """As they are counted; to be awaited where that takes time."""
        ...


Estimate = Callable[[Plan], Tokens]
Refusal = RateLimited | BudgetSpent


class Limiter:
    """Makes the grants. `chance` gives numbers from 0 to 1, `now` the time in Unix seconds."""

    def __init__(self, store: LimitStore, *, rules: LimitRules, clock: Clock, chance: Callable[[], float]) -> None:
        self.store = store
        self._rules = rules
        self.now = clock
        self._chance = chance
        self._callers: dict[str, Caller] = {}

    def __repr__(self) -> str:
        return f"<Limiter {len(self._callers)} callers, {self.store!r}>"

    def grant(self, party: Party) -> "Grant | None":
        """For one request of this party, of which nothing is taken yet; None where nothing limits it, whatever it asks."""
        caller = self._caller(party)
        return None if caller.is_free else Grant(self, caller, FREE, caller.purse is not None)

    def places(self, party: Party) -> int | None:
        """How many requests its key and its tenant let it have in flight; None if neither says it."""
        return self._caller(party).places

    def toll(self, party: Party, *, model: str, user: str) -> "Toll":
        """What each request of this party takes whose answer is here already; `model` and `user` as `Grant.enter` has them."""
        caller = self._caller(party)
        return Toll(caller, caller.costs(model, user).request)

    def take_now(self, toll: "Toll", now: float) -> Verdict | None:
        """Take it without waiting; None where that can't be, or where it is refused. `now` in Unix seconds."""
        if toll.caller.refused is not None:
            return None
        purse = toll.caller.purse
        if purse is not None:
            verdict = self.store.take_now(toll.charges, now, purse.look(now))
        elif not toll.charges:
            return UNLIMITED
        else:
            verdict = self.store.take_now(toll.charges, now)
        return None if verdict is None or verdict.refused is not None else verdict

    def _caller(self, party: Party) -> Caller:
        caller = self._callers.get(party.id)
        if caller is None or caller.party is not party:
            if len(self._callers) >= MOST_CALLERS:
                self._callers.clear()
            caller = self._callers[party.id] = Caller(party, self._rules)
        return caller

    def recall(self, caller: Caller, verdict: Verdict) -> Verdict:
        """What would come by now of a take that was refused, if nobody has taken anything since."""
        return verdict.later(int((self.now() - caller.refused_at) * 1000))

    def refusal(self, caller: Caller, verdict: Verdict, refused: Charge | Allowance, amount: int = 0) -> "Refusal":
        """The error to raise; it is remembered if any other request of the caller would meet it too."""
        if isinstance(refused, Allowance):
            return refusal(refused, verdict.account(refused), amount, retry_after=retry_wait(self._chance()))
        if _meets_all(refused):
            caller.refused, caller.refused_at = verdict, self.now()
        return self.error(verdict, refused)

    def error(self, verdict: Verdict, refused: Charge) -> RateLimited:
        """The error for a refusal that is remembered already."""
        return _error(refused, verdict.retry_after, without_wait=retry_wait(self._chance()))


def end_user(plan: Plan) -> str:
    """Whom the caller names as its end user; all who have none are one."""
    user = plan.request.fields.get("user")
    return user if isinstance(user, str) else ""


class Grant(msgspec.Struct, eq=False):
    """One request's share of the limits: `check`, `enter`, `reserve` and `settle` where a provider is asked, `leave` in the end.

    All but the last two raise `RateLimited`s, and `BudgetSpent` where there is a budget. Every step may be left out.
    """

    _limiter: Limiter
    _caller: Caller
    _costs: Costs
    has_budget: bool
    """Is there a budget that what it costs is taken from?"""
    reserved: int | None = None
    """Tokens that are taken and not settled yet."""
    uncounted: bool = False
    """Are they more than a count would come to?"""
    budgeted: int = 0
    """What is held of the budgets and not settled yet, in nano-USD."""
    _places: Sequence[Charge] = ()
    _holds: tuple[Hold, ...] = ()
    _entered: Verdict | None = None
    _paid: Verdict | None = None
    _held: bool = False
    _has_left: bool = False

    def __repr__(self) -> str:
        return f"<Grant of {self._caller!r}, {len(self._places)} places, {self.reserved or 0} tokens>"

    @property
    def reserves(self) -> bool:
        """Is there a limit of tokens or a budget, that the answer is taken from before it comes? Known once it has entered."""
        return self.has_budget or bool(self._costs.tokens)

    @property
    def left(self) -> int:
        """What was left of the tightest budget when it was last looked at, in nano-USD."""
        return min(account.left(allowance) for allowance, account in self.budgets())

    def part(self) -> "Part":
        """For something that is asked for the sake of this request, which has entered."""
        return Part(self._limiter, self._caller, self._costs, self.has_budget, whole=self)

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
            if isinstance(verdict.refused, Charge) and _meets_all(verdict.refused):
                self._entered = verdict
                raise self._limiter.error(verdict, verdict.refused)
            self._caller.refused = None

    async def enter(self, *, model: str, user: str = "", place: bool = True) -> None:
        """Take a request, and a place in flight. `model` is the public name, `user` the end user; all who have none are one."""
        costs = self._costs = self._caller.costs(model, user)
        await self._take(costs.entry if place else costs.request, self._caller.purse)
        if place:
            self._places = costs.places

    async def spoiled(self) -> None:
        """Instead of `enter`, for a request that can't be understood: it costs one of its key and its tenant."""
        await self._take(self._caller.requests)

    async def _take(self, charges: Sequence[Charge], purse: Purse | None = None) -> None:
        """What a request takes before it is answered, where anything limits it; of its budgets that is nothing."""
        if not charges and purse is None:
            return
        store, now = self._limiter.store, self._limiter.now()
        look = None if purse is None else purse.look(now)
        verdict = self._entered = store.take_now(charges, now, look) or await store.take(charges, look)
        if verdict.refused is not None:
            raise self._limiter.refusal(self._caller, verdict, verdict.refused)

    async def reserve(self, tokens: int, amount: int = 0) -> None:
        """Take what a provider's answer may cost at most, before it is asked: tokens, and nano-USD of the budgets."""
        if self.reserves and not self.reserve_now(tokens, amount):
            hold, _ = self._hold(amount)
            self._taken(await self._limiter.store.take(self._charges(tokens), hold), hold, tokens, amount)

    def reserve_now(self, tokens: int, amount: int = 0) -> bool:
        """As `reserve`, where that needs no waiting; False where it does, and then nothing is taken."""
        hold, now = self._hold(amount)
        verdict = self._limiter.store.take_now(self._charges(tokens), now, hold)
        if verdict is None:
            return False
        self._taken(verdict, hold, tokens, amount)
        return True

    def reserve_uncounted(self, most: int, amount: int = 0) -> bool:
        """The same for the most tokens that it can be, where of each limit only a small part is spent then; False elsewhere."""
        hold, now = self._hold(amount)
        within = [charge.of(most, within=UNCOUNTED) for charge in self._costs.tokens]
        verdict = self._limiter.store.take_now(within, now, hold)
        if verdict is None or verdict.refused is not None:
            return False
        self._taken(Verdict(self._costs.tokens, verdict.spent, accounts=verdict.accounts), hold, most, amount)
        self.uncounted = True
        return True

    def _charges(self, tokens: int) -> Sequence[Charge]:
        return [charge.of(tokens) for charge in self._costs.tokens]

    def _hold(self, amount: int) -> tuple[Hold | None, float]:
        """What is held of the budgets, and when."""
        purse, now = self._caller.purse, self._limiter.now()
        return None if purse is None else purse.hold(now, amount), now

    def _taken(self, verdict: Verdict, hold: Hold | None, tokens: int, amount: int) -> None:
        self._paid = verdict
        if verdict.refused is not None:
            raise self._limiter.refusal(self._caller, verdict, verdict.refused, amount)
        self.reserved = tokens + (self.reserved or 0)
        if hold is not None:
            self._holds = (hold, *self._holds)
            self.budgeted += amount

    def settle(self, actual: int, cost: int = 0) -> Coroutine[Any, Any, None]:
        """Book what the reservation has come to; 0 if no provider answered. Once: without a reservation it does nothing."""
        corrections, holds = self._corrections(actual), self._holds
        self.reserved, self.uncounted, self.budgeted, self._holds = None, False, 0, ()
        return self._settle(corrections, holds, cost)

    def settle_now(self, actual: int, cost: int = 0) -> bool:
        """As `settle`, where that needs no waiting; False where it does, and then nothing is booked."""
        store, holds = self._limiter.store, self._holds
        if not store.settle_now(self._corrections(actual), holds[0] if holds else None, cost):
            return False
        for hold in holds[1:]:
            store.settle_now((), hold)
        self.reserved, self.uncounted, self.budgeted, self._holds = None, False, 0, ()
        return True

    def _corrections(self, actual: int) -> Sequence[Charge]:
        difference = 0 if self.reserved is None else actual - self.reserved
        return [charge.of(difference) for charge in self._costs.tokens] if difference else ()

    async def _settle(self, corrections: Sequence[Charge], holds: tuple[Hold, ...], cost: int) -> None:
        store = self._limiter.store
        if holds:
            await store.settle(corrections, holds[0], cost)
            for hold in holds[1:]:
                await store.settle((), hold)
        elif corrections:
            await store.settle(corrections)

    async def leave(self) -> None:
        """Give the place in flight back, once, whatever has happened. Reserved tokens stay taken until they are settled."""
        self._has_left = True
        if self._places and not self._held:
            store, places, self._places = self._limiter.store, self._places, ()
            if not store.settle_now(places):
                await store.settle(places)

    def standings(self) -> tuple[Standing | None, Standing | None]:
        """How the tightest limits of requests and of tokens stood when they were last looked at; None where there is none."""
        entered, last = self._entered, self._paid or self._entered
        requests = None if entered is None else entered.standing("requests")
        return requests, None if last is None else last.standing("tokens")

    def budgets(self) -> Sequence[tuple[Allowance, Account]]:
        """How the budgets stood when they were last looked at."""
        last = self._paid or self._entered
        return () if last is None else last.accounts


class Part(Grant, eq=False, kw_only=True):
    """It takes tokens and money, and neither a request nor a place: the whole has taken those."""

    whole: Grant

    async def enter(self, *, model: str, user: str = "", place: bool = True) -> None:  # noqa: ARG002 - as `Grant` has it
        """Look at the budgets: what the whole has seen of them is from before its other parts."""
        await self._take((), self._caller.purse)

    async def spoiled(self) -> None:
        pass

    def _taken(self, verdict: Verdict, hold: Hold | None, tokens: int, amount: int) -> None:
        self.whole._paid = verdict  # noqa: SLF001 - of its own kind
        super()._taken(verdict, hold, tokens, amount)


class Toll(msgspec.Struct, frozen=True, eq=False):
    """What a request takes whose answer is here already, found out once for all requests that are alike."""

    caller: Caller
    charges: Sequence[Charge]


UNLIMITED: Final = Verdict((), ())


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
