"""How budgets stand, for whoever looks at all of them."""

from dataclasses import dataclass

from sentinel_gateway.core.access import GUEST, Key
from sentinel_gateway.core.budgets import Account, Budget, window
from sentinel_gateway.pipeline.allowances import uses
from sentinel_gateway.pipeline.budgeting import BudgetRules
from sentinel_gateway.pipeline.callers import tag_of

NOW = 1_800_000_000.0
DAY, ENDS = window("day", NOW)


@dataclass
class Part:
    """Of an account in which something was spent, or only held."""

    settled: int
    ends: int = ENDS

    def account(self, now: int) -> Account:
        return Account(self.settled, held=1)


@dataclass
class Party:
    """A key that counts who looks at its budget."""

    id: str
    looked: list[str]
    name: str = "a program"
    tenant: str = ""

    @property
    def budget(self) -> Budget:
        self.looked.append(self.id)
        return Budget(day=10)


@dataclass
class Holder:
    party: Party | Key


def test_of_ten_thousand_keys_those_that_spent_nothing_are_not_looked_at():
    looked: list[str] = []
    holders = [Holder(Party(f"key_{number}", looked)) for number in range(10_000)]
    parts = [(f"{{t}}:budget:key:key_{number}:{DAY}", Part(settled)) for number, settled in ((7, 5), (8, 0))]
    spent = [(one.owner, one.settled) for one in uses(parts, holders, BudgetRules(), NOW, spent=True)]
    assert spent == [("key_7", 5)]
    assert looked == ["key_7", "key_8"]
    assert len(list(uses(parts, holders, BudgetRules(), NOW))) == 10_000


def test_a_tenant_s_budget_is_told_beside_those_of_its_keys():
    acme, tag = [], tag_of("acme")
    rules = BudgetRules(tenants={"acme": Budget(day=100, month=3_000), "other": Budget(day=7)})
    parts = [(f"{tag}:budget:tenant:{DAY}", Part(5)), (f"{tag}:budget:key:key_1:{DAY}", Part(4))]
    holders = [Holder(Party("key_1", acme, tenant="acme"))]
    told = [(one.scope, one.owner, one.span, one.limit, one.settled, one.held) for one in uses(parts, holders, rules, NOW)]
    assert told == [
        ("key", "key_1", "day", 10, 4, 1),
        ("tenant", "acme", "day", 100, 5, 1),
        ("tenant", "acme", "month", 3_000, 0, 0),
        ("tenant", "other", "day", 7, 0, 0),
    ]
    assert [one.owner for one in uses(parts, holders, rules, NOW, spent=True)] == ["key_1", "acme"]


def test_what_a_window_that_is_over_has_seen_is_not_told():
    parts = [(f"{{t}}:budget:key:key_1:{DAY}", Part(5, ends=int(NOW)))]
    (told,) = uses(parts, [Holder(Party("key_1", []))], BudgetRules(), NOW)
    assert (told.settled, told.held) == (0, 0)


def test_who_needs_no_key_is_told_of_once_seen():
    rules, parts = BudgetRules(keys=Budget(day=10)), [(f"{{t}}:budget:key:{GUEST.id}:{DAY}", Part(5))]
    assert [(one.owner, one.label, one.limit, one.settled) for one in uses(parts, [], rules, NOW)] == [
        (GUEST.id, GUEST.name, 10, 5)
    ]
    assert list(uses([], [], rules, NOW)) == []
