"""What a node takes for lost, and what it counts on: without a server."""

import pytest

from sentinel_gateway.core.budgets import CALM, Allowance, Hold, Wish
from sentinel_gateway.stores._shared_accounts import SharedAccounts, Told
from tests.fakes import START, FakeClock

KNOWN, DRAWN = (Wish.__struct_fields__.index(name) for name in ("known", "drawn"))


def budget(amount, name="day"):
    return Hold((Allowance(f"{{t}}:{name}", "key", "day", 100, int(START) + 40_000),), amount)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def accounts(clock):
    return SharedAccounts(clock)


def takes_for_lost(accounts, name="day"):
    """Does it, where Redis has no such account?"""
    [row] = accounts.ask(budget(0, name), nodes=2).rows
    return bool(row[KNOWN])


def test_an_account_that_nobody_has_seen_is_new(accounts):
    assert not takes_for_lost(accounts)


def test_one_that_this_node_has_seen_is_not(accounts):
    asked = accounts.ask(budget(5), nodes=2)
    accounts.granted(asked, [Told(fits=True, settled=0, drawn=0, own=20, tight=False)], taken=True)
    assert takes_for_lost(accounts)
    assert not takes_for_lost(accounts, "month")


def test_after_a_failure_nothing_is_new_until_it_is_known_that_nothing_was_lost(accounts, clock):
    accounts.apart(accounts.ask(budget(5), nodes=2))
    assert accounts.suspicious
    assert takes_for_lost(accounts, "month")
    accounts.trust()
    assert not takes_for_lost(accounts, "month")
    accounts.suspect()
    accounts.doubt()
    accounts.trust()
    assert takes_for_lost(accounts, "month"), "it was lost: others have yet to tell"
    clock.now += CALM / 1000 + 1
    assert not takes_for_lost(accounts, "month")


def test_apart_a_node_holds_what_it_has_drawn_and_no_more(accounts):
    asked = accounts.ask(budget(5), nodes=2)
    accounts.granted(asked, [Told(fits=True, settled=10, drawn=30, own=20, tight=False)], taken=True)
    assert accounts.apart(accounts.ask(budget(15), nodes=2))[1] is None
    standing, refused = accounts.apart(accounts.ask(budget(1), nodes=2))
    assert refused is not None
    assert [(account.settled, account.held, account.sure) for _, account in standing] == [(10, 40, False)]


def test_it_counts_on_less_before_it_says_so_and_on_more_by_the_last_answer_alone(accounts):
    first = accounts.ask(budget(5), nodes=2)
    second = accounts.ask(budget(5), nodes=2)
    accounts.granted(first, [Told(fits=True, settled=0, drawn=0, own=28, tight=False)], taken=True)
    assert accounts.apart(accounts.ask(budget(1), nodes=2))[1] is not None, "the second may have lowered it since"
    accounts.granted(second, [Told(fits=True, settled=0, drawn=0, own=32, tight=False)], taken=True)
    third = accounts.ask(budget(5), nodes=2)
    accounts.granted(third, [Told(fits=True, settled=0, drawn=60, own=40, tight=True)], taken=True)
    [row] = accounts.ask(budget(5), nodes=2).rows
    assert row[DRAWN] == 20, "others need what it has drawn ahead: it counts on it no more from now on"


@pytest.mark.parametrize("meanwhile", [False, True])
def test_what_could_not_be_told_while_the_account_was_told_is_told_again(accounts, meanwhile):
    answer = Told(fits=True, settled=0, drawn=0, own=5, tight=False)
    accounts.granted(accounts.ask(budget(5), nodes=2), [answer], taken=True)
    own = accounts.table.of(budget(5).allowances[0])
    row = accounts.tell(own, nodes=0)
    if meanwhile:
        accounts.lost(accounts.settle(budget(5), 5, nodes=0))
    accounts.heard("{t}:day", row, answer)
    assert ("{t}:day" in accounts.untold) is meanwhile
    accounts.heard("{t}:day", accounts.tell(own, nodes=0), answer)
    assert not accounts.untold
