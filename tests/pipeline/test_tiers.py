"""Clearing while requests are under way, and the state of the tiers."""

import asyncio

import msgspec
import pytest

from sentinel_gateway.core.access import SCOPES, Caller
from sentinel_gateway.core.bulletin import CacheCleared
from sentinel_gateway.core.caching import Miss, NotStorable, Selector, Store, Wish
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.pipeline.clears import SKEW_SECONDS
from sentinel_gateway.pipeline.reply import Cached
from sentinel_gateway.pipeline.tiers import KEYS_AT_ONCE, LATE_ENTRIES, LATE_SECONDS, RETRY_SECONDS
from tests.fakes import FakeStream, HandMovedLoop, completion, spoken, turns
from tests.gateway import until
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


# --- several nodes ---


async def shared(path) -> str:
    """One entry in both tiers, of which the farther one is shared; its key."""
    path.far.shared = True
    return await fill(path)


async def test_a_clear_is_told_before_and_after_it_is_done(path):
    """Before: what is under way elsewhere is not kept. After: a look-up elsewhere may have brought some of it near."""
    await fill(path)
    path.far.hold, path.far.reached = asyncio.Event(), asyncio.Event()
    clearing = asyncio.create_task(path.tiers.clear(Selector(tenant="")))
    await path.far.reached.wait()
    assert path.bulletin.notices == [CacheCleared(Selector(tenant=""))]
    path.far.hold.set()
    await clearing
    assert path.bulletin.notices == 2 * [CacheCleared(Selector(tenant=""))]


async def test_others_know_of_a_clear_before_the_questions_are_gone(make_path):
    """That may take long, and what a look-up has brought near elsewhere is served meanwhile."""
    path = make_path(semantic=True)
    await fill(path)
    path.index.hold = asyncio.Event()
    clearing = asyncio.create_task(path.tiers.clear(ALL))
    await turns()
    assert path.far.entries == {}
    assert len(path.bulletin.notices) == 2
    path.index.hold.set()
    assert await clearing == 1
    assert path.index.heads == {}


@pytest.mark.parametrize(
    ("down", "said"),
    [
        (["far", "index", "bulletin"], "clear the store on disk: told to fail"),
        (["index"], "clear the index of questions: told to"),
        (["bulletin"], "tell the other nodes: told to"),
    ],
)
async def test_a_clear_does_what_it_can_and_says_what_it_could_not(make_path, down, said):
    path = make_path(semantic=True)
    await fill(path)
    for name in down:
        getattr(path, name).down = True
    with pytest.raises(StoreDown, match=f"^{said}$"):
        await path.tiers.clear(ALL)
    assert path.near.entries == {}
    assert bool(path.far.entries) is ("far" in down)
    assert bool(path.index.heads) is ("index" in down)
    assert len(path.bulletin.notices) == (0 if "bulletin" in down else 2)


async def test_a_clear_that_others_cannot_be_told_is_done_here_and_fails(path):
    await fill(path)
    path.bulletin.down = True
    with pytest.raises(StoreDown):
        await path.tiers.clear(ALL)
    assert path.near.entries == path.far.entries == {}


@pytest.mark.parametrize("is_shared", [True, False])
async def test_what_another_node_has_cleared_goes_from_what_is_this_nodes_own(make_path, is_shared):
    path = make_path(semantic=True)
    path.far.shared = path.index.shared = is_shared
    key = await fill(path)
    path.tiers._lately.clear()  # noqa: SLF001 - it was long ago
    path.tiers.clear_own(ALL)
    await turns()
    assert path.near.entries == {}
    await turns()
    assert list(path.far.entries) == list(path.index.heads) == ([key] if is_shared else [])
    assert path.bulletin.notices == []


async def test_what_another_node_has_cleared_is_not_kept_when_it_comes_in(path):
    hold = asyncio.Event()
    path.first.replies += [hold, completion()]
    asking = asyncio.create_task(path.ask(question()))
    await path.first.reached.wait()
    path.tiers.clear_own(ALL)
    await turns()
    hold.set()
    _, journey = await asking
    assert journey.kept == NotStorable("cleared-meanwhile")
    assert path.near.entries == path.far.entries == {}


async def test_what_came_into_a_shared_tier_before_its_clear_was_known_here_is_taken_back(path):
    """And everybody is told of it: it may have been brought near meanwhile."""
    key = await shared(path)
    path.tiers.clear_own(Selector(tenant="somebody else"))
    await turns()
    assert list(path.far.entries) == [key]
    path.tiers.clear_own(Selector(tenant=""))
    await turns()
    assert path.far.entries == {}
    assert path.bulletin.notices == [CacheCleared(Selector(tenant="", keys=frozenset({key})))]
    path.tiers.clear_own(Selector(keys=frozenset({key})))
    await turns()
    assert len(path.bulletin.notices) == 1


async def test_what_a_shared_tier_does_not_promise_to_keep_is_taken_back_too(path):
    """It is written all the same, once Redis has been looked at."""
    path.far.promises = False
    key = await shared(path)
    assert list(path.far.entries) == [key]
    path.tiers.clear_own(ALL)
    await turns()
    assert path.far.entries == {}


@pytest.mark.parametrize("gap", [True, False])
async def test_what_is_taken_back_of_one_tenant_is_nothing_to_the_others(path, gap):
    """Neither here nor on another node, where answers to them are under way."""
    path.far.shared = True
    for tenant in ("a", "b"):
        path.first.replies.append(completion())
        await path.ask(question(), asked_by(path, tenant))
    path.tiers.forget() if gap else path.tiers.clear_own(Selector(tenant="a"))
    await turns()
    assert [notice.selector.tenant for notice in path.bulletin.notices] == (["a", "b"] if gap else ["a"])
    other = Path()
    for notice in path.bulletin.notices[:1]:
        other.tiers.clear_own(notice.selector)
    assert other.tiers.cleared_since(0, "a")
    assert not other.tiers.cleared_since(0, "b")
    assert [entry.tenant for entry in path.far.entries.values()] == ([] if gap else ["b"])


async def test_what_was_kept_long_before_is_not_taken_back(path):
    key = await shared(path)
    path.clock.now += LATE_SECONDS + 1
    path.first.replies.append(completion())
    await path.ask(question("Another?"))
    path.tiers.clear_own(ALL)
    await turns()
    assert list(path.far.entries) == [key]


async def test_what_was_kept_before_is_not_taken_back_when_nothing_has_come_since(path):
    key = await shared(path)
    path.clock.now += LATE_SECONDS + 1
    path.tiers.clear_own(ALL)
    await turns()
    assert list(path.far.entries) == [key]


async def test_what_comes_in_while_another_answer_is_taken_back_is_taken_back_with_the_next_notice(path):
    key = await shared(path)
    new = msgspec.structs.replace(path.far.entries[key], created=path.clock.now + 1)
    path.far.hold, path.far.reached = asyncio.Event(), asyncio.Event()
    path.tiers.clear_own(ALL)
    await path.far.reached.wait()
    path.tiers.keep(new)
    path.far.hold.set()
    await turns()
    path.far.entries[key] = new  # Redis spares what is put during a clear
    path.tiers.clear_own(ALL)
    await turns()
    assert path.far.entries == {}


async def test_what_is_being_taken_back_is_not_taken_back_a_second_time(path):
    """The same notice may come twice, as a clear is told before and after it is done."""
    await shared(path)
    path.far.hold, path.far.reached = asyncio.Event(), asyncio.Event()
    path.tiers.clear_own(ALL)
    await path.far.reached.wait()
    path.tiers.clear_own(ALL)
    await turns()
    path.far.hold.set()
    await turns()
    assert path.far.entries == {}
    assert len(path.bulletin.notices) == 1


async def test_a_question_on_its_way_to_a_shared_index_is_taken_back_with_its_answer(make_path):
    path = make_path(semantic=True)
    path.index.shared = True
    await shared(path)
    assert path.index.heads
    path.tiers.clear_own(ALL)
    await turns()
    assert path.index.heads == {}


async def test_of_what_came_in_lately_only_so_much_is_known(path):
    key = await shared(path)
    entry = path.far.entries[key]
    for number in range(LATE_ENTRIES):
        path.tiers.keep(msgspec.structs.replace(entry, key=str(number)))
    path.tiers.clear_own(ALL)
    await until(lambda: len(path.bulletin.notices) == LATE_ENTRIES // KEYS_AT_ONCE)
    assert list(path.far.entries) == [key]
    named = [notice.selector.keys for notice in path.bulletin.notices]
    assert (len(named), set(map(len, named))) == (LATE_ENTRIES // KEYS_AT_ONCE, {KEYS_AT_ONCE})


@pytest.mark.parametrize("what", ["far", "bulletin"])
def test_what_cannot_be_taken_back_now_is_taken_back_as_soon_as_it_can_be(path, what):
    """No other notice need follow."""
    broken = getattr(path, what)

    async def hear(loop: HandMovedLoop) -> None:
        await shared(path)
        broken.down = True
        path.tiers.clear_own(ALL)
        await turns()
        loop.now += RETRY_SECONDS
        await turns()
        assert path.bulletin.notices == []
        broken.down = False
        await turns()
        loop.now += RETRY_SECONDS
        await turns()
        assert path.far.entries == {}
        assert len(path.bulletin.notices) == 1

    with asyncio.Runner(loop_factory=HandMovedLoop) as runner:
        runner.run(hear(runner.get_loop()))


@pytest.mark.parametrize("fault", ["down", "hold"])
async def test_an_index_that_takes_its_time_holds_nobody_up(make_path, fault):
    """An index of this node's own: what came too late is taken back meanwhile, and the next notice is heard."""
    path = make_path(semantic=True)
    await shared(path)
    setattr(path.index, fault, True if fault == "down" else asyncio.Event())
    path.tiers.clear_own(ALL)
    await turns()
    assert path.far.entries == path.near.entries == {}
    await path.tiers.close()


def test_what_could_not_be_cleared_here_is_cleared_in_the_end(make_path):
    path = make_path(semantic=True)

    async def hear(loop: HandMovedLoop) -> None:
        await fill(path)
        path.index.down = path.far.down = True
        path.tiers.clear_own(ALL)
        await turns()
        path.index.down = path.far.down = False
        loop.now += RETRY_SECONDS
        await turns()
        assert path.far.entries == path.index.heads == {}

    with asyncio.Runner(loop_factory=HandMovedLoop) as runner:
        runner.run(hear(runner.get_loop()))


async def hear_of_a_clear(tiers, _):
    tiers.clear_own(Selector(model="first/m"))


CLEARS = {
    "own": lambda tiers, _: tiers.clear(Selector(model="first/m")),
    "another's": hear_of_a_clear,
    "of known entries": lambda tiers, entry: tiers.remove([entry.head()]),
}


@pytest.mark.parametrize("clear", CLEARS.values(), ids=CLEARS)
async def test_a_store_that_comes_back_from_before_a_clear_is_cleared_again(path, clear):
    """What was made after the clear stays."""
    key = await shared(path)
    entry = path.far.entries[key]
    path.clock.now += 100
    await clear(path.tiers, entry)
    path.clock.now += 100
    path.first.replies.append(completion())
    await path.ask(question("New?"))
    (new,) = set(path.far.entries) - {key}
    path.clock.now += 100
    path.far.entries[key] = entry
    path.bulletin.notices.clear()
    path.tiers.forget()
    await turns()
    assert list(path.far.entries) == [new]
    ((notice),) = path.bulletin.notices
    assert notice.selector.older_than == pytest.approx(200 - SKEW_SECONDS)
    path.tiers.forget()
    await turns()
    assert len(path.bulletin.notices) == 1


def test_it_is_cleared_again_as_soon_as_it_can_be(path):
    async def miss(loop: HandMovedLoop) -> None:
        key = await shared(path)
        entry = path.far.entries[key]
        path.clock.now += 100
        await path.tiers.clear(ALL)
        path.far.entries[key] = entry
        path.far.down = path.bulletin.down = True
        path.tiers.forget()
        await turns()
        path.far.down = False
        loop.now += RETRY_SECONDS
        await turns()
        assert path.far.entries == {}

    with asyncio.Runner(loop_factory=HandMovedLoop) as runner:
        runner.run(miss(runner.get_loop()))


async def test_a_store_of_this_nodes_own_comes_back_from_nowhere(path):
    key = await fill(path)
    entry = path.far.entries[key]
    await path.tiers.clear(ALL)
    path.far.entries[key] = entry
    path.tiers.forget()
    await turns()
    assert path.far.entries


async def test_after_a_gap_nothing_in_memory_is_trusted(path):
    key = await shared(path)
    path.tiers._lately.clear()  # noqa: SLF001 - it was long ago
    epoch = path.tiers.epoch
    path.tiers.forget()
    await turns()
    assert path.near.entries == {}
    assert list(path.far.entries) == [key]
    assert path.tiers.cleared_since(epoch, "anybody")
