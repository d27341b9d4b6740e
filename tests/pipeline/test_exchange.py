"""Nodes learn from the same lessons: what one has seen, all know; one works out what follows, and all go by that."""

import asyncio
import math
import random
from collections.abc import AsyncIterator, Callable

import pytest

from sentinel_gateway.core.calibration import Calibrator
from sentinel_gateway.core.evidence import Lesson
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.pipeline import exchange, wards
from sentinel_gateway.pipeline.calibration import Calibration
from sentinel_gateway.pipeline.exchange import CUT_OFF, TURN, Exchange
from sentinel_gateway.ports import News
from tests.fakes import FakeClock, FakeEvents, FakeLearners, FakeLessons
from tests.gateway import until
from tests.pipeline.test_calibration import HERE, THERE, bar, lesson, neighbour

pytestmark = pytest.mark.anyio

Nodes = list[Calibration]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store() -> FakeLearners:
    return FakeLearners()


@pytest.fixture
def lessons(store) -> FakeLessons:
    return FakeLessons(store)


@pytest.fixture
def events() -> FakeEvents:
    return FakeEvents()


@pytest.fixture
def node(store, lessons, clock, events, monkeypatch) -> Callable[[str], Calibration]:
    """One more, not opened."""
    monkeypatch.setattr(exchange, "PAUSE", 0.001)
    return lambda name: Calibration(store, clock, events, exchange=Exchange(lessons, name, clock, events))


@pytest.fixture
async def nodes(node, anyio_backend) -> AsyncIterator[Nodes]:
    both = [node("one"), node("two")]
    for one in both:
        await one.open()
        bar(one)
        await one.ready(HERE)
    yield both
    for one in both:
        await one.close()


def way(one: Calibration) -> Exchange:
    return one._exchange  # noqa: SLF001 - nothing tells how far it is


async def settled(lessons, *nodes) -> None:
    """All have heard all, and go by what follows from it."""

    def is_quiet(one: Calibration) -> bool:
        there = way(one)
        heard = there._position == lessons.last and not there._waiting  # noqa: SLF001 - as above
        return heard and one._refitting is None and not one._errands  # noqa: SLF001 - as above

    for _ in range(3):  # what is kept is read with the next exchange
        await until(lambda: all(map(is_quiet, nodes)))
        await asyncio.sleep(0.01)


async def teach(one: Calibration, count: int, where: str = HERE, *, wrong_below: float = 0.85, seed: int = 1) -> None:
    chance = random.Random(seed)
    for number in range(count):
        similarity = chance.uniform(0.75, 1.0)
        near = neighbour("how do I pay", similarity, chr(97 + number % 20))
        weighed = await one.weigh(where, "how do I pay?", near, (near,))
        one.learn(where, lesson(near.head.key, weighed, right=similarity >= wrong_below))


def standing(one: Calibration, where: str = HERE) -> tuple[int, bool, float | None]:
    return next((found.labels, found.decides, found.threshold) for found in one.standings(0.01) if found.realm == where)


def seen(one: Calibration, where: str = HERE) -> int:
    """Requests that it has learned from."""
    return len(one._wards.get(where).learner._window)  # noqa: SLF001 - as above


async def test_what_is_too_little_for_each_is_enough_together(nodes, lessons, clock):
    for seed in range(16):
        for number, one in enumerate(nodes):
            await teach(one, 10, seed=10 * seed + number)
        clock.now += 1
        await settled(lessons, *nodes)
    one, two = (standing(node) for node in nodes)
    assert one == two
    assert one[0] >= 300, "and each has seen 160"
    assert one[1], "labels decide"
    assert math.isfinite(one[2])
    assert len({bar(node) for node in nodes}) == 1
    assert seen(nodes[0]) == seen(nodes[1]) == 320


async def test_what_one_has_closed_is_closed_on_all(nodes, lessons):
    one, two = nodes
    assert bar(two).confidence is None
    await teach(one, 40, wrong_below=1.1)
    await settled(lessons, one, two)
    assert bar(one).confidence == bar(two).confidence == math.inf
    assert bar(two, similarity_threshold=0.8).similarity == math.inf


async def test_one_node_works_out_what_follows_and_another_when_it_is_gone(nodes, lessons, store, clock):
    lessons.turns[HERE] = "dead", clock.now + TURN
    await teach(nodes[0], 30)
    await settled(lessons, *nodes)
    assert [standing(node)[0] for node in nodes] == [0, 0]
    assert store.kept == {}
    clock.now += TURN
    await teach(nodes[1], 1, seed=2)
    await settled(lessons, *nodes)
    assert [standing(node)[0] for node in nodes] == [31, 31]
    assert lessons.marked == [(HERE, 31)], "once"


async def test_a_node_that_comes_later_knows_all_of_it(nodes, lessons, node, clock):
    await teach(nodes[0], 30)
    await settled(lessons, *nodes)
    await teach(nodes[0], 5, seed=2)
    await teach(nodes[0], 3, THERE, seed=3)
    await settled(lessons, *nodes)
    late = node("three")
    await late.open()
    for where in (HERE, THERE):
        bar(late, where)
        await late.ready(where)
    assert (seen(late), standing(late)[0], seen(late, THERE)) == (35, 30, 3)
    await teach(nodes[1], 2, seed=4)
    await settled(lessons, *nodes, late)
    assert seen(late) == 37
    await late.close()


async def test_what_is_said_elsewhere_takes_the_place_of_what_was_said_here(nodes, lessons):
    one, two = nodes
    near = neighbour("how do I pay", 0.9)
    about = Lesson(entry="k", weighed=await one.weigh(HERE, "how do I pay?", near, (near,)), decision="d")
    one.learn(HERE, replaced(about, right=True, weight=50.0))
    await settled(lessons, *nodes)
    two.amend(HERE, replaced(about, right=False, weight=0.0), drawn=True, again=False)
    await settled(lessons, *nodes)
    for each in nodes:
        (row,) = rows(each)
        assert (row[2], row[3]) == (0.0, 50.0), "its weight is that of the draw"
    one.forget(HERE, about)
    two.amend(HERE, replaced(about, right=True, weight=0.0), drawn=True, again=True)
    await settled(lessons, *nodes)
    for each in nodes:
        (row,) = rows(each)
        assert math.isnan(row[2]), "it was forgotten, and is not said anew"


def replaced(about: Lesson, **changes) -> Lesson:
    return Lesson(**{name: getattr(about, name) for name in about.__struct_fields__} | changes)


def rows(one: Calibration) -> list[tuple]:
    return [row for block in one._wards.get(HERE).learner.work().blocks for row in block.tolist()]  # noqa: SLF001 - as above


async def test_while_the_database_is_away_lessons_wait_and_it_is_said_once(nodes, lessons, events):
    lessons.down = True
    await teach(nodes[0], 5)
    await until(lambda: len(events.notes) == 2)
    await asyncio.sleep(0.02)
    assert [event for event, _ in events.notes] == ["learning_waits"] * 2, "once by each node"
    assert seen(nodes[0]) == 0
    lessons.down = False
    await settled(lessons, *nodes)
    assert [seen(each) for each in nodes] == [5, 5]


async def test_no_more_wait_than_there_is_room_for(nodes, lessons, events, monkeypatch):
    monkeypatch.setattr(exchange, "WAITING", 3)
    lessons.down = True
    await teach(nodes[0], 5)
    lessons.down = False
    await settled(lessons, *nodes)
    assert seen(nodes[1]) == 3
    assert "too much waits" in str(events.notes)


@pytest.mark.parametrize("how", ["cut off for long", "another database"])
async def test_who_may_have_missed_something_has_all_brought_back(nodes, lessons, store, clock, how):
    await teach(nodes[0], 30)
    await settled(lessons, *nodes)
    for each in nodes:
        each._wards.get(HERE).calibrator.learner.adopt(None)  # noqa: SLF001 - what is in memory can't be used any more
    if how == "another database":
        lessons.told.clear()
        lessons.last = 0
        store.kept.clear()
        store.at.clear()
        store.lessons.clear()
    else:
        clock.now += CUT_OFF + 1
    await until(lambda: all(len(each._wards) == 0 for each in nodes))  # noqa: SLF001 - as above
    for each in nodes:
        bar(each)
        await each.ready(HERE)
    labels = 0 if how == "another database" else 30
    assert [(seen(each), standing(each)[0]) for each in nodes] == [(labels, labels)] * 2


async def test_what_a_newer_sentinel_tells_is_passed_over(nodes, lessons, events):
    await lessons.tell([("x", HERE, b"\xc1"), ("y", HERE, b"\x80")], 0.0)
    await teach(nodes[0], 2)
    await settled(lessons, *nodes)
    assert ([seen(each) for each in nodes], events.notes) == ([2, 2], [])


async def test_a_lesson_that_a_learner_trips_over_keeps_none_of_the_later_ones_away(nodes, lessons, events, monkeypatch):
    tripped = []

    def odd(realm, number, taught):
        tripped.append(number)
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(nodes[1], "hear", odd)
        await teach(nodes[0], 1)
        await until(lambda: tripped)
    await teach(nodes[0], 2)
    await settled(lessons, *nodes)
    assert (tripped, seen(nodes[0]), seen(nodes[1])) == ([1], 3, 2)
    assert "evidence_failed" in [event for event, _ in events.notes]


async def test_nor_does_it_keep_a_learner_from_being_brought_back(nodes, lessons, node, events, monkeypatch):
    await teach(nodes[0], 5)
    await settled(lessons, *nodes)
    truly, late = Calibrator.take, node("three")

    def trip(calibrator, taught):
        if not events.notes:
            raise RuntimeError
        truly(calibrator, taught)

    with monkeypatch.context() as patch:
        patch.setattr(Calibrator, "take", trip)
        await late.open()
        bar(late)
        await late.ready(HERE)
    assert (seen(late), [event for event, _ in events.notes]) == (4, ["evidence_failed"])
    await late.close()


async def test_what_a_slow_realm_was_taught_is_there_for_who_found_what_was_kept_before(nodes, lessons, store, node, clock):
    """Its lessons are older than an hour in the moment in which they become part of what is kept."""
    await teach(nodes[0], 30)
    await settled(lessons, *nodes)
    before = store.kept[HERE], store.at[HERE], store.lessons[HERE]
    await teach(nodes[0], 10, seed=2)
    await settled(lessons, *nodes)
    clock.now += CUT_OFF
    await settled(lessons, *nodes)
    clock.now += CUT_OFF
    await settled(lessons, *nodes)
    await teach(nodes[0], 20, seed=3)
    await settled(lessons, *nodes)
    assert store.lessons[HERE] > before[2], "kept anew"
    late = node("three")
    await late.open()
    await teach(nodes[1], 1, THERE)
    await settled(lessons, *nodes)
    store.kept[HERE], store.at[HERE], store.lessons[HERE] = before
    bar(late)
    await late.ready(HERE)
    assert seen(late) == 60
    await late.close()


async def test_an_hour_after_they_were_kept_lessons_go(nodes, lessons, clock):
    await teach(nodes[0], 30)
    await settled(lessons, *nodes)
    for _ in range(3):
        clock.now += CUT_OFF - 1
        await settled(lessons, *nodes)
    await teach(nodes[0], 1, THERE)
    await settled(lessons, *nodes)
    assert [told.number for told in lessons.told.values()] == [*range(lessons.marked[0][1] + 1, 32)]


async def test_who_was_frozen_keeps_nothing_over_what_was_made_of_more(nodes, lessons, store):
    one = nodes[0]
    await teach(one, 30)
    await settled(lessons, *nodes)
    ward = one._wards.get(HERE)  # noqa: SLF001 - as above
    store.lessons[HERE], store.kept[HERE], marked = ward.lesson + 1, b"later", list(lessons.marked)
    ward.changed = True
    await one._keep(HERE, ward)  # noqa: SLF001 - as above
    assert (store.kept[HERE], lessons.marked) == (b"later", marked)
    assert one._wards.get(HERE) is None, "who asks next has it brought back"  # noqa: SLF001 - as above


async def test_reasons_that_take_turns_are_told_once(nodes, lessons, events, monkeypatch):
    failed = []

    async def away(*_):
        failed.append(1)
        raise StoreDown("one thing" if len(failed) % 2 else "another")

    monkeypatch.setattr(lessons, "news", away)
    await until(lambda: len(failed) > 10)
    assert [event for event, _ in events.notes] == ["learning_waits"] * 2, "once by each node"


async def test_what_waits_at_the_end_is_told(nodes, lessons, node):
    lessons.down = True
    await teach(nodes[0], 2)
    lessons.down = False
    await nodes[0].close()
    await settled(lessons, nodes[1])
    assert seen(nodes[1]) == 2
    assert repr(way(nodes[1])).startswith("<Exchange 0 waiting, heard 2, ")


async def test_what_is_more_than_one_read_holds_is_heard_all_the_same(nodes, lessons, node, monkeypatch):
    monkeypatch.setattr(exchange, "AT_ONCE", 7)
    await teach(nodes[0], 50)
    await settled(lessons, *nodes)
    late = node("three")
    await late.open()
    bar(late)
    await late.ready(HERE)
    assert [seen(each) for each in (*nodes, late)] == [50, 50, 50]
    await late.close()


async def test_who_is_brought_back_misses_nothing_that_was_heard_meanwhile(nodes, lessons, node, monkeypatch):
    """The follower may be ahead of what was read for a learner that was not here yet."""
    await teach(nodes[0], 5)
    await settled(lessons, *nodes)
    late, truly, stale = node("three"), lessons.of, [News([], 2, {})]

    async def behind(realm, since, limit):
        found = await truly(realm, since, limit)
        return stale.pop() if stale else found

    monkeypatch.setattr(lessons, "of", behind)
    await late.open()
    bar(late)
    await late.ready(HERE)
    assert (stale, seen(late)) == ([], 3), "read up to the second, which held nothing, then on from there"
    await late.close()


async def test_where_nobody_can_have_the_turn_it_is_worked_out_later(nodes, lessons, store, monkeypatch):
    async def down(*_):
        raise StoreDown("told to")

    with monkeypatch.context() as patch:
        patch.setattr(lessons, "claim", down)
        await teach(nodes[0], 30)
        await settled(lessons, *nodes)
        assert store.kept == {}
    await teach(nodes[0], 1, seed=2)
    await settled(lessons, *nodes)
    assert [standing(each)[0] for each in nodes] == [31, 31]


async def test_what_cannot_be_read_whole_decides_by_its_fit_until_it_can(nodes, lessons, store, node):
    await teach(nodes[0], 30)
    await settled(lessons, *nodes)
    lessons.down, late = True, node("three")
    await late.open()
    bar(late)
    await late.ready(HERE)
    assert late._wards.get(HERE).extent == "fit"  # noqa: SLF001 - as above
    assert bar(late).confidence == bar(nodes[0]).confidence
    store.down = True
    await late.ready(HERE)
    assert late._wards.get(HERE).extent == "fit"  # noqa: SLF001 - as above
    lessons.down = store.down = False
    await until(lambda: way(late)._position is not None)  # noqa: SLF001 - as above
    bar(late)
    await late.ready(HERE)
    assert seen(late) == 30
    await late.close()


async def test_what_makes_room_is_made_again_of_what_was_told(nodes, lessons, store, monkeypatch):
    await teach(nodes[0], 30, THERE)  # which the other has never asked for
    await teach(nodes[0], 30)
    await settled(lessons, *nodes)
    await teach(nodes[0], 5, seed=2)
    await settled(lessons, *nodes)
    kept = dict(store.kept)
    monkeypatch.setattr(wards, "REALMS", 1)
    bar(nodes[1], THERE)
    await nodes[1].ready(THERE)
    await settled(lessons, *nodes)
    assert [found.realm for found in nodes[1].standings(0.01)] == [THERE]
    assert store.kept == kept, "who lets go of it keeps nothing over what was worked out of it"
    bar(nodes[1])
    await nodes[1].ready(HERE)
    assert (seen(nodes[1]), standing(nodes[1])[0]) == (35, 30)


async def test_one_that_was_never_opened_is_closed_without_a_word(node):
    await node("three").close()


async def test_what_was_made_of_what_may_be_worth_nothing_is_not_kept(nodes, lessons, store, monkeypatch):
    """The node has lost its learners while one was being refitted."""

    async def lose(_realm, name, *_):
        if name == "one":
            nodes[0].lose()
        return name == "one"

    monkeypatch.setattr(lessons, "claim", lose)
    await teach(nodes[0], 30)
    await settled(lessons, *nodes)
    assert store.kept == {}


async def test_a_fault_of_ours_ends_no_hearing(nodes, lessons, events, monkeypatch):
    truly, faults = lessons.news, [ZeroDivisionError("ours")]

    async def trip(since, limit):
        if faults:
            raise faults.pop()
        return await truly(since, limit)

    monkeypatch.setattr(lessons, "news", trip)
    await until(lambda: not faults)
    await teach(nodes[0], 3)
    await settled(lessons, *nodes)
    assert [seen(one) for one in nodes] == [3, 3]
    assert [(event, fields["error"]) for event, fields in events.notes] == [("evidence_failed", "ZeroDivisionError")]
