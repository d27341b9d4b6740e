"""What an `EvidenceStore` promises, and the growth of its file."""

import sqlite3
from functools import partial
from typing import Any

import pytest

from sentinel_gateway.core.evidence import HOUR, Count, Decision, Finding, Label, Weighed
from sentinel_gateway.core.spending import DayCost
from sentinel_gateway.core.tightening import Stance
from sentinel_gateway.errors import ConfigurationError, StoreDown
from sentinel_gateway.stores._adoption import adopt, steps_of
from sentinel_gateway.stores._state_file import _FIRST, _SECOND, StateFile
from sentinel_gateway.stores.evidence import SWEPT, EvidenceLimits, SqlEvidence
from tests.contract.evidence.conftest import serve
from tests.core.keys import PEPPER
from tests.fakes import FakeClock

pytestmark = pytest.mark.anyio

LIMITS = EvidenceLimits(seconds=100.0, decisions=50)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(place, clock) -> SqlEvidence:
    return SqlEvidence(place, clock, LIMITS)


async def test_what_one_node_keeps_another_knows(opening, place, clock):
    """With feedback on it, and how strict to be for that."""
    one, other = SqlEvidence(place, clock), await opening()
    two = SqlEvidence(other, clock)
    await one.keep([decision(clock)], [Count(int(clock.now // HOUR), "s", 2, 1)])
    assert await two.find("of-caller-0", tenant="a") == decision(clock)
    assert await two.label(Label("id-0", "feedback", correct=False, at=clock.now)) is True
    await two.keep([decision(clock, 1)], [Count(int(clock.now // HOUR), "s", 3, 2)])
    found = await one.findings(clock.now, scopes=9)
    assert (found.reached, found.hits, [label.decision for label in found.labels]) == (5, 3, ["id-0"])
    await one.take(Stance("s", 3, clock.now))
    assert await two.stances() == [Stance("s", 3, clock.now)]
    await other.close()


async def test_what_a_folder_has_closed_comes_along_once_and_the_strictest_word_stands(database, clock):
    """What nodes take back later does not come again with the next start."""
    place = await serve(database)
    await place.write(lambda statements: statements.execute("TRUNCATE stances, hours, facts"))
    store = SqlEvidence(place, clock)
    folders = [[Stance("s", 3, 1.0), Stance("t", 0, 1.0)], [Stance("s", 2, 2.0), Stance("t", 1, 2.0)]]
    for found in folders * 2:
        await place.write(partial(adopt, found=[], steps=found))
    assert sorted(await store.stances(), key=str) == [Stance("s", 3, 1.0), Stance("t", 1, 2.0)]
    await store.take(Stance("s", 1, 9.0))
    for found in folders:
        await place.write(partial(adopt, found=[], steps=found))
    assert sorted(await store.stances(), key=str) == [Stance("s", 1, 9.0), Stance("t", 1, 2.0)]
    await place.close()


async def test_what_can_not_be_read_of_a_folder_is_no_reason_to_open_what_it_has_closed(file, clock, tmp_path):
    await SqlEvidence(file, clock).take(Stance("s", 3, 1.0))
    assert await steps_of(file) == [Stance("s", 3, 1.0)]
    for path in tmp_path.glob("sentinel.db*"):
        path.unlink()
    with pytest.raises(ConfigurationError, match="switched off"):
        await steps_of(file)


def decision(clock: FakeClock, number: int = 0, **changes: Any) -> Decision:
    fields = {
        "id": f"id-{number}",
        "request_id": f"of-caller-{number}",
        "tenant": "a",
        "at": clock.now,
        "scope": "s" * 64,
        "entry": "e" * 64,
        "owner": "b",
        "similarity": 0.97,
    }
    return Decision(**fields | changes)


async def test_a_decision_comes_back_by_either_id_within_its_tenant(store, clock):
    weighed = Weighed(0.1 + 0.2, (0.25, -1e-9))
    kept = [decision(clock, number, realm="b\nn", weighed=weighed if number else None) for number in range(3)]
    await store.keep(kept, [])
    await store.keep(kept[:1], [])  # written twice, kept once
    for name in ("id-1", "of-caller-1"):
        assert await store.find(name, tenant="a") == kept[1]
        assert await store.find(name, tenant="b") is None
    assert await store.get("id-1") == kept[1]
    assert await store.get("of-caller-1") is None
    assert await store.find("id-9", tenant="a") is None
    assert await store.find("%", tenant="a") is None


async def test_of_several_under_an_id_of_the_callers_the_latest_is_meant_and_ours_goes_before(store, clock):
    await store.keep([decision(clock, number, request_id="again") for number in range(3)], [])
    await store.keep([decision(clock, 3, request_id="id-0")], [])
    assert (await store.find("again", tenant="a")).id == "id-2"
    assert (await store.find("id-0", tenant="a")).id == "id-0"


async def test_what_is_said_is_kept_once_for_each_source(store, clock):
    await store.keep([decision(clock)], [])
    wrong, right = (Label("id-0", "feedback", correct, clock.now) for correct in (False, True))
    assert await store.label(wrong) is True
    assert await store.label(wrong) is False
    assert await store.labels("id-0") == (wrong,)
    assert await store.label(right) is True
    assert await store.labels("id-0") == (right,)
    assert await store.labels("id-1") == ()


async def test_what_is_too_old_goes_with_its_labels(store, clock):
    await store.keep([decision(clock, number) for number in range(3)], [])
    await store.label(Label("id-0", "feedback", correct=True, at=clock.now))
    clock.now += 60
    await store.keep([decision(clock, 3)], [])
    clock.now += 60
    await store.keep([], [])
    assert [await store.find(f"id-{number}", tenant="a") is not None for number in range(4)] == [False] * 3 + [True]
    assert await store.labels("id-0") == ()


async def test_counts_of_an_hour_are_added_up_and_the_busiest_scopes_are_told(store, clock):
    hour = int(clock.now // HOUR)
    await store.keep([], [Count(hour, "a", 5, 1), Count(hour, "b", 3, 3), Count(hour - 5, "a", 100, 100)])
    await store.keep([], [Count(hour, "a", 1, 1), Count(hour, "c", 9, 0)])
    found = await store.findings(clock.now - HOUR, scopes=2)
    assert (found.reached, found.hits) == (18, 5)
    assert [(count.scope, count.reached, count.hits) for count in found.scopes] == [("b", 3, 3), ("a", 6, 2)]


async def test_budgets_of_somebodys_own_are_told_beside_the_scopes(store, clock):
    hour = int(clock.now // HOUR)
    await store.keep([], [Count(hour, "a", 5, 1), Count(hour, "key:k", 4, 1), Count(hour, "model:m", 2, 2)])
    found = await store.findings(clock.now - HOUR, scopes=9)
    assert (found.reached, [count.scope for count in found.scopes]) == (5, ["a"])
    assert [(count.scope, count.reached, count.hits) for count in found.budgets] == [("model:m", 2, 2), ("key:k", 4, 1)]
    about = decision(clock, drawn=0.02, budgets=("key:k", "model:m"))
    await store.keep([about], [])
    await store.label(Label("id-0", "judge", correct=False, at=clock.now))
    assert await store.get("id-0") == about
    assert [label.budgets for label in (await store.findings(clock.now, scopes=9)).labels] == [("key:k", "model:m")]


async def test_a_stance_is_kept_in_place_of_the_last_one(store):
    assert await store.stances() == []
    for level in (1, 2):
        await store.take(Stance("a", level, 5.0))
    await store.take(Stance("all", 1, 6.0))
    assert set(await store.stances()) == {Stance("a", 2, 5.0), Stance("all", 1, 6.0)}


async def counted(store, clock, scopes=9):
    """In all, and of each scope."""
    found = await store.findings(clock.now, scopes=scopes)
    return (found.reached, found.hits), {count.scope: (count.reached, count.hits) for count in found.scopes}


async def test_a_step_counts_anew_for_its_scope_and_one_of_all_for_everything(store, clock):
    hour = int(clock.now // HOUR)
    await store.keep([], [Count(hour - past, scope, 50, 10) for past in range(2) for scope in ("a", "b", "key:k")])
    clock.now += 1
    await store.take(Stance("a", 1, clock.now))
    assert await counted(store, clock) == ((50, 10), {"a": (0, 0), "b": (50, 10)}), "the total knows nothing of it either"
    await store.keep([], [Count(hour, "a", 5, 1)])
    assert await counted(store, clock) == ((55, 11), {"a": (5, 1), "b": (50, 10)})
    await store.take(Stance("all", 1, clock.now))
    assert await counted(store, clock) == ((0, 0), {"a": (0, 0)})
    assert (await store.findings(0.0, scopes=9)).budgets == []


async def test_scopes_that_got_stricter_are_told_beside_the_busiest(store, clock):
    hour = int(clock.now // HOUR)
    for scope, level in (("quiet", 2), ("unasked", 3), ("again", 0), ("key:k", 1), ("all", 1)):
        await store.take(Stance(scope, level, clock.now))
    busy = [Count(hour, f"busy-{number:02}", 50, 10) for number in range(30)]
    await store.keep([], [*busy, Count(hour, "quiet", 30, 0), Count(hour, "again", 9, 0)])
    _, scopes = await counted(store, clock, scopes=20)
    assert (scopes["quiet"], scopes["unasked"]) == ((30, 0), (0, 0))
    assert {f"busy-{number:02}" for number in range(20)} < set(scopes)
    assert not {"again", "all"} & set(scopes)
    assert [count.scope for count in (await store.findings(0.0, scopes=9)).budgets] == ["key:k"]


async def test_scopes_that_anybody_makes_up_are_told_together_once_their_hour_is_over(place, clock):
    store, hour = SqlEvidence(place, clock), int(clock.now // HOUR)
    await store.take(Stance("off", 3, clock.now))
    made_up = [Count(hour, f"made-up-{number}", 2, 0) for number in range(200)]
    await store.keep([], [*made_up, Count(hour, "used", 5, 0), Count(hour, "off", 7, 0), Count(hour, "key:k", 9, 0)])
    for _ in range(2):
        clock.now += HOUR
        await store.keep([], [Count(hour + 1, "used", 5, 1), Count(hour, "late", 3, 0)])
    found = await store.findings(clock.now - 5 * HOUR, scopes=500)
    assert (found.reached, found.hits) == (400 + 15 + 7 + 6, 2)
    assert {count.scope: count.reached for count in found.scopes} == {"used": 15, "off": 7}
    assert [count.reached for count in found.budgets] == [9]
    (rows,) = await place.read(lambda database: database.execute("SELECT count(*) FROM hours").fetchone())
    assert rows == 5


async def test_counts_that_are_too_old_go(store, clock):
    await store.keep([], [Count(int(clock.now // HOUR), "a", 5, 1)])
    clock.now += 2 * HOUR
    await store.keep([], [])
    assert (await store.findings(0.0, scopes=9)).reached == 0


async def test_what_a_day_has_cost_adds_up_and_a_new_day_begins_anew(store, place, clock):
    assert await store.spent() == DayCost(0)
    await store.spend(DayCost(20_000, 10**15, 5))
    await SqlEvidence(place, clock).spend(DayCost(20_000, 7, 2))
    assert await store.spent() == DayCost(20_000, 10**15 + 7, 7)
    await store.spend(DayCost(20_001, 3, 1))
    await store.spend(DayCost(20_000, 100, 100))  # of a clock that is behind
    assert await store.spent() == DayCost(20_001, 3, 1)


async def test_labels_are_found_with_what_they_are_about(store, clock):
    await store.keep([decision(clock, number, drawn=0.02, kind="explored") for number in range(2)], [])
    await store.label(Label("id-0", "judge", correct=False, at=clock.now))
    await store.label(Label("id-0", "feedback", correct=True, at=clock.now))
    await store.label(Label("id-9", "judge", correct=True, at=clock.now))  # of a decision that is gone
    found = (await store.findings(clock.now, scopes=9)).labels
    assert set(found) == {
        Finding("id-0", clock.now, "s" * 64, 0.02, "judge", correct=False),
        Finding("id-0", clock.now, "s" * 64, 0.02, "feedback", correct=True),
    }
    assert (await store.findings(clock.now + 1, scopes=9)).labels == []
    await store.label(Label("id-1", "judge", correct=True, at=clock.now + 2))
    assert (await store.findings(clock.now + 1, scopes=9)).labels == [], "it was decided before"


async def test_no_more_are_kept_than_are_allowed(store, clock, place):
    for start in range(0, 200, 20):
        await store.keep([decision(clock, number) for number in range(start, start + 20)], [])
    (count,) = await place.read(lambda database: database.execute("SELECT count(*) FROM decisions").fetchone())
    assert count == LIMITS.decisions
    assert await store.find("id-199", tenant="a") is not None


async def test_a_sweep_has_an_end(place, clock):
    await SqlEvidence(place, clock).keep([decision(clock, number) for number in range(SWEPT + 70)], [])
    clock.now += 200
    store = SqlEvidence(place, clock, LIMITS)
    counts = []
    for _ in range(2):
        await store.keep([], [])
        counts += await place.read(lambda database: database.execute("SELECT count(*) FROM decisions").fetchone())
    assert counts == [70, 0]


async def test_a_million_rows_are_no_reason_to_look_at_all_of_them(file):
    """Finding and sweeping go by an index."""
    from sentinel_gateway.stores import evidence  # noqa: PLC0415 - its queries, which are nobody else's business

    def plans(database: sqlite3.Connection) -> list[str]:
        asked = ((evidence._FIND, ("a", "b") * 2), (evidence._OLD, (1, 1.0, 1)), (evidence._FINDINGS, (0.0, 0.0, 1)))  # noqa: SLF001
        return [str(row[3]) for query, values in asked for row in database.execute(f"EXPLAIN QUERY PLAN {query}", values)]

    steps = await file.read(plans)
    assert any("SEARCH decisions" in step for step in steps)
    assert not any(step.startswith("SCAN decisions") and "COVERING" not in step for step in steps), steps


async def test_a_file_of_the_version_before_is_brought_up_to_date(tmp_path, clock):
    database = sqlite3.connect(tmp_path / "sentinel.db", isolation_level=None)
    for migration in (_FIRST, _SECOND):
        database.executescript(migration)
    database.execute("INSERT INTO decisions VALUES (1, 'old', 'r', 'a', ?, 's', 'e', 'b', 0.97, 'served', 0.0)", (clock.now,))
    database.close()
    file = await StateFile.open(tmp_path, secret=PEPPER)
    store = SqlEvidence(file, clock)
    await store.keep([decision(clock)], [])
    assert await store.find("id-0", tenant="a") == decision(clock)
    assert (await store.get("old")).weighed is None
    await file.close()


async def test_it_outlives_a_restart(tmp_path, clock):
    for opening in range(2):
        file = await StateFile.open(tmp_path, secret=PEPPER)
        store = SqlEvidence(file, clock)
        if not opening:
            await store.keep([decision(clock)], [])
        assert await store.find("id-0", tenant="a") == decision(clock)
        await file.close()


async def test_a_file_that_is_gone_is_a_store_that_is_down(file, clock, tmp_path):
    store = SqlEvidence(file, clock)
    await store.keep([decision(clock)], [])
    for path in tmp_path.glob("sentinel.db*"):
        path.unlink()
    with pytest.raises(StoreDown):
        await store.keep([decision(clock, 1)], [])
    with pytest.raises(StoreDown):
        await store.find("id-0", tenant="a")
