"""How budgets stand: what each key and tenant that has one has spent of it, and what is held, in the window under way."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final, Protocol

from sentinel_gateway.core.access import GUEST, Caller
from sentinel_gateway.core.budgets import NOTHING, Account, BudgetUse, Span, Whose, window
from sentinel_gateway.pipeline.budgeting import BudgetRules, owner_of
from sentinel_gateway.pipeline.callers import tag_of

MILLIS: Final = 1000


class Part(Protocol):
    """What a node knows of an account. `ends` in Unix seconds."""

    ends: int

    def account(self, now: int) -> Account:
        """`now` in milliseconds."""
        ...


def uses(
    parts: Iterable[tuple[str, Part]], holders: Iterable[Caller], rules: BudgetRules, now: float, *, spent: bool = False
) -> Iterator[BudgetUse]:
    """Of each budget that there is; or only of those in which anything was `spent`. Who needs no key is among them once seen."""
    known = {owner_of(name): part.account(int(now * MILLIS)) for name, part in parts if part.ends > now}
    ends: dict[Span, int] = {"day": window("day", now)[1], "month": window("month", now)[1]}
    guests = [GUEST] if any(owner == GUEST.id for _, owner, _ in known) else []

    def use(scope: Whose, owner: str, span: Span, limit: int, who: tuple[str, str, str]) -> Iterator[BudgetUse]:
        account = known.get((scope, owner, span), NOTHING)
        if account.settled or not spent:
            yield BudgetUse(scope, *who, span, limit, account.settled, account.held, ends[span])

    spenders = {owner for scope, owner, _ in known if scope == "key"}
    for party in chain(guests, (holder.party for holder in holders)):
        if spent and party.id not in spenders:  # nearly all are not, where there are a hundred thousand keys
            continue
        for span, limit in party.budget.or_else(rules.keys).spans():
            yield from use("key", party.id, span, limit, (party.id, party.name, party.tenant))
    for tenant, budget in rules.tenants.items():
        for span, limit in budget.spans():
            yield from use("tenant", tag_of(tenant), span, limit, (tenant, "", tenant))
