"""Clearing by similarity: what is found, whose it is, and how much work that may be."""

import asyncio

import msgspec
import numpy as np
import pytest

from sentinel_gateway.core.bulletin import CacheCleared, SimilarCleared
from sentinel_gateway.core.caching import Entry, NotStorable, Selector, Wish
from sentinel_gateway.errors import EmbedderDown, InvalidField, StoreDown
from sentinel_gateway.pipeline.purge import Purge, Purged, PurgeLimits
from sentinel_gateway.pipeline.tiers import LATE_SECONDS
from sentinel_gateway.vectors.memory import IndexLimits, MemoryIndex
from tests.fakes import FakeClock, FakeEmbedder, completion
from tests.gateway import until
from tests.pipeline.conftest import Path, question
from tests.pipeline.test_tiers import asked_by

pytestmark = pytest.mark.anyio

POISON = "Is the bank safe?"
REWORDED = "Is a bank so safe?"
OTHER = "What is the capital of France?"
LEAST = 0.9


class Scene:
    """Answers to questions of some tenants, each in a scope of its own unless they share one as a `group`."""

    def __init__(self, index=True, **limits):
        self.path = path = Path(semantic=index)
        self.purge = Purge(
            path.semantic, path.tiers, path.bulletin, clock=path.clock, events=path.events, limits=PurgeLimits(**limits)
        )

    async def keep(self, text, *, tenant="a", group=None, **fields):
        self.path.first.replies.append(completion())
        journey = asked_by(self.path, tenant)
        journey.tenant, journey.wish = group or tenant, Wish(read=False)
        reply, _ = await self.path.ask(question(text, **fields), journey)
        return reply.plan.key

    async def clear(self, text=POISON, least=LEAST, **selector):
        return await self.purge.clear(Selector(**selector), text, least)

    @property
    def kept(self):
        path = self.path
        assert set(path.near.entries) == set(path.far.entries) >= set(path.index.heads)
        return set(path.near.entries)


@pytest.fixture
def scene():
    return Scene()


async def test_what_is_similar_goes_from_every_tier_and_the_rest_stays(scene):
    gone = [await scene.keep(POISON), await scene.keep(REWORDED)]
    stays = await scene.keep(OTHER)
    assert scene.kept == {*gone, stays}
    assert await scene.clear() == Purged(2, whole=True)
    assert scene.kept == {stays}


async def test_questions_that_have_no_vector_yet_are_compared_as_well(scene):
    """Each alone in its scope, as most are."""
    for temperature in (0.1, 0.5, 0.9):
        await scene.keep(POISON, temperature=temperature)
    assert len({head.scope for head in scene.path.index.heads.values()}) == 3
    assert scene.path.index.vectors == {}
    assert await scene.clear() == Purged(3, whole=True)
    assert scene.kept == set()


async def test_only_what_the_selector_matches(scene):
    mine, theirs = await scene.keep(POISON, tenant="a"), await scene.keep(POISON, tenant="b")
    assert await scene.clear(tenant="b") == Purged(1, whole=True)
    assert scene.kept == {mine}
    assert await scene.clear(tenant="c") == Purged(0, whole=True)
    assert theirs not in scene.kept


async def test_of_those_who_share_a_scope_only_the_selected():
    """A cache group: others that are as near don't hide the one that is meant."""
    scene = Scene()
    others = {await scene.keep(POISON, tenant="b", group="g", seed=number) for number in range(3)}
    await scene.keep(POISON, tenant="a", group="g", seed=9)
    assert len({head.scope for head in scene.path.index.heads.values()}) == 1
    assert await scene.clear(tenant="a") == Purged(1, whole=True)
    assert scene.kept == others


async def test_as_similar_as_asked_for(scene):
    similar = scene.path.embedder.vector(POISON) @ scene.path.embedder.vector(REWORDED)
    await scene.keep(REWORDED)
    assert (await scene.clear(least=float(similar) + 0.01)).removed == 0
    assert (await scene.clear(least=float(similar))).removed == 1
    await scene.keep(POISON)
    assert (await scene.clear(least=1.0)).removed == 1


async def test_many_are_alike():
    scene = Scene(keys=4)
    for number in range(9):
        await scene.keep(POISON, seed=number)
    await scene.keep(OTHER)
    assert await scene.clear() == Purged(9, whole=True)


async def test_half_of_a_large_scope():
    """In an index that finds neighbours by a short list of those that look near: all are compared, not those alone."""
    clock, count = FakeClock(), 2000
    index = MemoryIndex(model="letters", dimension=128, limits=IndexLimits(), clock=clock)
    scene = Scene(index)
    entry = Entry(key="", body=b"{}", model="first/m", created=clock.now, expires=clock.now + 60, scope="scope", text="?")
    entries = [msgspec.structs.replace(entry, key=str(number)) for number in range(count)]
    for each in entries:
        scene.path.tiers.keep(each)
    vectors = np.random.default_rng(1).standard_normal((count, 128)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    await index.attach([(each.head(), vector) for each, vector in zip(entries, vectors, strict=True)])
    near = vectors @ FakeEmbedder.vector(POISON)
    purged = await scene.clear(least=0.0)
    assert purged.whole
    assert {str(number) for number in np.flatnonzero(near < -0.01)} <= scene.path.far.entries.keys()
    assert scene.path.far.entries.keys().isdisjoint(str(number) for number in np.flatnonzero(near >= 0))
    assert scene.path.near.entries.keys() == scene.path.far.entries.keys()
    assert purged.removed == count - len(scene.path.far.entries) == count - index.size()[0]
    await index.close()


async def test_what_is_under_way_is_not_kept(scene):
    """Nobody can compare it yet; and nothing has to be found for that."""
    hold = asyncio.Event()
    scene.path.first.replies += [hold, completion()]
    asking = asyncio.create_task(scene.path.ask(question(POISON), asked_by(scene.path, "a")))
    await scene.path.first.reached.wait()
    assert await scene.clear(tenant="a") == Purged(0, whole=True)
    hold.set()
    _, journey = await asking
    assert journey.kept == NotStorable("cleared-meanwhile")


async def test_other_nodes_are_told_to_look_into_what_is_theirs(scene):
    await scene.keep(POISON)
    await scene.clear(tenant="a")
    told = [notice for notice in scene.path.bulletin.notices if isinstance(notice, SimilarCleared)]
    assert len(told) == 1
    assert (told[0].selector, told[0].model, told[0].least) == (Selector(tenant="a"), "letters", LEAST)
    assert POISON.encode() not in told[0].vector
    assert scene.path.bulletin.notices[-1] == CacheCleared(
        Selector(tenant="a", keys=scene.path.bulletin.notices[-1].selector.keys)
    )


async def hear(scene, notice):
    scene.purge.follow(notice)
    await until(lambda: not scene.purge._following)  # noqa: SLF001 - done for others


def similar(selector, least=LEAST):
    return SimilarCleared(selector, "letters", FakeEmbedder.vector(POISON).tobytes(), least)


@pytest.fixture
def node(scene):
    """One of several: Redis and the index are shared."""
    scene.path.far.shared = scene.path.index.shared = True
    return scene


async def test_what_a_node_has_just_stored_is_compared_by_itself(node):
    """In a shared index it may not stand yet, so that nobody else sees it. What was stored long ago all can see."""
    await node.keep(POISON, tenant="long ago")
    node.path.clock.now += LATE_SECONDS + 1
    gone = await node.keep(REWORDED)
    stay = [await node.keep(OTHER), await node.keep(POISON, tenant="another"), await node.keep(POISON, tenant="long ago", seed=1)]
    node.path.index.heads.clear()
    await hear(node, similar(Selector(tenant="a")))
    assert len(node.path.far.entries) == 4
    assert gone not in node.path.far.entries
    assert node.path.far.entries.keys() == node.path.near.entries.keys() > set(stay)
    assert node.path.bulletin.notices == [CacheCleared(Selector(tenant="a", keys=frozenset({gone})))]


async def test_whoever_clears_compares_what_it_has_just_stored(node):
    await node.keep(POISON)
    node.path.index.heads.clear()
    assert await node.clear() == Purged(1, whole=True)
    assert [notice for notice in node.path.bulletin.notices if isinstance(notice, SimilarCleared)] == [similar(Selector())]
    assert node.path.far.entries == {}


@pytest.mark.parametrize("why", ["embedder", "too many"])
async def test_what_was_just_stored_and_cannot_be_compared_is_taken_for_similar(why):
    scene = Scene(texts=1 if why == "too many" else 5)
    scene.path.far.shared = scene.path.index.shared = True
    await scene.keep(OTHER)
    await scene.keep(OTHER, seed=1)
    scene.path.embedder.down = why == "embedder"
    await hear(scene, similar(Selector()))
    assert len(scene.path.far.entries) == (0 if why == "embedder" else 1)


@pytest.mark.parametrize("fault", ["embedder", "index", "time"])
async def test_what_was_not_ended_for_another_node_is_told(fault):
    scene = Scene(seconds=0 if fault == "time" else 30)
    await scene.keep(POISON)
    if fault != "time":
        getattr(scene.path, fault).down = True
    await hear(scene, similar(Selector()))
    reason = {
        "embedder": "told to",
        "index": "compare the stored questions: told to",
        "time": "not all questions could be compared in time",
    }
    assert scene.path.events.notes == [("purge_incomplete", {"reason": reason[fault]})]
    assert scene.kept


async def test_a_purge_ends_in_time_also_where_nothing_needs_a_vector():
    """A large index in which little is the caller's."""
    scene = Scene(seconds=20)
    for number in range(3):
        await scene.keep(POISON, tenant=str(number))
    await scene.clear(OTHER)
    clock, told = scene.path.clock, scene.path.index.questions

    async def slowly(selector, now):
        async for page in told(selector, now):
            clock.now += 11
            yield page

    scene.path.index.questions = slowly
    assert await scene.clear() == Purged(1, whole=False)


async def test_a_question_is_compared_also_where_its_vector_cannot_be_kept(scene):
    await scene.keep(POISON)

    async def refuse(vectors):
        raise StoreDown("told to")

    scene.path.index.attach = refuse
    assert await scene.clear() == Purged(1, whole=True)


async def test_a_purge_makes_so_many_vectors_and_the_next_goes_on():
    scene = Scene(texts=3)
    for number in range(5):
        await scene.keep(POISON, tenant=str(number))
    assert await scene.clear() == Purged(3, whole=False)
    assert await scene.clear() == Purged(2, whole=True)


async def test_a_purge_takes_so_long_and_no_longer():
    scene = Scene(seconds=20)
    for number in range(3):
        await scene.keep(POISON, tenant=str(number))
    embed, clock = scene.path.embedder.embed, scene.path.clock

    async def slowly(texts):
        clock.now += 11
        return await embed(texts)

    scene.path.embedder.embed = slowly
    assert await scene.clear() == Purged(2, whole=False)
    assert await scene.clear() == Purged(1, whole=True)


async def test_many_are_cleared_some_at_a_time():
    scene = Scene(keys=4)
    for number in range(10):
        await scene.keep(POISON, seed=number)
    assert await scene.clear() == Purged(10, whole=True)
    told = [notice.selector.keys for notice in scene.path.bulletin.notices if isinstance(notice, CacheCleared)]
    assert max(map(len, told)) == 4
    assert scene.kept == set()


async def test_a_text_that_cannot_be_compared_is_refused_before_anything_is_done(scene):
    await scene.keep(POISON)
    scene.path.embedder.too_long.add(POISON)
    with pytest.raises(InvalidField) as refused:
        await scene.clear()
    assert refused.value.param == "similar_to"
    assert scene.path.bulletin.notices == []


async def test_outages_are_told(scene):
    await scene.keep(POISON)
    scene.path.embedder.down = True
    with pytest.raises(EmbedderDown):
        await scene.clear()
    scene.path.embedder.down = False
    scene.path.index.down = True
    with pytest.raises(StoreDown, match=r"questions: told to$"):
        await scene.clear()


async def test_two_at_once_wait_for_each_other(scene):
    for number in range(4):
        await scene.keep(POISON, tenant=str(number))
    purged = await asyncio.gather(scene.clear(), scene.clear())
    assert sum(one.removed for one in purged) == 4


async def test_what_is_done_for_others_ends_at_a_stop(scene):
    scene.path.embedder.hold = asyncio.Event()
    await scene.keep(POISON)
    vector = scene.path.embedder.vector(POISON).tobytes()
    scene.purge.follow(SimilarCleared(Selector(), "letters", vector, LEAST))
    await asyncio.sleep(0)
    assert "1 for others" in repr(scene.purge)
    await scene.purge.close()
    assert "0 for others" in repr(scene.purge)
    assert scene.purge.usual == 0.95
    assert scene.purge.least == 0.7


# --- looking, and removing nothing ---


async def test_a_preview_tells_what_a_clear_would_remove(scene):
    alike = {await scene.keep(POISON, tenant="a"), await scene.keep(REWORDED, tenant="b")}
    other = await scene.keep(OTHER)
    found, whole = await scene.purge.preview(Selector(), POISON, LEAST, sample=1)
    assert (found.count, len(found.sample), whole) == (2, 1, True)
    found, _ = await scene.purge.preview(Selector(tenant="b"), POISON, LEAST, sample=9)
    assert {head.key for head in found.sample} < alike
    assert scene.kept == {*alike, other}


async def test_a_preview_compares_what_this_node_has_just_stored(node):
    key = await node.keep(POISON)
    node.path.index.heads.clear()
    found, _ = await node.purge.preview(Selector(), POISON, LEAST, sample=9)
    assert [head.key for head in found.sample] == [key]


async def test_a_preview_says_that_it_has_not_seen_all():
    scene = Scene(texts=1)
    for number in range(2):
        await scene.keep(POISON, tenant=str(number))
    found, whole = await scene.purge.preview(Selector(), POISON, LEAST, sample=9)
    assert (found.count, whole) == (1, False)


async def test_a_search_finds_what_is_similar_and_how_much(scene):
    key = await scene.keep(POISON)
    await scene.keep(OTHER)
    found = await scene.purge.search(Selector(), REWORDED, LEAST, seconds=5.0)
    similarity = scene.path.embedder.vector(POISON) @ scene.path.embedder.vector(REWORDED)
    assert {near.head.key: near.similarity for near in found.near.values()} == {key: pytest.approx(float(similarity))}
    assert found.whole
    assert len(scene.kept) == 2


@pytest.fixture
def go_on(scene):
    """The index tells of no question before this is set."""
    told, hold = scene.path.index.questions, asyncio.Event()

    async def slowly(selector, now):
        await hold.wait()
        async for page in told(selector, now):
            yield page

    scene.path.index.questions = slowly
    return hold


async def test_a_search_that_takes_long_goes_on_beside(scene, go_on):
    key = await scene.keep(POISON)
    found = await scene.purge.search(Selector(), POISON, LEAST, seconds=0.0)
    assert (found.near, found.whole) == ({}, False)
    go_on.set()
    await until(lambda: found.whole)
    assert found.near.keys() == {key}


async def test_a_newer_search_takes_the_place_of_an_older_one(scene, go_on):
    await scene.keep(POISON)
    older = await scene.purge.search(Selector(), POISON, LEAST, seconds=0.0)
    searching = asyncio.create_task(scene.purge.search(Selector(), REWORDED, LEAST, seconds=5.0))
    await asyncio.sleep(0)
    go_on.set()
    assert (await searching).whole
    assert (older.near, older.whole) == ({}, False)


async def test_a_search_tells_of_outages_and_of_a_text_that_cannot_be_compared(scene):
    await scene.keep(POISON)
    scene.path.embedder.fail_after = len(scene.path.embedder.batches) + 1  # the text has a vector, what is stored gets none
    with pytest.raises(EmbedderDown):
        await scene.purge.search(Selector(), POISON, LEAST, seconds=5.0)
    scene.path.embedder.fail_after, scene.path.index.down = None, True
    with pytest.raises(StoreDown, match="compare the stored questions"):
        await scene.purge.search(Selector(), POISON, LEAST, seconds=5.0)
    scene.path.embedder.too_long.add(POISON)
    with pytest.raises(InvalidField) as refused:
        await scene.purge.search(Selector(), POISON, LEAST, seconds=5.0)
    assert refused.value.param == "like"
