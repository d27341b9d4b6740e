"""Clearing while requests are under way, and the state of the tiers."""

import asyncio

import pytest

from sentinel_gateway.core.access import SCOPES, Caller
from sentinel_gateway.core.caching import Miss, NotStorable, Selector, Store, Wish
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.pipeline.handle import Cached
from tests.fakes import FakeStream, HandMovedLoop, completion, spoken, turns
from tests.pipeline.conftest import Path, question

pytestmark = pytest.mark.anyio

ALL = Selector()


async def fill(path) -> str:
    """One entry in both tiers; its key."""
    path.first.replies.append(completion())
    reply, _ = await path.ask(question())
    return reply.plan.key


async def test_clear_empties_every_tier_and_counts_the_fullest(path):
    key = await fill(path)
    path.far.entries["other"] = path.far.entries[key]
    assert await path.tiers.clear(ALL) == 2
    assert path.near.entries == path.far.entries == {}


async def test_clear_without_a_farther_tier(make_path):
    path = make_path(far=False)
    await fill(path)
    assert path.tiers.size() == (1, len(next(iter(path.near.entries.values())).body))
    assert await path.tiers.clear(ALL) == 1
    assert path.tiers.size() == (0, 0)


async def test_clear_takes_what_it_is_told_to(path):
    key = await fill(path)
    assert await path.tiers.clear(Selector(model="second/n")) == 0
    assert list(path.near.entries) == list(path.far.entries) == [key]
    assert await path.tiers.clear(Selector(model="first/m")) == 1
    assert path.near.entries == path.far.entries == {}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_clear_is_not_undone_by_an_answer_under_way(path, stream):
    hold = asyncio.Event()
    path.first.replies += [hold, FakeStream(*spoken("Paris.")) if stream else completion()]
    asking = asyncio.create_task(path.ask(question(stream=stream)))
    await path.first.reached.wait()

    await path.tiers.clear(ALL)
    hold.set()
    _, journey = await asking

    assert journey.kept == NotStorable("cleared-meanwhile")
    assert path.near.entries == path.far.entries == {}


async def test_a_clear_is_not_undone_in_the_middle_of_a_stream(path):
    hold = asyncio.Event()
    first, *rest = spoken("Paris.")
    path.first.replies.append(FakeStream(first, hold, *rest))
    asking = asyncio.create_task(path.ask(question(stream=True)))
    await turns()
    assert path.first.calls

    await path.tiers.clear(ALL)
    hold.set()
    _, journey = await asking

    assert journey.kept == NotStorable("cleared-meanwhile")
    assert path.near.entries == path.far.entries == {}


async def test_a_clear_is_not_undone_by_a_look_up_under_way(path):
    await fill(path)
    path.near.entries.clear()
    path.far.hold, path.far.reached = asyncio.Event(), asyncio.Event()
    asking = asyncio.create_task(path.ask(question()))
    await path.far.reached.wait()
    clearing = asyncio.create_task(path.tiers.clear(ALL))
    await asyncio.sleep(0)

    path.far.hold.set()
    reply, _ = await asking
    await clearing

    assert isinstance(reply, Cached)  # it was asked before the clear
    assert path.near.entries == path.far.entries == {}


@pytest.mark.parametrize("look_up_ends_first", [True, False])
async def test_a_clear_is_not_undone_by_a_look_up_that_began_meanwhile(path, look_up_ends_first):
    key = await fill(path)
    clear_holds, look_up_holds = asyncio.Event(), asyncio.Event()
    path.far.hold, path.far.reached = clear_holds, asyncio.Event()
    clearing = asyncio.create_task(path.tiers.clear(ALL))
    await path.far.reached.wait()
    assert path.near.entries == {}

    path.far.hold, path.far.reached = look_up_holds, asyncio.Event()
    asking = asyncio.create_task(path.ask(question()))
    await path.far.reached.wait()
    for hold, ended in ((look_up_holds, asking), (clear_holds, clearing))[:: 1 if look_up_ends_first else -1]:
        hold.set()
        await ended

    assert path.far.asked == [key, key]
    assert path.near.entries == path.far.entries == {}


CLEARED = [("a", False), ("b", True), (None, False)]


def asked_by(path, tenant):
    journey = path.journey(tenant=tenant)
    journey.caller = Caller("key_1", tenant, SCOPES)
    return journey


@pytest.mark.parametrize(("tenant", "is_kept"), CLEARED)
async def test_an_answer_under_way_is_lost_to_a_clear_of_its_own_tenant_only(path, tenant, is_kept):
    hold = asyncio.Event()
    path.first.replies += [hold, completion()]
    asking = asyncio.create_task(path.ask(question(), asked_by(path, "a")))
    await path.first.reached.wait()
    await path.tiers.clear(Selector(tenant=tenant))
    hold.set()
    _, journey = await asking
    assert isinstance(journey.kept, Store) is is_kept
    assert bool(path.near.entries) is bool(path.far.entries) is is_kept


@pytest.mark.parametrize(("tenant", "is_kept"), CLEARED)
async def test_a_look_up_under_way_is_lost_to_a_clear_of_its_own_tenant_only(path, tenant, is_kept):
    path.first.replies.append(completion())
    await path.ask(question(), asked_by(path, "a"))
    path.near.entries.clear()
    path.far.hold, path.far.reached = asyncio.Event(), asyncio.Event()
    asking = asyncio.create_task(path.ask(question(), asked_by(path, "a")))
    await path.far.reached.wait()
    clearing = asyncio.create_task(path.tiers.clear(Selector(tenant=tenant)))
    await asyncio.sleep(0)
    path.far.hold.set()
    await asking
    await clearing
    assert bool(path.near.entries) is bool(path.far.entries) is is_kept


async def test_an_answer_asked_for_after_a_clear_is_kept(path):
    await path.tiers.clear(ALL)
    path.first.replies.append(completion())
    _, journey = await path.ask(question())
    assert isinstance(journey.kept, Store)


async def test_a_clear_that_the_farther_tier_fails_is_told(path):
    await fill(path)
    path.far.down = True
    with pytest.raises(StoreDown):
        await path.tiers.clear(ALL)
    assert path.near.entries == {}


async def test_status(path, make_path):
    assert await path.tiers.status() == {"disk": "up"}
    path.far.down = True
    assert await path.tiers.status() == {"disk": "down"}
    assert await make_path(far=False).tiers.status() == {}


def test_a_tier_that_hangs_is_down_after_three_seconds(path):
    async def ask(loop: HandMovedLoop) -> None:
        path.far.hold = asyncio.Event()
        asking = asyncio.create_task(path.tiers.status())
        await turns()
        loop.now = 2.9
        await turns()
        assert not asking.done()
        loop.now = 3.1
        await turns()
        assert asking.done()
        assert asking.result() == {"disk": "down"}

    with asyncio.Runner(loop_factory=HandMovedLoop) as runner:
        runner.run(ask(runner.get_loop()))


async def test_look_far_answers_without_a_farther_tier(make_path):
    path = make_path(far=False)
    near = path.tiers.look_near("k", Wish())
    assert await path.tiers.look_far("k", Wish(), near) == Miss((near,))
    assert repr(path.tiers).startswith("<Tiers <tests.fakes.FakeNear")


async def test_without_a_farther_tier_those_of_memory_are_counted():
    path = Path(far=False)
    path.first.replies += [completion()]
    await path.ask(question())
    assert await path.tiers.count() == 1
