"""What a request may cost at most, and what is held of the budgets for it.

At first where it says how it is to be served: in the words of both dialects.
"""

import json

import pytest

from sentinel_gateway.api.wire.anthropic_request import read_messages
from sentinel_gateway.api.wire.openai import read_request
from sentinel_gateway.core.budgets import Account, Allowance, Budget
from sentinel_gateway.core.pricing import Price, Rates, Unpriced
from sentinel_gateway.core.routing import Route, Target
from sentinel_gateway.core.tokens import Expected
from sentinel_gateway.errors import BudgetHeld, BudgetSpent
from sentinel_gateway.pipeline.budgeting import TRIES, Costing, make_purse, refusal
from sentinel_gateway.pipeline.plan import Plan

pytestmark = pytest.mark.anyio

MTOK = 10**18
STANDARD = Price(Rates.of({"input": 0, "output": MTOK}))
DEAR = Price(Rates.of({"input": 0, "output": 3 * MTOK}))
CHEAP = Price(Rates.of({"input": 0, "output": MTOK // 2}))
PRICES = {
    "one/tiered": Price(STANDARD.rates, service_tiers={"flex": CHEAP, "priority": DEAR}),
    "one/plain": STANDARD,
    "one/unknown": Unpriced("one/unknown"),
}
BODY = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}


def held(read, *models, **fields):
    """In nano-USD, of a hundred tokens."""
    request = read(json.dumps(BODY | fields).encode(), max_depth=32)
    plan = Plan(request, Route(tuple(Target("one", model) for model in models)), "key")
    return Costing(PRICES.__getitem__, output=100).most(plan, 1000).amount(100)


@pytest.mark.parametrize("tier", [{}, {"service_tier": None}, {"service_tier": "default"}])
def test_the_usual_holds_the_usual_price(tier):
    assert held(read_request, "tiered", **tier) == 100_000


@pytest.mark.parametrize("tier", ["priority", "auto", "flex", "fast"])
def test_whoever_names_a_tier_is_held_the_dearest(tier):
    """Providers serve another than that which was asked for, if they are full."""
    assert held(read_request, "tiered", service_tier=tier) == 300_000
    assert held(read_request, "plain", "tiered", "unknown", service_tier=tier) == 300_000
    assert held(read_request, "plain", "unknown", service_tier=tier) == 100_000


@pytest.mark.parametrize(
    ("fields", "amount"),
    [
        ({}, 100_000),
        ({"service_tier": "standard_only"}, 100_000),
        ({"speed": "standard"}, 100_000),
        ({"service_tier": "auto"}, 300_000),
        ({"speed": "fast"}, 300_000),
    ],
)
def test_so_it_is_in_the_words_of_anthropic(fields, amount):
    assert held(read_messages, "tiered", **fields) == amount


def test_what_is_not_bound_buys_what_the_dearest_leaves():
    request = read_request(json.dumps(BODY | {"service_tier": "auto"}).encode(), max_depth=32)
    plan = Plan(request, Route((Target("one", "tiered"),)), "key")
    most = Costing(PRICES.__getitem__, output=100).most(plan, 1000)
    bought = most.buys(250_000)
    assert bought == 83
    assert most.amount(bought) <= 250_000 < most.amount(bought + 1)


def plan_of(**fields) -> Plan:
    body = {name: value for name, value in (BODY | fields).items() if value is not None}
    return Plan(read_request(json.dumps(body).encode(), max_depth=32), Route((Target("one", "plain"),)), "key")


@pytest.fixture
def costing():
    return Costing(PRICES.__getitem__, output=100, attempts=3)


class Spender:
    """Whose budget has `left` so much at each try; it refuses what is more than that, and the first `refusals` besides."""

    def __init__(self, *lefts: int, refusals: int = 0) -> None:
        self.lefts = list(lefts)
        self.refusals = refusals
        self.asked: list[tuple[int, int]] = []

    @property
    def left(self) -> int:
        return self.lefts[0]

    async def reserve(self, tokens: int, amount: int = 0) -> None:
        self.asked.append((tokens, amount))
        if len(self.lefts) > 1:
            self.lefts.pop(0)
        if len(self.asked) <= self.refusals or amount > self.left:
            raise BudgetSpent("no room")


async def test_what_is_bound_holds_its_bound(costing):
    spender = Spender(1_000_000)
    assert await costing.hold(plan_of(max_tokens=40), spender, Expected(7, 1000)) is None
    assert await costing.hold(plan_of(max_tokens=40), spender, Expected(7, 1000), anew=True) is None
    assert spender.asked == [(7, 40_000), (7, 120_000)]


@pytest.mark.parametrize(("left", "output", "scant"), [(1_000_000, 100, False), (30_500, 30, True), (0, 1, True)])
async def test_what_is_not_bound_is_given_the_bound_that_the_budget_buys(costing, left, output, scant):
    spender = Spender(left, max(left, 1_000))
    capped = await costing.hold(plan_of(max_tokens=None), spender, Expected(7, 1000))
    assert (capped.plan.request.token_limit, capped.plan.request.fields["max_tokens"], capped.scant) == (output, output, scant)
    assert capped.plan.key == "key"
    assert spender.asked == [(7, 1_000 * output)]


async def test_where_others_are_faster_it_asks_for_less(costing):
    spender = Spender(100_000, 50_000, 20_000)
    capped = await costing.hold(plan_of(max_tokens=None), spender, Expected(7, 1000))
    assert [amount for _, amount in spender.asked] == [100_000, 50_000, 20_000]
    assert (capped.plan.request.token_limit, capped.scant) == (20, True)


@pytest.mark.parametrize("left", [0, 100_000], ids=["nothing is left", "as much as before"])
async def test_where_it_could_not_ask_for_less_it_is_refused(costing, left):
    spender = Spender(100_000, left, refusals=1)
    with pytest.raises(BudgetSpent):
        await costing.hold(plan_of(max_tokens=None), spender, Expected(7, 1000))
    assert len(spender.asked) == 1


async def test_who_is_always_late_is_to_try_again(costing):
    spender = Spender(100_000, 50_000, 25_000, 12_000, 6_000)
    with pytest.raises(BudgetHeld, match=r"others take what is left of it. Try again shortly.") as refused:
        await costing.hold(plan_of(max_tokens=None), spender, Expected(7, 1000))
    assert (len(spender.asked), refused.value.retry_after) == (TRIES, 1.0)


def test_an_embedding_holds_its_input_alone():
    dear = Price(Rates.of({"input": MTOK, "output": 9 * MTOK}))
    costing = Costing({"one/plain": dear, "one/free": STANDARD}.__getitem__, output=100)
    plan = Plan(plan_of().request, Route((Target("one", "free"), Target("one", "plain"))), "key")
    assert costing.of_input(plan, 50) == 50_000
    assert repr(costing) == "<Costing, 100 tokens of output>"


def test_a_purse_says_how_many_budgets_it_has():
    assert repr(make_purse("t", "key_1", Budget(day=1, month=2), Budget(day=3))) == "<Purse of 3 budgets>"
    assert make_purse("t", "key_1", Budget(), Budget()) is None


USD = 10**9
ENDS = 1_800_057_600


@pytest.mark.parametrize(
    ("account", "amount", "kind", "said"),
    [
        (Account(5 * USD), USD, BudgetSpent, "Budget spent: this key may spend 5 USD a day, and has spent 5 USD. It begins"),
        (Account(USD, sure=False), USD, BudgetHeld, "Budget unsure: this key may spend 5 USD a day, and how much of it is left"),
        (Account(4 * USD), 2 * USD, BudgetSpent, "Budget too small: this request may cost 2 USD; this key may spend 5 USD a day"),
        (Account(USD, held=3 * USD), 2 * USD, BudgetHeld, "Budget held: this request may cost 2 USD; this key may spend 5 USD"),
    ],
)
def test_a_refusal_says_which_budget_it_is_and_what_helps(account, amount, kind, said):
    error = refusal(Allowance("name", "key", "day", 5 * USD, ENDS), account, amount, retry_after=2.5)
    assert type(error) is kind
    assert error.message.startswith(said)
    assert ("max_tokens" in error.message) is ("too small" in said)
    if kind is BudgetHeld:
        assert error.retry_after == 2.5
    else:
        assert error.message.endswith(
            "It begins anew at 2027-01-16T00:00:00Z; the operator can raise it with 'sentinel keys budget'."
        )
