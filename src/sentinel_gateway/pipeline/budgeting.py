"""Budgets on the path: which concern a caller now, what a request may cost at most, and what is said where it does not fit.

The most that a request may cost is its input, which no tokenizer makes more tokens of than its UTF-8 has bytes, and the output
that it allows; of all targets that may be asked, at the dearest. A request that names no bound to its output is given one, which
goes to the provider and into no key: as much as the model makes, or as the budget buys if that is less.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from typing import Final, Protocol

import msgspec
from msgspec.structs import replace

from sentinel_gateway.core.budgets import NO_BUDGET, Account, Allowance, Budget, Hold, Span, Whose, window
from sentinel_gateway.core.chat import ChatRequest, tier_of
from sentinel_gateway.core.pricing import Pricing, affordable, at_any_tier, bound, usd
from sentinel_gateway.core.tokens import Expected, encoding_of
from sentinel_gateway.errors import BudgetHeld, BudgetSpent
from sentinel_gateway.pipeline.plan import Plan

TRIES: Final = 3
"""So often a request whose output is not bound asks for less, where others were faster."""
_WHOSE: Final[Mapping[Whose, str]] = {"key": "this key", "tenant": "this tenant"}
_RAISE: Final[Mapping[Whose, str]] = {
    "key": "the operator can raise it with 'sentinel keys budget'",
    "tenant": "the operator can raise it in the configuration, under 'tenants'",
}


class BudgetRules(msgspec.Struct, frozen=True):
    """Budgets by configuration: a key's where it has none of its own, and tenants' by name."""

    keys: Budget = NO_BUDGET
    tenants: Mapping[str, Budget] = {}


class Purse:
    """The budgets that concern a caller: its key's and its tenant's, each by the day and by the month."""

    __slots__ = ("_budgets", "_look", "_until")

    def __init__(self, budgets: list[tuple[str, Whose, Span, int]]) -> None:
        self._budgets = budgets
        self._until = 0
        self._look = Hold(())

    def __repr__(self) -> str:
        return f"<Purse of {len(self._budgets)} budgets>"

    def look(self, now: float) -> Hold:
        """Nothing of each of them, as they are now. `now` in Unix seconds."""
        if now >= self._until:
            windows = [(name, scope, span, limit, *window(span, now)) for name, scope, span, limit in self._budgets]
            allowances = [
                Allowance(f"{name}:{called}", scope, span, limit, ends) for name, scope, span, limit, called, ends in windows
            ]
            self._look = Hold(tuple(allowances))
            self._until = min(allowance.ends for allowance in allowances)
        return self._look

    def hold(self, now: float, amount: int) -> Hold:
        """So much of each of them."""
        return Hold(self.look(now).allowances, amount)


def make_purse(tag: str, key: str, own: Budget, shared: Budget) -> Purse | None:
    """Of a key's own budget, and of its tenant's; None where there is neither. `tag` is how a tenant's accounts begin."""
    owners: list[tuple[str, Whose, Budget]] = [
        (f"{tag}:budget:key:{key}", "key", own),
        (f"{tag}:budget:tenant", "tenant", shared),
    ]
    budgets = [(name, scope, span, limit) for name, scope, budget in owners for span, limit in budget.spans()]
    return Purse(budgets) if budgets else None


def owner_of(account: str) -> tuple[Whose, str, Span]:
    """Whose account it is, and of what: a key by its id, a tenant by its tag."""
    tag, _, scope, *rest = account.split(":")
    span: Span = "month" if rest[-1].count("-") == 1 else "day"
    return ("key", rest[0], span) if scope == "key" else ("tenant", tag, span)


class Spender(Protocol):
    """A request that has budgets; `limiting.Grant` is one."""

    @property
    def left(self) -> int:
        """What was left of the tightest when they were last looked at, in nano-USD."""
        ...

    async def reserve(self, tokens: int, amount: int = 0) -> None:
        """Raises `BudgetSpent`."""
        ...


class Capped(msgspec.Struct, frozen=True):
    """A plan with a bound to its output that the request does not set; `scant`: the model would make more."""

    plan: Plan
    scant: bool


class Most(msgspec.Struct, frozen=True):
    """What a request may cost at most: its tokens of input, its answers, and what the targets take. `output` tokens an answer."""

    input: int
    choices: int
    prices: tuple[Pricing, ...]
    output: int
    attempts: int = 1

    def amount(self, output: int) -> int:
        """In nano-USD, with so many tokens an answer."""
        return self.attempts * max([bound(price, self.input, output * self.choices) for price in self.prices])

    def buys(self, left: int) -> int:
        """Tokens an answer, at most as many as the model makes, that so many nano-USD buy; 0 if they don't do for the input."""
        bought = [affordable(price, self.input, left // self.attempts) for price in self.prices]
        return min([self.output, *(tokens // self.choices for tokens in bought if tokens is not None)])


class Costing:
    """What plans may cost at most. `price` is what a target (`provider/model`) takes now.

    `outputs` are the most tokens that targets make of one answer, as far as that is known; `output` stands for all others. Where
    answers are begun anew, or asked for twice, so many `attempts` are paid at most.
    """

    def __init__(
        self,
        price: Callable[[str], Pricing],
        *,
        output: int,
        outputs: Mapping[str, int] | None = None,
        attempts: int = 1,
    ) -> None:
        self._attempts = attempts
        self._price = price
        self._output = output
        self._outputs = outputs or {}

    def __repr__(self) -> str:
        return f"<Costing, {self._output} tokens of output>"

    def most(self, plan: Plan, ceiling: int, attempts: int = 1) -> Most:
        """What a plan with so many tokens of input at most may cost, with so many attempts."""
        names, request = plan.route.names, plan.request
        output = request.token_limit or min([self._outputs.get(name, self._output) for name in names])
        prices = tuple(map(self._price, names))
        if _chooses_tier(request):
            prices = tuple(chain.from_iterable(map(at_any_tier, prices)))
        return Most(ceiling, request.choices, prices, output, attempts)

    def of_input(self, plan: Plan, tokens: int) -> int:
        """What so many tokens of input may cost at most, where nothing but vectors comes back."""
        return Most(tokens, 1, tuple(map(self._price, plan.route.names)), 0).amount(0)

    def amount(self, plan: Plan, ceiling: int, *, anew: bool = False) -> int | None:
        """What a plan with so many tokens of input at most may cost; None where the request sets no bound to its output."""
        if plan.request.token_limit is None:
            return None
        most = self.most(plan, ceiling, self._attempts if anew else 1)
        return most.amount(most.output)

    async def hold(self, plan: Plan, spender: Spender, expected: Expected, *, anew: bool = False) -> Capped | None:
        """Take the expected tokens, and hold what the answer may cost; where the request sets it no bound, what the budget buys.

        Then this is what the provider is to be asked instead. Where others take from the budget first, it is asked for less.
        `anew`: an answer that breaks off is begun anew, or another target is asked beside.
        """
        if (amount := self.amount(plan, expected.ceiling, anew=anew)) is not None:
            await spender.reserve(expected.tokens, amount)
            return None
        most = self.most(plan, expected.ceiling, self._attempts if anew else 1)
        output = most.buys(spender.left) or 1
        for _ in range(TRIES):
            try:
                await spender.reserve(expected.tokens, most.amount(output))
            except BudgetSpent:
                fewer = most.buys(spender.left)
                if not 0 < fewer < output:
                    raise
                output = fewer
            else:
                return Capped(_capped(plan, output), output < most.output)
        raise BudgetHeld("Budget held: others take what is left of it. Try again shortly.", retry_after=1.0)


def _chooses_tier(request: ChatRequest) -> bool:
    """Does it ask to be served otherwise than as usual, or leave that to the provider (`auto`)?"""
    if tier_of(request.fields.get("service_tier")):
        return True
    own = None if request.native is None else request.native.body
    return own is not None and bool(tier_of(own.get("service_tier")) or tier_of(own.get("speed")))


def _capped(plan: Plan, output: int) -> Plan:
    """The same with a bound to each answer, as the first of its targets calls it; under the same key."""
    name = "max_tokens" if encoding_of(plan.route.targets[0].model) is None else "max_completion_tokens"
    request = plan.request
    kept = {field: value for field, value in request.fields.items() if field not in {"max_tokens", "max_completion_tokens"}}
    return replace(plan, request=replace(request, fields={**kept, name: output}, token_limit=output))


def refusal(allowance: Allowance, account: Account, amount: int, *, retry_after: float) -> BudgetSpent:
    """What is said of a budget that has no room for so much. `retry_after` is told where trying again may help."""
    whose, limit = _WHOSE[allowance.scope], allowance.limit
    ends = datetime.fromtimestamp(allowance.ends, UTC)
    budget = f"{whose} may spend {usd(limit)} USD a {allowance.span}"
    otherwise = f"It begins anew at {ends:%Y-%m-%dT%H:%M:%SZ}; {_RAISE[allowance.scope]}."
    later = partial(BudgetHeld, retry_after=retry_after)
    if account.settled >= limit:
        return BudgetSpent(f"Budget spent: {budget}, and has spent {usd(account.settled)} USD. {otherwise}")
    if not account.sure:
        return later(f"Budget unsure: {budget}, and how much of it is left can't be known now. Try again shortly.")
    left = f"of which {usd(limit - account.settled)} are left"
    if account.settled + amount > limit:
        fix = "Ask for less with 'max_tokens'."
        return BudgetSpent(f"Budget too small: this request may cost {usd(amount)} USD; {budget}, {left}. {fix} {otherwise}")
    held = f"{usd(account.held)} of them are held for requests in flight"
    return later(
        f"Budget held: this request may cost {usd(amount)} USD; {budget}, {left}; {held}. Try again when some have ended."
    )
