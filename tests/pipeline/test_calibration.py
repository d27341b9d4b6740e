"""The learners of a process: brought back, kept, refitted, bounded; and what an answer has to reach by them."""

import asyncio
import math
import random

import pytest

from sentinel_gateway.core import calibration as module
from sentinel_gateway.core.budget import ErrorBudget, ErrorBudgets
from sentinel_gateway.core.caching import Head, Wish
from sentinel_gateway.core.confidence.features import NAMES
from sentinel_gateway.core.confidence.learner import Fit, Learner, Prior
from sentinel_gateway.core.confidence.window import BLOCK
from sentinel_gateway.core.evidence import Fresh, Lesson, Study, Weighed, realm
from sentinel_gateway.core.identity import Question
from sentinel_gateway.core.matching import Bar, Neighbour, Thresholds
from sentinel_gateway.pipeline import calibration, wards
from sentinel_gateway.pipeline.calibration import Calibration
from sentinel_gateway.pipeline.wards import Ward, Wards
from tests.fakes import FakeClock, FakeEvents, FakeLearners
from tests.gateway import until
from tests.pipeline.loop import credulous

pytestmark = pytest.mark.anyio

HERE, THERE = realm("t", ""), realm("t", "n")
LIMITS = Thresholds(0.95, 0.7)
BUDGET = ErrorBudget(0.01, "key")


@pytest.fixture
def store() -> FakeLearners:
    return FakeLearners()


@pytest.fixture
def events() -> FakeEvents:
    return FakeEvents()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def learners(store, events, clock):
    found = Calibration(store, clock, events)
    yield found
    await found.close()


def neighbour(text: str, similarity: float, key: str = "k") -> Neighbour:
    return Neighbour(Head(key=key * 64, model="m", created=0.0, expires=1.0, text=text), similarity)


def lesson(entry, weighed, **said) -> Lesson:
    return Lesson(entry=entry, weighed=weighed, **said)


class Unrestorable(Learner):
    @classmethod
    def restore(cls, *_, **__):
        raise TypeError


async def arrived(learners, where=HERE):
    """What was kept of a realm, if anything, is there."""
    bar = learners.bar(where, Wish(), LIMITS, BUDGET)
    await asyncio.sleep(0.001)
    await until(lambda: not learners._errands)  # noqa: SLF001 - nothing tells
    return bar


async def teach(learners, count, where=HERE, *, wrong_below=0.9, weight=1.0, seed=1):
    """So many labels: what is less similar than that is wrong."""
    await arrived(learners, where)
    chance = random.Random(seed)
    for number in range(count):
        similarity = chance.uniform(0.75, 1.0)
        near = neighbour("how do I pay", similarity, chr(97 + number % 20))
        weighed = await learners.weigh(where, "how do I pay?", near, (near,))
        learners.learn(where, lesson(near.head.key, weighed, right=similarity >= wrong_below, weight=weight))
        if learners._refitting is not None:  # noqa: SLF001 - as above
            await asyncio.wait([learners._refitting])  # noqa: SLF001


def bar(learners, where=HERE, rate=0.01, **wish):
    return learners.bar(where, Wish(**wish), LIMITS, ErrorBudget(rate, "key"))


async def test_before_labels_similarity_decides(learners):
    await arrived(learners)
    assert bar(learners) == Bar(0.95, None, BUDGET)
    assert [stands.threshold for stands in learners.standings(0.01)] == [None]


async def test_who_sets_a_threshold_has_asked_for_that_alone(learners):
    await arrived(learners)
    asked = {0.0: 0.7, 0.8: 0.8, 0.99: 0.99}
    found = {wish: bar(learners, similarity_threshold=wish) for wish in asked}
    assert found == {wish: Bar(least) for wish, least in asked.items()}
    await teach(learners, 600, wrong_below=0.85)
    assert math.isfinite(bar(learners).confidence), "nothing is closed"
    assert bar(learners, similarity_threshold=0.8) == Bar(0.8)


@pytest.mark.parametrize("closed", ["budget of nothing", "nothing sure enough", "not back yet", "store away"])
async def test_no_threshold_of_a_caller_reopens_what_the_budget_has_closed(learners, store, closed):
    if closed == "nothing sure enough":
        await arrived(learners)
        learners._ward(HERE).calibrator.adopt(Fit(Prior().weights, (), 1_000))  # noqa: SLF001 - nothing proves it
    elif closed == "not back yet":
        store.hold = asyncio.Event()
    else:
        store.down = closed == "store away"
        await arrived(learners)
    rate = 0.0 if closed == "budget of nothing" else 0.01
    usual = bar(learners, rate=rate)
    found = [bar(learners, rate=rate, similarity_threshold=wish) for wish in (0.0, 0.8, 1.0)]
    if store.hold is not None:
        store.hold.set()
    assert usual.confidence == math.inf, "it is closed"
    assert found == [Bar(math.inf, math.inf, ErrorBudget(rate, "key"))] * 3


async def test_few_labels_may_tighten_and_never_loosen(learners):
    await teach(learners, 100, wrong_below=0.98)
    found = bar(learners)
    assert found.similarity == 0.95
    near = neighbour("how do I pay", 0.955)
    assert found.fails((await learners.weigh(HERE, "how do I pay?", near, (near,))).confidence)


async def test_enough_labels_decide_instead_of_the_operators_similarity(learners):
    await teach(learners, 600, wrong_below=0.85)
    found = bar(learners)
    assert found.similarity == 0.7
    right, wrong = (neighbour("how do I pay", similarity) for similarity in (0.92, 0.8))
    assert not found.fails((await learners.weigh(HERE, "how do I pay?", right, (right,))).confidence)
    assert found.fails((await learners.weigh(HERE, "how do I pay?", wrong, (wrong,))).confidence)
    assert bar(learners, rate=0.2).confidence <= found.confidence <= bar(learners, rate=0.001).confidence
    (stands,) = learners.standings(0.01)
    assert (stands.decides, stands.threshold) == (True, found.confidence)
    assert stands.labels > 300


async def test_what_one_realm_has_learned_is_nothing_to_another(learners):
    await teach(learners, 400)
    await arrived(learners, THERE)
    assert bar(learners, THERE) == Bar(0.95, None, BUDGET)


async def test_it_is_kept_and_comes_back(learners, store, events):
    await teach(learners, 400)
    before = bar(learners)
    await learners.close()
    after = Calibration(store, FakeClock(), events)
    await after.open()
    assert bar(after) == before
    assert [stands.realm for stands in after.standings(0.01)] == [HERE]
    await after.close()


async def test_until_it_has_come_back_nothing_serves_and_nothing_is_learned(learners, store):
    store.kept[HERE] = credulous()
    store.hold = asyncio.Event()
    before = bar(learners)
    near = neighbour("how do I pay", 0.9)
    for _ in range(30):
        learners.learn(HERE, lesson("k", await learners.weigh(HERE, "how do I pay?", near, (near,)), right=False))
    said = repr(learners)
    store.hold.set()
    assert before == Bar(0.95, math.inf, BUDGET)
    assert "0 to refit" in said
    await arrived(learners)
    assert bar(learners) == Bar(0.7, 0.0, BUDGET, weighed=True)
    kept = dict(store.kept)
    await learners.close()
    assert store.kept == kept, "nothing has changed"


async def test_what_cannot_be_brought_back_now_is_asked_for_again(learners, store):
    store.kept[HERE], store.down = credulous(), True
    await learners.open()
    assert await arrived(learners) == Bar(0.95, math.inf, BUDGET)
    store.down = False
    await arrived(learners)
    assert bar(learners) == Bar(0.7, 0.0, BUDGET, weighed=True)


class OneByOne(FakeLearners):
    """Writes down who was looked for, and how many at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.under_way = self.most = 0

    async def find(self, realm: str) -> bytes | None:
        self.found.append(realm)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            return await super().find(realm)
        finally:
            self.under_way -= 1


async def test_at_the_start_one_after_the_other_is_brought_back_and_what_was_kept_last_comes_first(events, clock):
    store = OneByOne()
    store.kept = {realm("t", name): credulous() for name in ("oldest", "older", "latest")}
    after = Calibration(store, clock, events)
    await after.open()
    latest_first = [realm("t", name) for name in ("latest", "older", "oldest")]
    assert (store.found, store.most) == (latest_first, 1)
    assert [stands.realm for stands in after.standings(0.01)] == latest_first
    await after.close()


async def test_at_the_start_a_store_that_goes_away_is_asked_no_further(events, clock):
    class Leaving(OneByOne):
        async def find(self, realm: str) -> bytes | None:
            self.down = True
            return await super().find(realm)

    store = Leaving()
    store.kept = {realm("t", name): credulous() for name in ("older", "latest")}
    after = Calibration(store, clock, events)
    await after.open()
    assert store.found == [realm("t", "latest")], "each would wait in vain"
    await after.close()


async def test_what_cannot_be_kept_now_is_kept_later_and_said_once(learners, store, events):
    await teach(learners, 5)
    store.down = True
    await teach(learners, 100)
    assert [event for event, _ in events.notes] == ["learning_waits"]
    store.down = False
    await teach(learners, 50)
    assert set(store.kept) == {HERE}
    store.down = True
    await teach(learners, 50)
    assert len(events.notes) == 2


async def test_what_could_not_be_kept_is_kept_at_the_end(learners, store):
    await arrived(learners)
    store.down = True
    await pour(learners, HERE, 25)
    await until(lambda: learners._refitting is None)  # noqa: SLF001 - nothing tells
    assert store.kept == {}
    store.down = False
    await learners.close()
    assert set(store.kept) == {HERE}


async def test_what_another_version_kept_is_left_alone(learners, store):
    store.kept[HERE] = b"\x80"
    await arrived(learners)
    assert bar(learners) == Bar(0.95, None, BUDGET)


@pytest.mark.parametrize("where", ["its bytes", "what they tell"])
async def test_what_is_damaged_behind_its_fit_is_told_decides_by_that_and_learns_anew(learners, store, monkeypatch, where):
    await teach(learners, 400)
    await learners.close()
    if where == "its bytes":
        store.kept[HERE] = store.kept[HERE][:-3]
    else:
        monkeypatch.setattr(calibration, "Learner", Unrestorable)
    events = FakeEvents()
    after = Calibration(store, FakeClock(), events)
    await after.open()
    assert bar(after) == bar(learners)
    finds = store.finds
    await after.ready(HERE)
    assert ([event for event, _ in events.notes], store.finds) == (["evidence_failed"], finds), "once"
    assert repr(after._ward(HERE)).startswith("<Ward <Learner of 0 requests")  # noqa: SLF001 - it is shown nowhere else
    await after.close()


async def test_so_many_are_in_memory_and_the_one_asked_for_longest_ago_goes(learners, store, monkeypatch):
    monkeypatch.setattr(wards, "REALMS", 2)
    await teach(learners, 30)
    for name in ("a", "b"):
        await arrived(learners, realm("t", name))
    assert [stands.realm for stands in learners.standings(0.01)] == [realm("t", "b"), realm("t", "a")]
    assert HERE in store.kept
    await arrived(learners)
    assert bar(learners).confidence is not None, "it is brought back"


def extents(learners) -> dict[str, str]:
    return {stands.realm: learners._wards.get(stands.realm).extent for stands in learners.standings(0.01)}  # noqa: SLF001 - shown nowhere


@pytest.fixture
async def crowded(learners, store, monkeypatch):
    """Room for two learners and the fits of two others."""
    names = [realm(f"t{number}", "") for number in range(4)]
    for name in names:
        store.kept[name] = credulous()
    monkeypatch.setattr(wards, "MEMORY", 8 * wards.FIT_BYTES)
    monkeypatch.setattr(calibration, "UNPACKED", 3 * wards.FIT_BYTES // len(credulous()))
    monkeypatch.setattr(Learner, "weight", 2 * wards.FIT_BYTES)
    for name in names:
        await arrived(learners, name)
    return names


async def test_where_more_are_in_use_than_there_is_room_for_none_pushes_out_another(crowded, learners, store, clock):
    """Those that came too late go by their fit, and by the operator's similarity with it."""
    for _ in range(3):
        for name in crowded:
            await arrived(learners, name)
            clock.now += 1
    assert extents(learners) == dict(zip(crowded, ("whole", "whole", "fit", "fit"), strict=True))
    assert store.finds == 4, "nothing comes and goes"
    whole, part = (bar(learners, name) for name in (crowded[0], crowded[3]))
    assert (whole.similarity, part.similarity, whole.confidence, part.confidence) == (0.7, 0.95, 0.0, 0.0)
    await pour(learners, crowded[3])
    assert learners._wards.get(crowded[3]).learner.work().blocks == (), "what is here in part is not taught"  # noqa: SLF001 - as above


async def test_those_that_come_at_the_same_time_have_no_room_twice(learners, store, monkeypatch):
    names = [realm(f"t{number}", "") for number in range(4)]
    for name in names:
        store.kept[name] = credulous()
    monkeypatch.setattr(wards, "MEMORY", 8 * wards.FIT_BYTES)
    monkeypatch.setattr(calibration, "UNPACKED", 3 * wards.FIT_BYTES // len(credulous()))
    monkeypatch.setattr(Learner, "weight", 2 * wards.FIT_BYTES)
    await learners.open()
    assert sorted(extents(learners).values()) == ["fit", "fit", "whole", "whole"]


async def test_what_nobody_uses_for_a_while_makes_room(crowded, learners, clock):
    clock.now += wards.IDLE
    for name in crowded[2:]:
        await arrived(learners, name)
    assert extents(learners) == dict.fromkeys(crowded[2:], "whole")


@pytest.mark.parametrize(("tenant", "has_room"), [("loud", False), ("new", True)])
def test_who_has_much_in_memory_takes_no_idle_room_of_who_has_less(tenant, has_room, monkeypatch):
    monkeypatch.setattr(wards, "MEMORY", 7 * wards.FIT_BYTES)
    known, now = Wards(), wards.IDLE
    for name, used in (("quiet", 0.0), ("loud", now)):
        known.add(realm(name, ""), ward_of(3 * wards.FIT_BYTES, "whole"), used)
    coming = ward_of(3 * wards.FIT_BYTES, "fit")
    known.add(realm(tenant, "n"), coming, now)
    assert known.has_room(realm(tenant, "n"), coming, now) is has_room


def test_those_that_nobody_has_used_for_long_go_first(monkeypatch):
    monkeypatch.setattr(wards, "MEMORY", 7 * wards.FIT_BYTES)
    known, now = Wards(), wards.IDLE
    for name, used, size in (("loud", now, 4), ("quiet", 0.0, 3), ("new", now, 3)):
        known.add(realm(name, ""), ward_of(size * wards.FIT_BYTES, "whole"), used)
    assert [gone for gone, _ in known.surplus(now)] == [realm("quiet", "")]
    known.add(realm("other", ""), ward_of(wards.FIT_BYTES, "whole"), now)
    assert [gone for gone, _ in known.surplus(now)] == [realm("loud", "")], "else of whoever has most"


def test_one_that_has_taken_another_s_place_is_not_dropped_for_it():
    known, gone, new = Wards(), ward_of(1, "whole"), ward_of(1, "whole")
    known.add("realm", new, 0.0)
    known.drop("realm", gone)
    assert known.get("realm") is new
    known.drop("realm", new)
    assert known.get("realm") is None


def ward_of(size, extent) -> Ward:
    ward = Ward(Learner())
    ward.size, ward.extent = size, extent
    return ward


async def test_one_that_grows_without_a_label_makes_the_others_go(learners, monkeypatch):
    monkeypatch.setattr(wards, "MEMORY", 5 * wards.FIT_BYTES)
    for where in (THERE, HERE):
        await arrived(learners, where)
    for _ in range(3 * BLOCK):
        learners.learn(HERE, Lesson())
    assert extents(learners) == {HERE: "whole", THERE: "whole"}
    for _ in range(4 * BLOCK):
        learners.learn(HERE, Lesson())
    assert extents(learners) == {HERE: "whole"}


async def test_one_that_went_while_it_was_to_be_refitted_is_left_out(learners, monkeypatch):
    await teach(learners, 24)
    near = neighbour("how do I pay", 0.9)
    learners.learn(HERE, lesson("k", await learners.weigh(HERE, "how do I pay?", near, (near,)), right=True))
    monkeypatch.setattr(wards, "REALMS", 0)
    bar(learners, THERE)
    await until(lambda: learners._refitting is None)  # noqa: SLF001 - nothing tells


async def pour(learners, where, count=30):
    """So many labels at once."""
    near = neighbour("how do I pay", 0.9)
    for _ in range(count):
        learners.learn(where, lesson("k", await learners.weigh(where, "how do I pay?", near, (near,)), right=True))


async def test_realms_are_refitted_one_after_the_other(learners):
    for where in (HERE, THERE):
        await arrived(learners, where)
    for where in (HERE, THERE):
        await pour(learners, where)
    assert "2 to refit" in repr(learners)
    await until(lambda: [stands.labels for stands in learners.standings(0.01)] == [30, 30])


async def test_what_is_being_refitted_at_the_end_is_kept_as_it_is(learners, store):
    await arrived(learners)
    await pour(learners, HERE)
    await asyncio.sleep(0)
    await learners.close()
    after = Calibration(store, FakeClock(), FakeEvents())
    await after.open()
    assert repr(after._ward(HERE)).startswith("<Ward <Learner of 30 requests, fitted to 0 labels")  # noqa: SLF001 - as below
    await after.close()


async def test_thresholds_are_remembered_of_so_many_budgets(learners, monkeypatch):
    monkeypatch.setattr(module, "BUDGETS", 2)
    await teach(learners, 60)
    first = [bar(learners, rate=rate).confidence for rate in (0.1, 0.2, 0.3)]
    assert [bar(learners, rate=rate).confidence for rate in (0.1, 0.2, 0.3)] == first


async def test_what_another_policy_would_have_served_is_told_of_all_and_of_each_realm(learners, store):
    for where in (HERE, THERE):
        await learners.ready(where)
        await teach(learners, 10, where)
    store.hold = asyncio.Event()
    bar(learners, "not here yet")
    lax, strict = Thresholds(0.0, 0.0, ErrorBudgets(1.0)), Thresholds(1.0, 1.0, ErrorBudgets(1.0))
    overall, realms = await learners.tried([lax, strict], 0.0)
    store.hold.set()
    assert realms.keys() == {HERE, THERE}
    assert [found.requests for found in overall] == [20.0, 20.0]
    assert (overall[0].hits, overall[1].hits) == (20.0, 0.0)
    assert [[found.requests for found in of] for of in realms.values()] == [[10.0, 10.0]] * 2


async def test_what_is_not_here_is_not_read_anew(learners, store):
    learners.renew(THERE)
    store.hold = asyncio.Event()
    bar(learners)
    learners.renew(HERE)
    assert len(learners._errands) == 1, "that which brings it back"  # noqa: SLF001 - of what is done beside nothing tells
    store.hold.set()


async def test_a_fresh_answer_teaches_what_stood_near(learners):
    await arrived(learners)
    one, other = neighbour("how do I pay", 0.9, "a"), neighbour("how can I pay", 0.8, "b")
    study = Study(Question("s", "how do we pay"), "c" * 64, HERE, (one, other))
    compared = {near.head.key: True for near in (one, other)}
    weighed = await learners.weigh(HERE, "how do we pay", one, (one, other))
    learners.learn(HERE, lesson(one.head.key, weighed, right=True, fresh=Fresh(study, compared, kept=True)))
    again = neighbour("how do we pay", 0.95, "c")
    found = await learners.weigh(HERE, "how should I pay", again, (again, one, other))
    named = dict(zip(NAMES, found.features, strict=True))
    assert named["agreeing"] == pytest.approx(2 / 3)
    assert named["near_stored"] == pytest.approx((0.85 - 0.8) / 0.1)
    assert named["gap"] == pytest.approx(0.5)
    unkept = Fresh(study, compared, kept=False)
    learners.learn(HERE, Lesson(fresh=unkept))
    assert await learners.weigh(HERE, "how should I pay", again, (again, one, other)) == found


async def test_a_soft_guard_that_is_not_asked_beforehand_is_asked(learners):
    near = neighbour("sore knee", 0.97)
    told, unasked = [await learners.weigh(HERE, "sore elbow", near, (near,), objecting=said) for said in (frozenset(), None)]
    assert unasked.confidence < told.confidence


async def test_numbers_of_an_older_version_teach_nothing(learners):
    await arrived(learners)
    for _ in range(40):
        learners.learn(HERE, lesson("k", Weighed(0.9, (1.0,)), right=False))
    assert [stands.labels for stands in learners.standings(0.01)] == [0]


async def test_it_tells_its_state(learners):
    assert repr(learners) == "<Calibration of 0 realms, 0 to refit>"
    bar(learners)
    assert repr(learners._ward(HERE)).startswith("<Ward <Learner of 0 requests")  # noqa: SLF001 - it is shown nowhere else
    assert math.isinf(Bar(0.9, math.inf).confidence)


async def test_a_budget_of_nothing_lets_nothing_serve(learners):
    await arrived(learners)
    assert bar(learners, rate=0.0).confidence == math.inf


async def test_who_makes_up_namespaces_pushes_out_their_own(learners, monkeypatch):
    monkeypatch.setattr(wards, "REALMS", 3)
    await arrived(learners, realm("quiet", ""))
    for number in range(20):
        await arrived(learners, realm("loud", f"n{number}"))
    assert realm("quiet", "") in {stands.realm for stands in learners.standings(0.01)}


async def test_one_that_is_asked_for_while_it_goes_comes_back_as_it_is(learners, store, monkeypatch):
    monkeypatch.setattr(wards, "REALMS", 1)
    await teach(learners, 30)
    ward = learners._ward(HERE)  # noqa: SLF001 - whether it is the same
    ward.changed = True  # as after one more label
    bar(learners, realm("u", ""))
    assert HERE not in {stands.realm for stands in learners.standings(0.01)}
    assert learners._ward(HERE) is ward  # noqa: SLF001 - as above


async def test_few_labels_are_not_worth_the_room(learners, store):
    await teach(learners, 20)
    await learners.close()
    assert store.kept == {}


async def test_an_errand_that_fails_keeps_nobody_from_what_was_learned(learners, store, monkeypatch):
    await teach(learners, 30)
    failed = []

    async def odd(realm):
        failed.append(realm)
        raise RuntimeError

    monkeypatch.setattr(store, "find", odd)
    bar(learners, THERE)
    await learners.close()
    assert failed == [THERE]
    assert HERE in store.kept
