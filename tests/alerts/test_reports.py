"""Reports: when they are due, and that each comes once, whoever looks and whoever dies."""

import asyncio
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from sentinel_gateway.alarms import Reporter, make_reports
from sentinel_gateway.alerts.reports import FORGOTTEN, SETTLED, Report, Schedule
from sentinel_gateway.core.alerting.notices import Message
from sentinel_gateway.core.alerting.reports import Wanted
from sentinel_gateway.settings.model import Settings
from tests.alerts.test_watch import World, node, pass_time
from tests.gateway import until

pytestmark = pytest.mark.anyio

HOUR = 3600
BERLIN, KATHMANDU = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kathmandu")
DAILY = Wanted(name="morning", period="day")


def at(text: str, zone: ZoneInfo | None = None) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone or UTC).timestamp()


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize(
    ("schedule", "now", "since", "last"),
    [
        (Schedule(BERLIN, 8), "2026-11-22T08:00", "2026-11-21T08:00", "2026-11-22T08:00"),
        (Schedule(BERLIN, 8), "2026-11-22T07:59", "2026-11-20T08:00", "2026-11-21T08:00"),
        (Schedule(BERLIN, 0), "2026-11-22T00:00", "2026-11-21T00:00", "2026-11-22T00:00"),
        (Schedule(BERLIN, 8), "2026-03-29T12:00", "2026-03-28T08:00", "2026-03-29T08:00"),  # a day of 23 hours
        (Schedule(BERLIN, 8), "2026-10-25T12:00", "2026-10-24T08:00", "2026-10-25T08:00"),  # one of 25
        (Schedule(KATHMANDU, 8), "2026-11-22T09:00", "2026-11-21T08:00", "2026-11-22T08:00"),
        (Schedule(BERLIN, 8, weekday=0), "2026-11-22T12:00", "2026-11-09T08:00", "2026-11-16T08:00"),  # a Sunday
        (Schedule(BERLIN, 8, weekday=0), "2026-11-23T07:00", "2026-11-09T08:00", "2026-11-16T08:00"),
        (Schedule(BERLIN, 8, weekday=0), "2026-11-23T08:00", "2026-11-16T08:00", "2026-11-23T08:00"),
        (Schedule(BERLIN, 8, weekday=6), "2026-11-22T12:00", "2026-11-15T08:00", "2026-11-22T08:00"),
    ],
)
def test_the_last_moment_and_the_one_before(schedule, now, since, last):
    zone = schedule.zone
    assert schedule.last(at(now, zone)) == (at(since, zone), at(last, zone))


def test_every_hour_of_a_year_has_one_moment_behind_it():
    schedule = Schedule(BERLIN, 2)  # an hour that there is twice on one day, and not at all on another
    moments = {schedule.last(at("2026-01-02T00:00") + hour * HOUR)[1] for hour in range(365 * 24)}
    assert 365 <= len(moments) <= 366
    assert all(schedule.last(moment)[1] == moment for moment in moments)


class Desk:
    """Compiles what it is asked for, and keeps what that was."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, float, float]] = []
        self.away = False

    async def compile(self, wanted: Wanted, since: float, until: float) -> Message | None:
        self.asked.append((wanted.name, since, until))
        if self.away:
            return None
        return Message(
            title=f"{wanted.name} {since:.0f}-{until:.0f}", text="", severity="ticket", good=True, data={}, kind="report"
        )


def plan(desk: Desk, *reports: Wanted) -> dict:
    return {"reports": tuple(Report(one, Schedule(ZoneInfo("UTC"), 8)) for one in reports or (DAILY,)), "compile": desk.compile}


async def test_it_comes_at_its_hour_once_and_of_the_day_before_it(world, tmp_path):
    desk = Desk()
    world.clock.now = at("2026-11-22T07:59")
    async with node(world, tmp_path, **plan(desk)) as watch:
        await pass_time(world, watch, 30)
        assert world.ear.heard == [], "what was due before it was configured is not told"
        await pass_time(world, watch, 30 + SETTLED - 1)
        assert desk.asked == [], "what ended just before its hour may not be in the ledger yet"
        for _ in range(5):
            await pass_time(world, watch, 60)
        await until(lambda: len(world.ear.heard) == 1)
        await pass_time(world, watch, 24 * HOUR)
        await until(lambda: len(world.ear.heard) == 2)
    first, last = (f"morning {at(f'2026-11-{day}T08:00'):.0f}-{at(f'2026-11-{day + 1}T08:00'):.0f}" for day in (21, 22))
    assert world.ear.titles == [first, last]


async def test_a_restart_tells_nothing_twice_and_forgets_nothing(world, tmp_path):
    desk = Desk()
    world.clock.now = at("2026-11-22T07:59")
    async with node(world, tmp_path, **plan(desk)) as watch:
        await pass_time(world, watch, 1)
    world.clock.now = at("2026-11-22T09:00")
    async with node(world, tmp_path, **plan(desk)):
        await until(lambda: len(world.ear.heard) == 1)
    world.asked.clear()
    async with node(world, tmp_path, **plan(desk)) as watch:
        await pass_time(world, watch, 60)
    assert len(world.ear.heard) == 1


async def test_of_several_nodes_one_tells(world, tmp_path):
    desk = Desk()
    world.clock.now = at("2026-11-22T07:59")
    async with node(world, tmp_path, "a", **plan(desk)) as one, node(world, tmp_path, "b", **plan(desk)) as other:
        await pass_time(world, one, 1)
        world.clock.now = at("2026-11-22T08:00") + SETTLED
        for _ in range(2):
            await asyncio.gather(one.look_safely(), other.look_safely())
        await until(lambda: world.ear.heard)
        await one.close()
        for _ in range(10):
            await pass_time(world, other, 60)
    assert len(world.ear.heard) == 1
    assert len({letter.id for letter in world.ear.heard}) == 1


async def test_while_the_ledger_is_away_it_waits_and_of_several_days_the_last_is_told(world, tmp_path):
    desk = Desk()
    world.clock.now = at("2026-11-22T07:59")
    async with node(world, tmp_path, **plan(desk)) as watch:
        await pass_time(world, watch, 1)
        desk.away = True
        await pass_time(world, watch, 60 + SETTLED)
        await pass_time(world, watch, 48 * HOUR)
        assert (len(desk.asked), world.ear.heard) == (2, [])
        desk.away = False
        await pass_time(world, watch, 60)
        await until(lambda: len(world.ear.heard) == 1)
    assert world.ear.titles == [f"morning {at('2026-11-23T08:00'):.0f}-{at('2026-11-24T08:00'):.0f}"]


async def test_it_goes_to_its_channels_alone(world, tmp_path):
    desk = Desk()
    world.clock.now = at("2026-11-22T07:59")
    other = replace(DAILY, name="elsewhere", channels=("another",))
    async with node(world, tmp_path, **plan(desk, DAILY, other)) as watch:
        await pass_time(world, watch, 1)
        for _ in range(3):
            await pass_time(world, watch, 60 + SETTLED)
        await until(lambda: world.ear.heard)
    assert len(desk.asked) == 2, "one a look, each once"
    assert [title.partition(" ")[0] for title in world.ear.titles] == ["morning"]


async def test_one_that_is_configured_right_after_its_hour_begins_the_next_day(world, tmp_path):
    desk = Desk()
    world.clock.now = at("2026-11-22T08:01")
    async with node(world, tmp_path, **plan(desk)) as watch:
        await pass_time(world, watch, 2 * SETTLED)
        assert desk.asked == []
        await pass_time(world, watch, 24 * HOUR)
        assert len(desk.asked) == 1


async def test_alerts_wait_for_no_report(world, tmp_path):
    desk, answers = Desk(), asyncio.Event()

    async def slowly(wanted: Wanted, since: float, until: float) -> Message | None:
        await answers.wait()
        return await desk.compile(wanted, since, until)

    world.clock.now = at("2026-11-22T07:59")
    async with node(world, tmp_path, **plan(desk) | {"compile": slowly}) as watch:
        await pass_time(world, watch, 1)
        world.open = {"mock/m"}
        world.clock.now = at("2026-11-22T08:00") + SETTLED
        looking = asyncio.create_task(watch.look())
        await until(lambda: world.ear.heard)
        assert world.ear.titles == ["sentinel: 1 firing (circuit-open)"]
        assert [alert.subject for alert in (await watch.store.look())[0].firing()] == ["mock/m"]
        answers.set()
        await looking
        await until(lambda: len(world.ear.heard) == 2)
        await pass_time(world, watch, 60)
        assert len(watch.board.firing()) == 1
    assert [title.partition(" ")[0] for title in world.ear.titles] == ["sentinel:", "morning"]


async def test_one_that_can_not_be_made_keeps_no_other_from_coming(world, tmp_path):
    desk, tried = Desk(), []

    async def in_part(wanted: Wanted, since: float, until: float) -> Message | None:
        tried.append(wanted.name)
        return None if wanted.name == "hard" else await desk.compile(wanted, since, until)

    names = ("hard", "morning", "evening")
    world.clock.now = at("2026-11-22T07:59")
    wanted = [replace(DAILY, name=name) for name in names]
    async with node(world, tmp_path, **plan(desk, *wanted) | {"compile": in_part}) as watch:
        for look in range(9):
            before = len(tried)
            await pass_time(world, watch, 60 + SETTLED if look == 1 else 1)
            assert len(tried) <= before + 1, "one a look"
        await until(lambda: len(world.ear.heard) == 2)
    assert {title.partition(" ")[0] for title in world.ear.titles} == {"morning", "evening"}


@pytest.mark.parametrize("others", [(), (replace(DAILY, name="another"),)])
async def test_a_node_of_another_plan_forgets_no_report(world, tmp_path, others):
    """As in the minutes of a roll-out: one that knows the report tells it once, whoever has looked in between."""
    desk, other = Desk(), Desk()
    unlike = plan(other, *others) if others else {}
    world.clock.now = at("2026-11-22T07:59")
    async with node(world, tmp_path, "a", **plan(desk)) as watch:
        await pass_time(world, watch, 1)
    world.clock.now = at("2026-11-22T08:00") + SETTLED
    async with node(world, tmp_path, "b", **unlike) as watch:
        await pass_time(world, watch, 1)
    async with node(world, tmp_path, "a", **plan(desk)):
        await until(lambda: world.ear.heard)  # its first look tells it
    assert world.ear.titles == [f"morning {at('2026-11-21T08:00'):.0f}-{at('2026-11-22T08:00'):.0f}"]


async def test_what_nobody_has_a_plan_of_is_forgotten_in_the_end(world, tmp_path):
    async with node(world, tmp_path, "a", **plan(Desk())) as watch:
        await pass_time(world, watch, 1)
        assert watch.board.reported.keys() == {"morning"}
    async with node(world, tmp_path, "b", **plan(Desk(), replace(DAILY, name="another"))) as watch:
        await pass_time(world, watch, FORGOTTEN + 24 * HOUR)
        assert watch.board.reported.keys() == {"another"}


async def test_without_a_ledger_nothing_can_be_told():
    class Nothing:
        books = None

    assert await Reporter(Nothing(), "sentinel").compile(DAILY, 0.0, 86_400.0) is None


def test_none_are_made_of_none():
    assert list(make_reports(Settings())) == []
