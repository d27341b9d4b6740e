"""What whoever administrates sees of the tiers, and changes in them: pages, entries one by one, previews, pins."""

import asyncio

import pytest
from msgspec.structs import replace

from sentinel_gateway.core.browsing import FOREVER, Selection, View
from sentinel_gateway.core.bulletin import EntryAmended
from sentinel_gateway.core.caching import NotStorable, Selector
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.pipeline import pins
from sentinel_gateway.pipeline.reply import Cached
from tests.fakes import START, FakeFar, completion, turns
from tests.pipeline.conftest import question
from tests.pipeline.test_tiers import ALL, fill

pytestmark = pytest.mark.anyio


class Late(FakeFar):
    """Fails so many `times` before it answers."""

    times = 0

    async def get(self, key):
        if self.times:
            self.times -= 1
            raise StoreDown("late")
        return await super().get(key)


async def refuse(*_):
    raise StoreDown("told to")


@pytest.fixture
async def late(make_path):
    path = make_path(far=Late())
    yield path
    await path.tiers.close()


async def keys(path, tier, after=None, most=9):
    page = await path.tiers.page(View(), tier, after=after, most=most)
    return [head.key for head in page.heads], page.next


async def test_memory_and_the_farther_tier_are_looked_through_each_by_itself(path):
    key = await fill(path)
    path.far.entries["older"] = replace(path.far.entries[key], key="older", created=START - 1)
    assert await keys(path, "memory") == ([key], None)
    first, behind = await keys(path, "disk", most=1)
    assert (first, await keys(path, "disk", behind)) == ([key], (["older"], None))


async def test_each_tier_says_in_which_orders(path, make_path):
    path.far.orders = frozenset({"created"})
    assert path.tiers.lasting == "disk"
    assert path.tiers.orders("disk") == {"created"}
    assert path.tiers.orders("memory") == {"created", "expires"}
    assert make_path(far=False).tiers.lasting is None


async def test_without_a_farther_tier_memory_is_looked_through(make_path):
    path = make_path(far=False)
    key = await fill(path)
    assert await keys(path, "disk") == ([key], None)
    assert await path.tiers.entry(key) == (path.near.entries[key], "memory")
    assert await path.tiers.preview(ALL, sample=9) == Selection(1, (path.near.entries[key].head(),))


async def test_an_entry_is_told_as_the_farthest_tier_has_it(path):
    key = await fill(path)
    assert await path.tiers.entry(key) == (path.far.entries.pop(key), "disk")
    assert await path.tiers.entry(key) == (path.near.entries.pop(key), "memory")
    assert await path.tiers.entry(key) is None


async def test_a_preview_tells_of_the_tier_that_holds_more(path):
    key = await fill(path)
    near, far = path.near.entries[key].head(), path.far.entries[key].head()
    path.far.entries["b"] = replace(path.far.entries[key], key="b", model="first/other")
    assert await path.tiers.preview(ALL, sample=1) == Selection(2, (far,))
    assert await path.tiers.preview(Selector(model="first/m"), sample=9) == Selection(1, (far,))
    path.far.entries.clear()
    assert await path.tiers.preview(ALL, sample=0) == Selection(1)
    assert await path.tiers.preview(ALL, sample=9) == Selection(1, (near,))


async def test_entries_are_counted_by_the_tier_that_holds_more(path):
    key = await fill(path)
    path.far.entries["another"] = path.far.entries[key]
    assert await path.tiers.count() == 2
    path.far.count = refuse
    assert await path.tiers.count() == 1


# --- pins ---


async def test_no_newer_answer_takes_the_place_of_one_that_is_pinned(path):
    key = await fill(path)
    pinned = await path.tiers.amend(key, expires=FOREVER)
    assert pinned == path.far.entries[key]
    assert pinned.expires == FOREVER
    assert (path.tiers.pins.keys, repr(path.tiers.pins)) == ({key}, "<Pins 1>")
    assert path.bulletin.notices == [EntryAmended(key)]
    path.first.replies.append(completion("Lyon."))
    _, journey = await path.ask(question(), path.journey(read=False))
    assert journey.kept == NotStorable("pinned")
    path.clock.now += 1_000_000
    reply, _ = await path.ask(question())
    assert isinstance(reply, Cached)
    assert reply.hit.entry.body == pinned.body


async def test_memory_asks_anew_for_what_was_changed(path):
    key = await fill(path)
    await path.tiers.amend(key, expires=START + 5)
    assert path.near.entries == {}
    await path.ask(question())
    assert path.near.entries[key].expires == START + 5


async def test_what_is_pinned_and_gone_is_no_pin(path):
    """A Redis may evict whatever it likes."""
    key = await fill(path)
    await path.tiers.amend(key, expires=FOREVER)
    del path.far.entries[key]
    path.first.replies.append(completion())
    await path.ask(question())
    assert path.tiers.pins.keys == frozenset()
    assert key in path.far.entries


async def test_a_clear_takes_pins_along(path):
    await path.tiers.amend(await fill(path), expires=FOREVER)
    await path.tiers.clear(ALL)
    await turns()
    assert path.tiers.pins.keys == frozenset()


async def test_what_another_node_has_pinned_is_known_here(path):
    key = await fill(path)
    path.far.entries[key] = replace(path.far.entries[key], expires=FOREVER)
    path.tiers.amended(key)
    await turns()
    assert (path.near.entries, path.tiers.pins.keys) == ({}, {key})


async def test_pins_are_read_to_their_last_page(path, monkeypatch):
    monkeypatch.setattr(pins, "AT_ONCE", 2)
    entry = path.far.entries[await fill(path)]
    pinned = {str(number) for number in range(5)}
    path.far.entries |= {key: replace(entry, key=key, expires=FOREVER) for key in pinned}
    await path.tiers.pins.read()
    assert path.tiers.pins.keys == pinned


async def test_without_a_farther_tier_nothing_is_pinned(make_path):
    path = make_path(far=False)
    assert await path.tiers.amend(await fill(path), expires=FOREVER) is None
    await path.tiers.pins.read()
    assert path.tiers.pins.keys == frozenset()


async def test_what_nobody_has_is_not_changed(path):
    assert await path.tiers.amend("nobody's", expires=FOREVER) is None
    assert path.far.puts == 0


async def test_what_is_cleared_meanwhile_is_not_brought_back(path):
    key = await fill(path)
    path.far.hold, path.far.reached = asyncio.Event(), asyncio.Event()
    amending = asyncio.create_task(path.tiers.amend(key, expires=FOREVER))
    await path.far.reached.wait()
    path.tiers.clear_own(ALL)
    path.far.hold.set()
    assert await amending is None
    await turns()
    assert path.far.entries == {}


async def test_of_several_nodes_each_hears_and_the_question_moves_along(make_path):
    path = make_path(semantic=True)
    path.far.shared = True
    key = await fill(path)
    path.index.vectors[key] = path.embedder.vector("?")
    after = await path.tiers.amend(key, expires=START + 5)
    assert path.index.heads[key] == after.head()
    assert path.tiers.late(ALL) == [after.head()]


@pytest.mark.parametrize("broken", ["takes", "promises", "lost"])
async def test_a_change_that_was_not_taken_is_told(path, broken):
    key = await fill(path)
    if broken == "lost":
        path.far.put = lambda _: True
    else:
        setattr(path.far, broken, False)
    with pytest.raises(StoreDown, match="the change was not taken"):
        await path.tiers.amend(key, expires=FOREVER)
    assert path.bulletin.notices == []


async def test_others_that_can_t_be_told_and_entries_of_others_that_were_lost_undo_no_change(path):
    key = await fill(path)
    path.far.flush, path.bulletin.down = refuse, True
    assert (await path.tiers.amend(key, expires=FOREVER)).expires == FOREVER


@pytest.mark.parametrize("times", [1, 3, 4])
async def test_a_store_that_is_only_late_is_asked_again(late, monkeypatch, times):
    monkeypatch.setattr(pins, "PAUSE", 0.0)
    key = await fill(late)
    late.far.times = times
    if times < pins.TRIES:
        assert await late.tiers.entry(key) == (late.far.entries[key], "disk")
    else:
        with pytest.raises(StoreDown, match="late"):
            await late.tiers.entry(key)
