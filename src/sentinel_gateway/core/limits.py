"""How often, how much and how many at once: limits as token buckets, in whole numbers.

A bucket is what was spent of a limit and has not come back yet. A limit of n a minute refills all the time: what is spent shrinks
by n parts a millisecond, 60,000 parts being one request or one token. Concurrency is a bucket that only giving back refills.
A bucket of which nothing is spent is the same as none, so stores forget it.

All sums are exact: they stay below 2^53 for limits up to `LARGEST` and debts of a hundred minutes, so `stores/lua/limits.lua`
comes to the same ones in floating point. Time is an argument, in milliseconds. A clock that jumps back refills nothing; the
bucket refills from there.
"""

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Final, Literal

import msgspec

from sentinel_gateway.core.budgets import Account, Allowance

Kind = Literal["requests", "tokens", "concurrency"]
"""What is limited: requests a minute, tokens a minute, requests in flight."""
Scope = Literal["key", "tenant", "user", "model"]
"""Whose limit it is. A user is an end user of one key; a model's limit counts for each tenant apart."""
State = tuple[int, int, int]
"""What was spent of a bucket, in parts; when that was so, in milliseconds; the parts that come back each millisecond."""

UNIT: Final = 60_000
"""Parts of one request or token: as many as a minute has milliseconds."""
LARGEST: Final = 1_000_000_000
"""No limit may be larger."""
DEEPEST: Final = 100
"""So many times the whole limit may be owed, and no more, whatever a provider says that something has cost."""


class Limits(msgspec.Struct, frozen=True):
    """What somebody may use; None: as much as they like."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None

    def or_else(self, defaults: "Limits") -> "Limits":
        """These, and the defaults where they say nothing."""
        return Limits(
            defaults.requests_per_minute if self.requests_per_minute is None else self.requests_per_minute,
            defaults.tokens_per_minute if self.tokens_per_minute is None else self.tokens_per_minute,
            defaults.concurrency if self.concurrency is None else self.concurrency,
        )


NO_LIMITS: Final = Limits()


class Charge(msgspec.Struct, frozen=True):
    """So much to be taken from a bucket; made by `charge`. `rate` is what comes back each millisecond, in parts like the rest.

    An amount of 0 only looks and is never refused. A store that bounds how many buckets it holds may take from `spill` instead,
    a bucket that several share.
    """

    bucket: str
    kind: Kind
    scope: Scope
    limit: int
    amount: int
    spill: str
    rate: int
    capacity: int
    cost: int

    @property
    def hopeless(self) -> bool:
        """Is it more than the whole limit?"""
        return self.cost > self.capacity

    def of(self, amount: int, *, within: int = 1) -> "Charge":
        """Another amount from the same bucket; below 0 gives back. It must fit one part of `within` of the limit."""
        cost, capacity = amount * UNIT, self.capacity // within
        return Charge(self.bucket, self.kind, self.scope, self.limit, amount, self.spill, self.rate, capacity, cost)


def charge(bucket: str, kind: Kind, scope: Scope, *, limit: int, amount: int, spill: str = "") -> Charge:
    rate = 0 if kind == "concurrency" else limit
    return Charge(bucket, kind, scope, limit, amount, spill, rate, limit * UNIT, amount * UNIT)


def share(charge: Charge, nodes: int) -> Charge:
    """The charge as one of so many nodes judges it that don't know of each other, so that all together keep to the limit.

    Each counts what it lets through as if all had. What fits the whole limit still fits, where nothing else was spent: a limit
    that is too small to be divided must not become none at all. So each node may let one such request through at once, all
    together `nodes` of them instead of the limit; each then waits the longer, so that over time all keep to it. Of places in
    flight every node has one.
    """
    if not charge.rate:
        return msgspec.structs.replace(charge, capacity=max(charge.limit // nodes, 1) * UNIT)
    if charge.hopeless:
        return charge
    cost = charge.cost * nodes
    return msgspec.structs.replace(charge, cost=cost, capacity=max(charge.capacity, cost))


class Standing(msgspec.Struct, frozen=True):
    """How a limit stands: how many are left of it, and the milliseconds until it is whole again."""

    limit: int
    remaining: int
    reset: int


class Verdict(msgspec.Struct, frozen=True):
    """What came of a take: `spent` of each charge's bucket, in parts, as it is now, and how the `accounts` of a hold stand.

    `refused` is the charge that did not fit, of several the one with the longest wait, else the budget; then nothing was taken.
    `retry_after` is in seconds; None where time alone does not help: somebody must give back first, or the charge is more than
    the whole limit.
    """

    charges: Sequence[Charge]
    spent: Sequence[int]
    refused: Charge | Allowance | None = None
    retry_after: float | None = None
    accounts: Sequence[tuple[Allowance, Account]] = ()

    def account(self, allowance: Allowance) -> Account:
        """How the account of one of the hold's allowances stands."""
        return next(account for one, account in self.accounts if one is allowance)

    def standings(self) -> "tuple[Standing | None, Standing | None]":
        """Of the buckets of requests, the one of which least is left; and of those of tokens."""
        return self.standing("requests"), self.standing("tokens")

    def standing(self, kind: Kind) -> "Standing | None":
        """Of the buckets of a kind, the one of which least is left."""
        tightest: Charge | None = None
        least = at = 0
        for charge in self.charges:
            if charge.kind == kind:
                left = charge.capacity - self.spent[at]
                if tightest is None or left < least:
                    tightest, least = charge, left
            at += 1  # noqa: SIM113 - told with answers from memory, where `enumerate` costs as much as a bucket
        if tightest is None:
            return None
        spent, rate = tightest.capacity - least, tightest.rate
        return Standing(tightest.limit, least // UNIT if least > 0 else 0, -(-spent // rate) if spent and rate else 0)

    def later(self, elapsed: int) -> "Verdict":
        """What would come of it so many milliseconds later, if nobody took anything meanwhile."""
        states = {charge.bucket: (spent, 0, charge.rate) for charge, spent in zip(self.charges, self.spent, strict=True)}
        return judge(self.charges, states.get, elapsed)


def refilled(state: State, now: int) -> int:
    """What is still spent of a bucket."""
    spent, at, rate = state
    if rate and now > at:
        spent -= rate * (now - at)
        return spent if spent > 0 else 0  # noqa: FURB136 - max() costs as much as all the rest
    return spent


def judge(charges: Sequence[Charge], find: Callable[[str], State | None], now: int) -> Verdict:
    """May all of this be taken from the buckets that `find` knows the states of? All or nothing."""
    spent = []
    fits = True
    for charge in charges:
        total = charge.cost
        state = find(charge.bucket)
        if state is not None:
            before, at, rate = state  # as `refilled`, whose call would cost as much as all the rest
            if now > at:
                before -= rate * (now - at)
            if before > 0:
                total += before
        if total > charge.capacity and charge.cost:
            fits = False
        spent.append(total)
    return Verdict(charges, spent) if fits else _refusal(charges, spent)


def settled(correction: Charge, state: State | None, now: int) -> int:
    """What is spent of a bucket once it is known what something has come to."""
    spent = correction.cost if state is None else refilled(state, now) + correction.cost
    return min(max(spent, 0), DEEPEST * correction.capacity)


def _refusal(charges: Sequence[Charge], wanted: Sequence[int]) -> Verdict:
    over = [(total - charge.capacity, charge) for charge, total in zip(charges, wanted, strict=True) if charge.cost]
    over = [(excess, charge) for excess, charge in over if excess > 0]
    spent = [total - charge.cost for charge, total in zip(charges, wanted, strict=True)]
    for _, charge in over:
        if charge.hopeless:
            return Verdict(charges, spent, charge)
    waits = [(-(-excess // charge.rate), charge) for excess, charge in over if charge.rate]
    if not waits:
        return Verdict(charges, spent, over[0][1])
    wait, longest = max(waits, key=itemgetter(0))
    return Verdict(charges, spent, longest, wait / 1000)
