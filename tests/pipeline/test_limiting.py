"""What one request takes from the limits, and that it gives back what it must."""

import asyncio

import msgspec
import pytest

from sentinel_gateway.core.budgets import Budget
from sentinel_gateway.core.limits import Limits
from sentinel_gateway.errors import BudgetSpent, ConcurrencyLimited, NeverFits, RateLimited, RequestsLimited, TokensLimited
from sentinel_gateway.pipeline import limiting
from sentinel_gateway.pipeline.budgeting import BudgetRules
from sentinel_gateway.pipeline.callers import LimitRules
from sentinel_gateway.pipeline.limiting import Limiter
from sentinel_gateway.stores.memory_limits import MemoryLimits
from tests.fakes import FakeClock

pytestmark = pytest.mark.anyio


class Key(msgspec.Struct, frozen=True):
    id: str = "key_1"
    tenant: str = "acme"
    limits: Limits = Limits()
    user_limits: Limits = Limits()
    budget: Budget = Budget()


class CountingStore(MemoryLimits):
    """The real store, and how often it was asked to take."""

    takes = 0

    def take_now(self, charges, now, hold=None):
        self.takes += 1
        return super().take_now(charges, now, hold)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def store(clock):
    return CountingStore(clock=clock)


@pytest.fixture
def limiter(store, clock):
    def build(**rules):
        return Limiter(store, rules=LimitRules(**rules), clock=clock, chance=lambda: 0.5)

    return build


async def ask(limiter, key, model="m", user=""):
    grant = limiter.grant(key)
    grant.check()
    await grant.enter(model=model, user=user)
    return grant


async def refusal(limiter, key, model="m", user=""):
    with pytest.raises(RateLimited) as caught:
        await ask(limiter, key, model, user)
    return caught.value


def test_who_is_not_limited_takes_no_share(limiter):
    assert limiter().grant(Key()) is None


@pytest.mark.parametrize(
    ("key", "rules"),
    [
        (Key(limits=Limits(1)), {}),
        (Key(user_limits=Limits(1)), {}),
        (Key(budget=Budget(day=1)), {}),
        (Key(), {"keys": Limits(1)}),
        (Key(), {"tenants": {"acme": Limits(1)}}),
        (Key(), {"models": {"m": Limits(1)}}),
        (Key(), {"budgets": BudgetRules(keys=Budget(day=1))}),
    ],
)
def test_who_may_be_limited_takes_its_share(limiter, key, rules):
    assert limiter(**rules).grant(key) is not None


async def test_nothing_is_asked_where_nothing_is_limited(limiter, store):
    grant = await ask(limiter(models={"another": Limits(1)}), Key())
    await grant.spoiled()
    await grant.reserve(1_000_000)
    part = grant.part()
    await part.reserve(1_000_000)
    await grant.settle(5)
    await grant.leave()
    assert store.takes == 0
    assert part.standings() == grant.standings() == (None, None)
    assert store.buckets() == 0
    assert grant.standings() == (None, None)


async def test_a_key_has_so_many_requests_a_minute(limiter, clock):
    gate, key = limiter(), Key(limits=Limits(2))
    first = await ask(gate, key)
    assert first.standings()[0].remaining == 1
    await ask(gate, key)
    error = await refusal(gate, key)
    assert type(error) is RequestsLimited
    assert (error.status, error.type, error.code, error.retry) == (429, "requests", "rate_limit_exceeded", True)
    assert error.retry_after == 30.0
    assert error.message == "Rate limit reached: this key may make 2 requests a minute. Try again in 30.0 s."
    clock.now += 30
    await ask(gate, key)


async def test_a_refused_key_is_refused_without_a_take_until_its_time(limiter, store, clock):
    gate, key = limiter(), Key(limits=Limits(60))
    for _ in range(60):
        await ask(gate, key)
    assert store.takes == 60
    assert (await refusal(gate, key)).retry_after == 1.0
    for _ in range(100):
        clock.now += 0.005
        grant = gate.grant(key)
        with pytest.raises(RequestsLimited) as caught:
            grant.check()
        assert grant.standings()[0].remaining == 0
    assert caught.value.retry_after == pytest.approx(0.5, abs=0.002)
    assert store.takes == 61
    clock.now += 0.51
    await ask(gate, key)
    assert store.takes == 62


async def test_nor_is_a_store_asked_for_a_refused_key_whose_answer_is_here_already(limiter, store, clock):
    gate, key = limiter(), Key(limits=Limits(1))
    await ask(gate, key)
    await refusal(gate, key)
    asked = store.takes
    assert gate.take_now(gate.toll(key, model="m", user=""), clock()) is None
    assert store.takes == asked
    clock.now += 61
    await ask(gate, key)
    clock.now += 61
    assert gate.take_now(gate.toll(key, model="m", user=""), clock()).standings()[0].remaining == 0


async def test_a_flood_does_not_hold_up_the_time(limiter, clock):
    """Asked many times a millisecond, the limit still comes back when it was said to."""
    gate, key = limiter(), Key(limits=Limits(600))
    for _ in range(600):
        await ask(gate, key)
    await refusal(gate, key)
    for _ in range(400):
        clock.now += 0.00024
        with pytest.raises(RequestsLimited):
            gate.grant(key).check()
    clock.now += 0.005
    await ask(gate, key)


async def test_another_key_of_the_tenant_is_not_refused_for_it(limiter):
    gate = limiter()
    await ask(gate, Key(limits=Limits(1)))
    await refusal(gate, Key(limits=Limits(1)))
    await ask(gate, Key(id="key_2", limits=Limits(1)))


async def test_keys_of_a_tenant_share_its_limit(limiter):
    gate = limiter(tenants={"acme": Limits(2)})
    await ask(gate, Key())
    await ask(gate, Key(id="key_2"))
    error = await refusal(gate, Key())
    assert error.message.startswith("Rate limit reached: this tenant may make 2 requests a minute.")
    assert gate.grant(Key(id="key_3", tenant="other")) is None


async def test_defaults_hold_where_a_key_says_nothing(limiter):
    gate = limiter(keys=Limits(1, concurrency=1))
    generous, plain = Key(limits=Limits(requests_per_minute=3)), Key(id="key_2")
    for _ in range(3):
        await (await ask(gate, generous)).leave()
    await refusal(gate, generous)
    await (await ask(gate, plain)).leave()
    await refusal(gate, plain)


async def test_limits_that_change_hold_at_once(limiter):
    gate = limiter()
    await ask(gate, Key(limits=Limits(1)))
    await refusal(gate, Key(limits=Limits(1)))
    raised = Key(limits=Limits(5))
    for _ in range(4):
        await ask(gate, raised)
    await refusal(gate, raised)


async def test_a_model_has_a_limit_for_each_tenant_apart(limiter):
    gate = limiter(models={"big": Limits(1), "huge": Limits(1)})
    acme, other = Key(), Key(id="key_2", tenant="other")
    await ask(gate, acme, "big")
    for _ in range(2):  # the charges of a model are made once
        error = await refusal(gate, acme, "big")
    assert error.message.startswith("Rate limit reached: this tenant may make 1 requests a minute of this model.")
    await ask(gate, acme, "small")
    await ask(gate, acme, "huge")
    await ask(gate, other, "big")


async def test_an_end_user_has_limits_of_its_own(limiter):
    gate, key = limiter(models={"big": Limits(100)}), Key(user_limits=Limits(2, 10, 1))
    for user in ("ann", "bob", ""):
        for _ in range(2):
            await (await ask(gate, key, "big", user)).leave()
        assert "this end user may make 2 requests a minute" in (await refusal(gate, key, "big", user)).message
    await ask(gate, Key(id="key_2", user_limits=Limits(2)), "big", "ann")


async def test_who_names_no_user_is_one_of_them(limiter):
    gate, key = limiter(), Key(user_limits=Limits(1))
    await ask(gate, key)
    await refusal(gate, key)


async def test_a_users_name_may_be_anything(limiter):
    gate, key = limiter(), Key(tenant="t}:{*", user_limits=Limits(1))
    for user in ("\ud800", "x" * 100_000, "key_1:{t}", "\0"):
        await ask(gate, key, user=user)
        await refusal(gate, key, user=user)


async def test_so_many_in_flight(limiter, store):
    gate, key = limiter(), Key(limits=Limits(concurrency=2))
    first, second = await ask(gate, key), await ask(gate, key)
    error = await refusal(gate, key)
    assert type(error) is ConcurrencyLimited
    assert (error.type, error.retry_after) == ("concurrency", 2.0)
    assert error.message == "Rate limit reached: this key may have 2 requests in flight. Try again when one has ended."
    for _ in range(3):
        await first.leave()
    third = await ask(gate, key)
    await refusal(gate, key)
    for grant in (first, second, third):
        await grant.leave()
    assert store.buckets() == 0


async def test_an_answer_that_is_here_takes_no_place_and_gives_none_back(limiter):
    gate, key = limiter(), Key(limits=Limits(concurrency=1))
    first, hit = await ask(gate, key), gate.grant(key)
    await hit.enter(model="m", place=False)
    await hit.leave()
    await refusal(gate, key)
    await first.leave()


async def test_a_refused_request_gives_back_nothing_that_it_has_not_taken(limiter):
    gate, key = limiter(), Key(limits=Limits(concurrency=1))
    await ask(gate, key)
    refused = gate.grant(key)
    with pytest.raises(ConcurrencyLimited):
        await refused.enter(model="m")
    await refused.leave()
    await refusal(gate, key)


async def test_a_request_that_is_cancelled_gives_its_place_back(limiter, store):
    gate, key, entered = limiter(), Key(limits=Limits(concurrency=1)), asyncio.Event()

    async def request():
        grant = gate.grant(key)
        try:
            await grant.enter(model="m")
            entered.set()
            await asyncio.sleep(60)
        finally:
            await grant.leave()

    task = asyncio.create_task(request())
    await entered.wait()
    await refusal(gate, key)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert store.buckets() == 0


@pytest.mark.parametrize("leaves_first", [True, False])
async def test_work_that_goes_on_without_its_caller_keeps_the_place_until_it_ends(limiter, store, leaves_first):
    gate, key = limiter(), Key(limits=Limits(concurrency=1))
    grant = await ask(gate, key)
    grant.hold()
    if leaves_first:
        await grant.leave()
        await refusal(gate, key)
        await grant.release()
    else:
        await grant.release()
        await refusal(gate, key)
        await grant.leave()
    assert store.buckets() == 0


async def test_a_spent_budget_refuses_whoever_enters(limiter):
    gate, key = limiter(), Key(budget=Budget(day=1))
    grant = await ask(gate, key)
    await grant.reserve(0, 1)
    await grant.settle(0, 1)
    with pytest.raises(BudgetSpent):
        await ask(gate, key)


async def test_how_many_may_be_in_flight_is_known_beforehand(limiter):
    gate = limiter(tenants={"acme": Limits(concurrency=3)})
    assert gate.places(Key(limits=Limits(concurrency=5))) == 3
    assert gate.places(Key(id="key_2", tenant="other", limits=Limits(concurrency=5))) == 5
    assert gate.places(Key(id="key_3", tenant="other")) is None


async def test_without_limits_an_answer_that_is_here_takes_nothing(limiter, store, clock):
    gate = limiter()
    assert gate.take_now(gate.toll(Key(), model="m", user=""), clock()) is limiting.UNLIMITED
    assert store.takes == 0


async def test_a_spent_budget_refuses_also_what_is_here_already(limiter, clock):
    gate, key = limiter(), Key(budget=Budget(day=1))
    toll = gate.toll(key, model="m", user="")
    ((_, account),) = gate.take_now(toll, clock()).accounts
    assert account.settled == 0
    grant = await ask(gate, key)
    await grant.reserve(0, 1)
    await grant.settle(0, 1)
    assert gate.take_now(toll, clock()) is None


async def test_what_could_not_be_asked_for_one_part_leaves_what_is_known_of_the_whole(limiter, store):
    whole = await ask(limiter(), Key(limits=Limits(tokens_per_minute=10)))
    first, second = whole.part(), whole.part()
    for part in (first, second):
        await part.enter(model="m")
        await part.spoiled()
    await first.reserve(4)

    async def cancelled(*_):
        raise asyncio.CancelledError

    store.take_now, store.take = (lambda *_: None), cancelled
    with pytest.raises(asyncio.CancelledError):
        await second.reserve(4)
    assert whole.standings()[1].remaining == 6


@pytest.mark.parametrize("of", ["whole", "part"])
async def test_who_is_refused_its_tokens_is_told_how_they_stand_now(limiter, of):
    """And not as they stood at the entrance."""
    gate, key = limiter(), Key(limits=Limits(tokens_per_minute=10))
    whole, other = await ask(gate, key), await ask(gate, key)
    await other.reserve(8)
    assert whole.standings()[1].remaining == 10
    with pytest.raises(TokensLimited):
        await (whole if of == "whole" else whole.part()).reserve(4)
    assert whole.standings()[1].remaining == 2


async def test_who_is_refused_by_a_budget_is_told_what_it_may_cost(limiter):
    grant = await ask(limiter(), Key(budget=Budget(day=2_000_000_000)))
    with pytest.raises(BudgetSpent, match=r"this request may cost 3 USD"):
        await grant.reserve(0, 3_000_000_000)


async def test_uncounted_tokens_are_taken_of_a_sixteenth_of_every_limit(limiter):
    """100 of 1,600. Beyond that nothing is taken, and whoever counts has all the rest."""
    gate = limiter(tenants={"acme": Limits(tokens_per_minute=1600)})
    key = Key(limits=Limits(tokens_per_minute=100_000))
    first, second, third = [await ask(gate, key) for _ in range(3)]
    assert not first.reserve_uncounted(101)
    assert first.reserve_uncounted(60)
    assert (first.reserved, first.uncounted, first.standings()[1].remaining) == (60, True, 1540)
    assert not second.reserve_uncounted(41), "as it stands now, and not as it stood at the entrance"
    assert (second.reserved, second.uncounted) == (None, False)
    assert second.reserve_uncounted(40)
    assert not third.reserve_uncounted(1)
    await third.reserve(1500)
    for grant in (first, second, third):
        await grant.settle(10)
        assert not grant.uncounted
    assert (await ask(gate, key)).standings()[1].remaining == 1600 - 30


async def test_of_end_users_that_share_a_bucket_it_is_a_sixteenth_of_that(clock):
    store = MemoryLimits(clock=clock, most_users=1)
    gate = Limiter(store, rules=LimitRules(), clock=clock, chance=lambda: 0.5)
    key = Key(user_limits=Limits(tokens_per_minute=160))
    taken = {user: [(await ask(gate, key, user=user)).reserve_uncounted(6) for _ in range(2)] for user in ("known", "b", "c")}
    assert taken == {"known": [True, False], "b": [True, False], "c": [False, False]}


async def test_where_there_is_no_limit_of_tokens_nobody_counts_and_money_is_held(limiter):
    grant = await ask(limiter(), Key(budget=Budget(day=100)))
    assert grant.reserve_uncounted(10**9, 60)
    assert grant.budgeted == 60
    assert not (await ask(limiter(), Key(budget=Budget(day=100)))).reserve_uncounted(1, 101)


async def test_what_has_to_wait_is_not_taken_uncounted(limiter, store):
    grant = await ask(limiter(), Key(limits=Limits(tokens_per_minute=1000)))
    store.take_now = lambda *_: None
    assert not grant.reserve_uncounted(1)
    assert (grant.reserved, grant.uncounted) == (None, False)


async def test_a_hit_takes_no_tokens(limiter):
    gate, key = limiter(), Key(limits=Limits(tokens_per_minute=10))
    for _ in range(5):
        grant = await ask(gate, key)
        assert grant.standings()[1].remaining == 10
        await grant.settle(7)  # without a reservation there is nothing to settle
        await grant.leave()


async def test_tokens_are_taken_before_a_provider_is_asked_and_settled_after(limiter):
    gate, key = limiter(tenants={"acme": Limits(tokens_per_minute=1000)}), Key(limits=Limits(tokens_per_minute=100))
    grant = await ask(gate, key)
    await grant.reserve(80)
    assert (grant.standings()[1].limit, grant.standings()[1].remaining) == (100, 20)
    greedy = await ask(gate, key)
    with pytest.raises(TokensLimited) as caught:
        await greedy.reserve(30)
    assert caught.value.type == "tokens"
    assert caught.value.retry_after == 6.0
    assert caught.value.message == "Rate limit reached: this key may use 100 tokens a minute. Try again in 6.0 s."
    assert greedy.standings()[1].remaining == 20
    await greedy.settle(50)
    await grant.settle(10)
    await grant.settle(10)
    await grant.leave()
    assert (await ask(gate, key)).standings()[1].remaining == 90


async def test_tokens_of_a_call_that_came_to_nothing_come_back(limiter):
    gate, key = limiter(), Key(limits=Limits(tokens_per_minute=100))
    grant = await ask(gate, key)
    await grant.reserve(60)
    await grant.reserve(40)  # a second call for the same request
    await grant.settle(0)
    assert (await ask(gate, key)).standings()[1].remaining == 100


class Elsewhere(MemoryLimits):
    """One that has to wait before it books anything, as Redis has."""

    def settle_now(self, corrections, hold=None, cost=0):
        return False

    async def settle(self, corrections, hold=None, cost=0):
        super().settle_now(corrections, hold, cost)


@pytest.mark.parametrize("kind", [MemoryLimits, Elsewhere])
async def test_what_is_booked_without_waiting_is_booked_once(clock, kind):
    store = kind(clock=clock)
    gate = Limiter(store, rules=LimitRules(), clock=clock, chance=lambda: 0.5)
    key = Key(limits=Limits(tokens_per_minute=100), budget=Budget(day=50))
    grant = await ask(gate, key)
    await grant.reserve(60, 20)
    await grant.reserve(30, 20)  # an answer that is begun anew
    if not grant.settle_now(40, 7):
        assert (grant.reserved, grant.budgeted) == (90, 40), "nothing is booked yet"
        await grant.settle(40, 7)
    assert (grant.reserved, grant.budgeted) == (None, 0)
    later = await ask(gate, key)
    [(_, account)] = later.budgets()
    assert (later.standings()[1].remaining, account.settled, account.held) == (60, 7, 0)


@pytest.mark.parametrize("kind", [MemoryLimits, Elsewhere])
async def test_a_place_is_given_back_also_where_that_has_to_wait(clock, kind):
    gate = Limiter(kind(clock=clock), rules=LimitRules(), clock=clock, chance=lambda: 0.5)
    key = Key(limits=Limits(concurrency=1))
    first = await ask(gate, key)
    await refusal(gate, key)
    await first.leave()
    await ask(gate, key)


async def test_an_exact_estimate_needs_no_correction(limiter, store):
    gate, key = limiter(), Key(limits=Limits(tokens_per_minute=100))
    grant = await ask(gate, key)
    await grant.reserve(60)
    await grant.settle(60)
    assert (await ask(gate, key)).standings()[1].remaining == 40


async def test_more_tokens_than_reserved_are_a_debt(limiter):
    gate, key = limiter(), Key(limits=Limits(tokens_per_minute=60))
    grant = await ask(gate, key)
    await grant.reserve(1)
    await grant.leave()
    await grant.settle(120)  # a flight may outlive the request that began it
    later = await ask(gate, key)
    assert later.standings()[1].remaining == 0
    with pytest.raises(TokensLimited) as caught:
        await later.reserve(1)
    assert caught.value.retry_after == 61.0


async def test_a_request_larger_than_the_limit_is_not_worth_another_try(limiter):
    grant = await ask(limiter(), Key(limits=Limits(tokens_per_minute=100)))
    with pytest.raises(NeverFits) as caught:
        await grant.reserve(101)
    assert (caught.value.retry, caught.value.retry_after) == (False, None)
    expected = (
        "Request too large: it may cost 101 tokens, and this key may use 100 tokens a minute. Ask for fewer with 'max_tokens'."
    )
    assert caught.value.message == expected


async def test_a_refusal_for_tokens_or_places_does_not_refuse_the_next_request(limiter):
    gate, key = limiter(models={"m": Limits(1)}), Key(limits=Limits(10, 10, 1))
    grant = await ask(gate, key)
    with pytest.raises(NeverFits):
        await grant.reserve(11)
    await refusal(gate, key)
    await grant.leave()
    await refusal(gate, key)
    await ask(gate, key, "another model")


async def test_requests_that_make_no_sense_count_and_are_stopped_before_their_body(limiter, store):
    gate, key = limiter(), Key(limits=Limits(3, concurrency=1))
    for _ in range(3):
        grant = gate.grant(key)
        grant.check()
        await grant.spoiled()
        await grant.leave()
    grant = gate.grant(key)
    grant.check()
    with pytest.raises(RequestsLimited):
        await grant.spoiled()
    takes = store.takes
    for _ in range(10):
        with pytest.raises(RequestsLimited):
            gate.grant(key).check()
    assert store.takes == takes


async def test_a_noisy_neighbour_is_not_felt(limiter, clock):
    """L4: A sends ten times its limit, half of it nonsense, B a tenth of its own."""
    gate = limiter(tenants={"a": Limits(600), "b": Limits(600)}, models={"m": Limits(600)})
    a, b = Key(id="key_a", tenant="a"), Key(id="key_b", tenant="b")
    served = {"a": 0, "b": 0}
    for step in range(6000):
        clock.now += 0.01
        grant = gate.grant(a)
        try:
            grant.check()
            await (grant.spoiled() if step % 2 else grant.enter(model="m"))
            served["a"] += 1
        except RateLimited:
            pass
        if step % 100 == 0:
            await ask(gate, b)
            served["b"] += 1
    assert served["b"] == 60
    assert served["a"] == pytest.approx(600 + 600, abs=1)


async def test_callers_that_are_remembered_are_bounded(limiter):
    gate = limiter()
    for n in range(limiting.MOST_CALLERS + 1):
        gate.grant(Key(id=f"key_{n}"))
    assert repr(gate).startswith("<Limiter 1 callers, ")


async def test_reprs_tell_the_state(limiter):
    gate, key = limiter(), Key(limits=Limits(1, 10, 1))
    grant = await ask(gate, key)
    await grant.reserve(3)
    assert repr(grant) == "<Grant of <Caller key_1>, 1 places, 3 tokens>"
    await refusal(gate, key)
    assert repr(grant) == "<Grant of <Caller key_1, refused>, 1 places, 3 tokens>"
