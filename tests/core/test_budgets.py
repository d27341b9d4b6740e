"""The rules of budgets: windows, what fits, and that parts of an account are together never more than it."""

from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sentinel_gateway.core.budgets import (
    CALM,
    LEASE,
    NO_BUDGET,
    Account,
    Allowance,
    Budget,
    BudgetUse,
    Part,
    Shared,
    Wish,
    beyond,
    describe,
    draw,
    faults,
    fits,
    nano,
    window,
)
from sentinel_gateway.core.pricing import NANO_PER_USD


@pytest.mark.parametrize(
    ("moment", "day", "month"),
    [
        ("2026-11-22T00:00:00", ("2026-11-22", "2026-11-23"), ("2026-11", "2026-12-01")),
        ("2026-12-31T23:59:59", ("2026-12-31", "2027-01-01"), ("2026-12", "2027-01-01")),
        ("2028-02-29T12:00:00", ("2028-02-29", "2028-03-01"), ("2028-02", "2028-03-01")),
    ],
)
def test_windows_are_those_of_the_calendar_in_utc(moment, day, month):
    now = datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()
    for span, (name, end) in (("day", day), ("month", month)):
        assert window(span, now) == (name, int(datetime.fromisoformat(end).replace(tzinfo=UTC).timestamp()))


@given(st.floats(0, 4e9))
def test_a_day_is_called_as_the_calendar_calls_it(now):
    moment = datetime.fromtimestamp(now, UTC)
    assert window("day", now)[0] == f"{moment:%Y-%m-%d}"
    name, ends = window("month", now)
    assert name == f"{moment:%Y-%m}"
    end = datetime.fromtimestamp(ends, UTC)
    assert (end.day, end.hour, end.minute, end.second) == (1, 0, 0, 0)
    assert (end.year * 12 + end.month) - (moment.year * 12 + moment.month) == 1


@given(st.floats(0, 4e9))
def test_a_moment_lies_before_the_end_of_its_window_and_the_end_in_the_next(now):
    for span in ("day", "month"):
        name, ends = window(span, now)
        assert now < ends
        following, later = window(span, ends)
        assert (following > name, later > ends) == (True, True)


@pytest.mark.parametrize(
    ("settled", "held", "amount", "expected"),
    [
        (0, 0, 10, True),
        (0, 0, 11, False),
        (4, 6, 0, True),
        (4, 6, 1, False),
        (10, 0, 0, False),
        (12, 0, 1, False),
        (9, 50, 0, True),
    ],
)
def test_what_fits_into_ten(settled, held, amount, expected):
    """What costs nothing is refused only where all is settled: what is held may come to less."""
    assert fits(Account(settled, held + amount), 10, amount) is expected


def test_amounts_are_exact_and_those_that_are_none_are_refused():
    assert (nano(Decimal("0.000000001")), nano(Decimal(5)), nano(Decimal("1e6"))) == (1, 5 * NANO_PER_USD, 10**15)
    for wrong in ("0.0000000001", "NaN", "Infinity", "1e500000", "-1e999999999"):
        with pytest.raises(ValueError, match="at most 9 decimals"):
            nano(Decimal(wrong))
    assert describe(Budget(nano(Decimal("0.1")))) == {"day": "0.1", "month": None}


def test_a_budget_is_more_than_nothing_and_no_more_than_a_million():
    assert faults(Budget(1, 10**15)) == []
    assert [span for span, _ in faults(Budget(0, 10**15 + 1))] == ["day", "month"]


def test_a_budget_says_what_it_says_and_else_the_default_holds():
    assert Budget(day=1).or_else(Budget(5, 9)) == Budget(1, 9)
    assert beyond(Budget(6, 9), Budget(5, 9)) == ["day"]
    assert beyond(NO_BUDGET, Budget(month=9)) == ["month"]
    assert Account(settled=3, held=4).left(Allowance("a", "key", "day", 10, 0)) == 3


LIMIT = 100
NODES = ("a", "b", "c")


class Node:
    """What one node knows: as `stores/_shared_accounts.py` keeps it."""

    def __init__(self):
        self.settled = self.turn = self.drawn = self.others = 0
        self.holds = []

    @property
    def wanted(self):
        return self.settled + sum(self.holds)


class Nodes(RuleBasedStateMachine):
    """Three nodes and a store that may answer, lose an answer, be told late, be away or be lost.

    Every hold comes to no more than it was. Then all that is settled and held is never more than the limit.
    """

    @initialize()
    def begin(self):
        self.nodes = {name: Node() for name in NODES}
        self.parts, self.calm, self.tight, self.now, self.late = {}, 0, 0, 1_000_000, []

    def wish(self, node, cost, *, ahead=True):
        node.turn += 1
        room = LIMIT - node.others - node.wanted
        node.drawn = min(node.drawn, node.wanted + (room // (2 * len(NODES)) if ahead and room > 0 else 0))
        return Wish(
            LIMIT, cost, node.turn, node.settled, node.wanted, node.drawn, len(NODES) if ahead else 0, known=node.turn > 1
        )

    def carry_out(self, name, wish, *, settling):
        found = draw(Shared(self.parts, self.calm, self.tight), name, wish, now=self.now, settling=settling)
        self.calm, self.tight, self.now = found.calm, found.tight, self.now + 500
        self.parts[name] = found.after if found.fits or settling else found.part
        return found

    def answer(self, node, wish, found):
        node.others = found.drawn
        if wish.turn == node.turn:
            node.drawn = (found.after if found.fits else found.part).drawn

    @rule(
        name=st.sampled_from(NODES),
        cost=st.integers(1, 40),
        fate=st.sampled_from(["answered", "answered", "unheard", "late", "away"]),
    )
    def take(self, name, cost, fate):
        node = self.nodes[name]
        node.holds.append(cost)
        wish = self.wish(node, cost)
        if fate == "late":
            self.late.append((name, wish, False))
        found = None if fate in {"late", "away"} else self.carry_out(name, wish, settling=False)
        if fate == "answered":
            self.answer(node, wish, found)
            if not found.fits:
                node.holds.pop()
        elif node.wanted > node.drawn:  # apart
            node.holds.pop()

    @precondition(lambda self: any(node.holds for node in self.nodes.values()))
    @rule(data=st.data(), answered=st.booleans())
    def settle(self, data, answered):
        name = data.draw(st.sampled_from([name for name in NODES if self.nodes[name].holds]))
        node = self.nodes[name]
        node.settled += data.draw(st.integers(0, node.holds.pop()))
        wish = self.wish(node, 0)
        if answered:
            self.answer(node, wish, self.carry_out(name, wish, settling=True))
        else:
            self.late.append((name, wish, True))

    @rule(name=st.sampled_from(NODES), ahead=st.booleans())
    def tell(self, name, ahead):
        node = self.nodes[name]
        wish = self.wish(node, 0, ahead=ahead)
        self.answer(node, wish, self.carry_out(name, wish, settling=True))

    @precondition(lambda self: self.late)
    @rule(data=st.data())
    def what_was_sent_comes_late(self, data):
        name, wish, settling = self.late.pop(data.draw(st.integers(0, len(self.late) - 1)))
        self.carry_out(name, wish, settling=settling)

    @rule()
    def all_is_lost(self):
        """Whoever lives tells its part again before anybody draws more: within `CALM`, as the stores do."""
        self.parts, self.late = {}, []
        for name in NODES:
            self.tell(name, ahead=False)
        self.now += CALM + 1

    @invariant()
    def it_is_never_more_than_the_limit(self):
        assert sum(node.wanted for node in self.nodes.values()) <= LIMIT

    @invariant()
    def what_a_node_counts_on_the_store_knows(self):
        for name, node in self.nodes.items():
            if name in self.parts:
                assert node.drawn <= self.parts[name].drawn


@pytest.mark.hypothesis
@pytest.mark.parametrize(("runs", "steps"), [(150, 40), pytest.param(1000, 100, marks=pytest.mark.long)])
def test_nodes_in_any_order(runs, steps):
    run_state_machine_as_test(Nodes, settings=settings(max_examples=runs, stateful_step_count=steps, deadline=None))


def test_a_node_that_is_heard_of_no_more_holds_nothing_and_has_spent_what_it_has():
    parts = {"dead": Part(3, settled=40, drawn=100, seen=1_000)}
    wish = Wish(100, 60, 1, 0, 60, 0, 2)
    assert not draw(Shared(parts), "b", wish, now=1_000 + LEASE - 1).fits
    found = draw(Shared(parts), "b", wish, now=1_000 + LEASE)
    assert (found.fits, found.settled, found.drawn) == (True, 40, 40)


def test_what_was_told_before_a_refusal_and_comes_after_it_takes_nothing_back():
    """The node that was refused goes on with what the refusal said is drawn; others must not draw that meanwhile."""
    parts = {"a": Part(1, drawn=13, seen=1_000), "b": Part(1, drawn=87, seen=1_000)}
    before, refused = (Wish(100, 0, 2, 0, 0, 12, 3), Wish(100, 16, 3, 0, 16, 12, 3))
    found = draw(Shared(parts), "a", refused, now=1_000)
    assert (found.fits, found.part) == (False, Part(3, drawn=13, seen=1_000))
    late = draw(Shared(parts | {"a": found.part}), "a", before, now=2_000, settling=True)
    assert late.after.drawn == 13


def test_what_is_left_of_a_budget_is_never_less_than_nothing():
    use = BudgetUse("key", "key_1", "app", "acme", "day", limit=100, settled=60, held=30, ends=1)
    assert (use.name, use.left) == ("key key_1", 10)
    assert msgspec.structs.replace(use, settled=90).left == 0


def test_in_a_calm_nobody_draws_more_than_it_has():
    wish = Wish(100, 10, 1, 20, 40, 35, 2, known=True)
    found = draw(Shared(), "a", wish, now=5_000)
    assert (found.fits, found.calm) == (False, 5_000 + CALM)
    within = Wish(100, 10, 1, 20, 35, 35, 2, known=True)
    assert draw(Shared(), "a", within, now=5_000).after == Part(1, 20, 35, 5_000)
    assert draw(Shared(), "a", Wish(100, 10, 1, 0, 10, 0, 2), now=5_000).fits, "nobody has known it before"


def test_what_costs_nothing_fits_until_all_is_settled():
    for other, has_room in ((39, True), (40, False)):
        parts = {"a": Part(1, 60, 60, 5_000), "b": Part(1, other, 90, 5_000)}
        found = draw(Shared(parts), "a", Wish(100, 0, 2, 60, 60, 60, 2), now=5_000)
        assert (found.fits, found.part, found.after) == (has_room, Part(2, 60, 60, 5_000), Part(2, 60, 60, 5_000))


def test_a_lowered_limit_holds_for_what_was_drawn_already():
    parts = {"a": Part(1, 20, 60, 5_000)}
    assert draw(Shared(parts), "a", Wish(100, 10, 2, 20, 50, 60, 1), now=5_000).fits
    assert not draw(Shared(parts), "a", Wish(45, 10, 2, 20, 50, 60, 1), now=5_000).fits
