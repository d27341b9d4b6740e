"""`limits.lua` on a real Redis takes exactly what `core/limits.py` says."""

import time
from importlib import resources
from random import Random

import pytest
import redis

from sentinel_gateway.core.budgets import MOST, Part, Shared, Wish, draw
from sentinel_gateway.core.limits import UNIT, charge, judge, refilled, settled

SCRIPT = resources.files("sentinel_gateway.stores").joinpath("lua/limits.lua").read_text()
LEASE = 60_000


@pytest.fixture
def server(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
        yield client


@pytest.fixture
def run(server):
    """run(how, charges, holder="h", lease=..., known=0, born=0) is (taken, the server's time, what was spent of each before).

    `run.born` is then the birth of each.
    """
    script = server.register_script(SCRIPT)

    def run(how, charges, *, holder="h", lease=LEASE, known=0, born=0):
        numbers = [number for charge in charges for number in (charge.rate, charge.capacity, charge.cost, known, born)]
        taken, now, *rest = script(
            keys=[charge.bucket for charge in charges], args=[how, holder, lease, len(charges), "n", *numbers]
        )
        run.born = rest[len(charges) :]
        assert len(run.born) == len(charges)
        return bool(taken), now, rest[: len(charges)]

    return run


def requests(limit, amount=1, *, name="{t}:requests:key:k"):
    return charge(name, "requests", "key", limit=limit, amount=amount)


def places(limit, amount=1):
    return charge("{t}:concurrency:key:k", "concurrency", "key", limit=limit, amount=amount)


def assert_ran_down(found, whole, since, *, in_a_second=1_000):
    """By as much as the time since then (`time.monotonic()`) can explain, and half a second: however slow the machine is."""
    assert whole - (time.monotonic() - since + 0.5) * in_a_second < found <= whole


@pytest.mark.parametrize("steps", [2_000, pytest.param(100_000, marks=pytest.mark.long)])
@pytest.mark.parametrize("seed", range(2))
def test_differential(run, steps, seed):
    """Any sequence of takes and corrections, at the server's own times: the same verdicts and the same sums to the last part."""
    chance, states, holders = Random(seed), {}, {}
    admitted = refused = 0
    for step in range(steps):
        charges = [
            requests(chance.choice([1, 7, 600, 60_000, 10**9]), chance.randrange(4), name=f"{{t}}:requests:{n}")
            for n in chance.sample(range(4), chance.randint(1, 3))
        ]
        if chance.random() < 0.2:
            charges = [charges[0].of(chance.choice([1, charges[0].limit // 2, charges[0].limit]))]
        holder, settling = f"h{step}", chance.random() < 0.3
        if settling:
            sizes = [(1, -(-charge.limit // 10), 60 * charge.limit) for charge in charges]  # twice the largest is too much
            charges = [
                charge.of(chance.randint(-4, 3) * chance.choice(size)) for charge, size in zip(charges, sizes, strict=True)
            ]
        elif chance.random() < 0.5:
            charges.append(places(3))
        taken, now, spent = run("settle" if settling else "take", charges, holder=holder)
        known = [states.get(charge.bucket) for charge in charges]
        assert spent == [refilled(state, now) if state else 0 for state in known]
        assert taken == (settling or judge(charges, states.get, now).refused is None)
        admitted, refused = admitted + taken, refused + (not taken)
        if taken:
            for charge, before in zip(charges, spent, strict=True):
                if charge.cost:
                    owed = settled(charge, (before, now, charge.rate), now) if settling else before + charge.cost
                    states[charge.bucket] = owed, now, charge.rate
            if charges[-1].kind == "concurrency":
                holders[holder] = charges[-1]
        if holders and chance.random() < 0.4:
            holder = chance.choice(list(holders))
            back = holders.pop(holder).of(-1)
            _, now, spent = run("settle", [back], holder=holder)
            states[back.bucket] = spent[0] + back.cost, now, 0
    assert admitted > steps / 3
    assert refused > steps / 20


def test_a_bucket_is_kept_as_long_as_anybody_may_know_of_something_spent(run, server):
    """What was given back is not remembered by those who have not looked since."""
    began = time.monotonic()
    assert run("take", [requests(60, 30)])[0]
    assert_ran_down(server.pttl("{t}:requests:key:k"), 30_000, began)
    born = run.born
    assert run("settle", [requests(60, -30)])[0]
    assert_ran_down(server.pttl("{t}:requests:key:k"), 30_000, began)
    assert run("take", [requests(60, 0)], known=30 * UNIT, born=born[0])[2] == [0]
    assert run.born == born != [0]
    assert run("take", [requests(6000, 10)])[0]
    run("settle", [requests(6000, -10, name="{t}:requests:other")])
    time.sleep(0.15)
    assert server.keys() == [b"{t}:requests:key:k"], "what is whole is not there"


def test_what_a_caller_knows_to_be_spent_is_spent_if_the_bucket_was_lost(run, server):
    """It was dropped, or all were, or a caller who knew less has begun it anew. The larger of both holds, and is kept."""
    known, began = 50 * UNIT, time.monotonic()
    taken, _, spent = run("take", [requests(60, 11)], known=known, born=7)
    assert (taken, spent) == (False, [known])
    assert_ran_down(server.pttl("{t}:requests:key:k"), 50_000, began)  # though it was refused
    server.flushall()
    began = time.monotonic()
    assert run("take", [requests(60, 1)], known=3 * UNIT, born=7)[0]
    (born,) = run.born
    assert not run("take", [requests(60, 11)], known=known, born=7)[0]
    assert run.born == [born]
    _, _, (spent,) = run("take", [requests(60, 1)], known=55 * UNIT, born=born)
    assert_ran_down(spent, 50 * UNIT, began, in_a_second=UNIT)  # who has seen it since knows no better
    began = time.monotonic()
    run("settle", [requests(60, 0)], known=70 * UNIT)
    (spent,) = run("take", [requests(60, 0)])[2]
    assert_ran_down(spent, 70 * UNIT, began, in_a_second=UNIT)  # one who does not say which may know better


def test_a_caller_holds_the_places_that_it_knows_to_hold(run, server):
    assert run("take", [places(3)], known=2 * UNIT)[2] == [2 * UNIT]
    assert not run("take", [places(3)], holder="other", known=3 * UNIT)[0]
    assert server.zrange("{t}:concurrency:key:k", 0, -1) == [b"h"]


def test_a_place_that_is_taken_again_is_kept_for_longer(run, server):
    assert run("take", [places(2)], holder="mine", lease=200)[0]
    began = time.monotonic()
    assert run("settle", [places(2)], holder="mine", lease=LEASE)[0]
    assert server.zcard("{t}:concurrency:key:k") == 1
    assert_ran_down(server.pttl("{t}:concurrency:key:k"), LEASE, began)
    time.sleep(0.25)
    assert run("take", [places(2, 0)])[2] == [UNIT]


def test_looking_writes_nothing(run, server):
    assert run("take", [requests(60, 0), places(1, 0)])[0]
    assert server.keys() == []


def test_a_refused_take_writes_nothing(run, server):
    assert run("take", [requests(1)])[0]
    assert not run("take", [requests(5, name="{t}:requests:other"), requests(1), places(2)])[0]
    assert server.keys() == [b"{t}:requests:key:k"]


def test_places_of_a_node_that_died_come_back(run, server):
    assert run("take", [places(1)], holder="dead", lease=150)[0]
    assert not run("take", [places(1)], holder="other")[0]
    assert 0 < server.pttl("{t}:concurrency:key:k") <= 150
    while not (taken := run("take", [places(1)], holder="other"))[0]:
        assert taken[2] == [UNIT]
    assert server.zrange("{t}:concurrency:key:k", 0, -1) == [b"other"]


def test_a_place_is_given_back_once(run):
    assert run("take", [places(2)], holder="a")[0]
    assert run("take", [places(2)], holder="b")[0]
    for _ in range(3):
        run("settle", [places(2, -1)], holder="a")
    assert run("take", [places(2, 0)])[2] == [UNIT]


def test_a_clock_that_jumped_back_refills_nothing(run, server):
    """As after a fail-over to a server whose clock is behind."""
    _, now, _ = run("take", [requests(60, 0)])
    server.set("{t}:requests:key:k", f"{60 * UNIT} {now + 3_600_000} 60 1")
    assert not run("take", [requests(60)])[0]
    assert run("settle", [requests(60, 0)])[2] == [60 * UNIT]


def test_what_callers_write_is_data(run, server):
    """No name or number is ever part of the script."""
    holder = "'); redis.call('FLUSHALL') --"
    server.set("mine", "1")
    assert run("take", [places(2)], holder=holder)[0]
    assert server.get("mine") == b"1"
    assert server.zrange("{t}:concurrency:key:k", 0, -1) == [holder.encode()]


# --- accounts ---


@pytest.fixture
def drawn(server):
    """drawn(how, node, wishes, charges) carries out wishes of a node by the names of their accounts.

    What came of it: taken, the time, and for each whether it fits, what others have settled and drawn, and what the node has.
    """
    script = server.register_script(SCRIPT)

    def drawn(how, node, wishes, charges=(), *, lease=LEASE):
        ends = int(time.time() * 1000) + 3_600_000
        numbers = [number for charge in charges for number in (charge.rate, charge.capacity, charge.cost, 0, 0)]
        for wish in wishes.values():
            numbers += [*(int(getattr(wish, name)) for name in wish.__struct_fields__), ends]
        keys = [*(charge.bucket for charge in charges), *wishes]
        taken, now, *rest = script(keys=keys, args=[how, "h", lease, len(charges), node, *numbers])
        rest = rest[2 * len(charges) :]
        return bool(taken), now, [tuple(rest[at : at + 5]) for at in range(0, len(rest), 5)]

    return drawn


def read_parts(server, account):
    """As it is kept: the parts by node, and until when nobody draws more, or ahead."""
    fields = {name.decode(): value.decode() for name, value in server.hgetall(account).items()}
    calm, tight = int(fields.pop("calm", 0)), int(fields.pop("tight", 0))
    return Shared({name: Part(*map(int, value.split())) for name, value in fields.items()}, calm, tight)


@pytest.mark.parametrize("steps", [1_500, pytest.param(50_000, marks=pytest.mark.long)])
@pytest.mark.parametrize("seed", range(2))
def test_accounts_differential(drawn, server, steps, seed):
    """Any sequence of wishes of three nodes, late ones and lost accounts among them: the same answers, and the same is kept."""
    chance, told, seen = Random(seed), [], {True: 0, False: 0}
    names = [f"{{t}}:budget:{n}" for n in range(3)]
    turns = dict.fromkeys("abc", 1)
    for _ in range(steps):
        if chance.random() < 0.02:
            server.delete(chance.choice(names))
        elif chance.random() < 0.02 and (parts := server.hgetall(name := chance.choice(names))):
            silent = chance.choice([part for part in parts if part not in {b"calm", b"tight"}])
            server.hset(name, silent, b" ".join([*parts[silent].split()[:3], b"1"]))
            server.hdel(name, "calm", "tight")
        node, how = chance.choice("abc"), chance.choice(["take", "take", "settle"])
        turns[node] += 1
        wishes = {}
        for name in chance.sample(names, chance.randint(1, 3)):
            scale = chance.choice([1, 10**12, MOST // 1000])
            settled, cost = chance.randrange(30) * scale, 0 if how == "settle" else chance.randrange(20) * scale
            wanted = settled + cost + chance.randrange(20) * scale
            wishes[name] = Wish(
                100 * scale,
                cost,
                turns[node] - chance.choice([0, 0, 0, 3]),
                settled,
                wanted,
                chance.randrange(60) * scale,
                chance.randrange(4),
                known=chance.random() < 0.5,
            )
        if told and chance.random() < 0.1:
            how, node, wishes = chance.choice(told)
        told = [*told[-50:], (how, node, wishes)]
        before = {name: read_parts(server, name) for name in wishes}
        taken, now, answers = drawn(how, node, wishes)
        found = {name: draw(before[name], node, wish, now=now, settling=how == "settle") for name, wish in wishes.items()}
        assert taken == (how == "settle" or all(one.fits for one in found.values()))
        for answer, (name, wish) in zip(answers, wishes.items(), strict=True):
            one = found[name]
            part = one.after if taken else one.part
            assert answer == (one.fits, one.settled, one.drawn, part.drawn, one.tight > now), (how, node, wish, before[name])
            after, earlier = read_parts(server, name), before[name]
            if how == "settle" or wish.cost:
                assert after.parts == {**earlier.parts, node: part}
                assert after.calm == (one.calm if one.calm > now else earlier.calm)
                assert after.tight == (one.tight if one.tight > now else earlier.tight)
            else:
                assert after == earlier
        seen[taken] += 1
    assert min(seen.values()) > steps / 10


def test_a_budget_that_does_not_fit_takes_nothing_from_the_buckets_and_the_other_way_round(drawn, server):
    fit, unfit = Wish(10, 5, 1, 0, 5, 0, 0), Wish(10, 11, 1, 0, 11, 0, 0)
    assert not drawn("take", "a", {"{t}:day": fit, "{t}:month": unfit}, [requests(5)])[0]
    assert server.exists("{t}:requests:key:k") == 0
    assert read_parts(server, "{t}:day").parts["a"].drawn == 0
    assert not drawn("take", "a", {"{t}:day": fit}, [requests(5, 6)])[0]
    assert read_parts(server, "{t}:day").parts["a"].drawn == 0
    assert drawn("take", "a", {"{t}:day": fit}, [requests(5)])[0]
    assert read_parts(server, "{t}:day").parts["a"].drawn == 5
    assert 3_590_000 < server.pttl("{t}:day") <= 3_600_000, "it goes with its window"


def test_looking_at_a_budget_writes_nothing(drawn, server):
    assert drawn("take", "a", {"{t}:day": Wish(10, 0, 0, 0, 0, 0, 2)})[2] == [(1, 0, 0, 0, 0)]
    assert server.keys() == []
