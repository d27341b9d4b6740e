"""Looking and delivering, over the real store: one of two nodes tells, a restart tells nothing twice, nothing is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from sentinel_gateway.alerts import courier
from sentinel_gateway.alerts.watch import Plan, Watch
from sentinel_gateway.core.alerting.board import Habits
from sentinel_gateway.core.alerting.figures import Figures, Needs
from sentinel_gateway.core.alerting.rules import Rule
from sentinel_gateway.errors import AlertNotFound, ChannelDown, StoreDown
from sentinel_gateway.ports.alerts import Letter
from sentinel_gateway.stores._state_file import StateFile
from sentinel_gateway.stores.alerts import SqlAlerts
from tests.core.keys import PEPPER
from tests.fakes import FakeClock, FakeEvents
from tests.gateway import until

pytestmark = pytest.mark.anyio

RULE = Rule(name="circuit-open", metric="circuit_open", limit=1.0)


class Ear:
    """A channel that keeps what it hears, and fails while it is told to."""

    kind = "ear"

    def __init__(self, name: str = "ops") -> None:
        self.name = name
        self.heard: list[Letter] = []
        self.tried = 0
        self.failing: Exception | None = None
        self.stuck: asyncio.Event | None = None

    async def send(self, letter: Letter) -> None:
        self.tried += 1
        if self.stuck is not None:
            await self.stuck.wait()
        if self.failing is not None:
            raise self.failing
        self.heard.append(letter)

    @property
    def titles(self) -> list[str]:
        return [letter.message.title for letter in self.heard]


class World:
    """What is wrong at the moment, a clock, and whoever listens."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.events = FakeEvents()
        self.ear = Ear()
        self.open: set[str] = set()
        self.asked: list[Needs] = []
        self.blind = False

    async def gather(self, needs: Needs, now: float) -> Figures:
        self.asked.append(needs)
        return Figures(now=now, open_circuits=None if self.blind else set(self.open))

    def plan(self, **changes) -> Plan:
        fields = {
            "rules": (RULE,),
            "gather": self.gather,
            "channels": {"ops": self.ear},
            "habits": Habits(60.0, 900.0, 0.0),
            "on": True,
            "every": 3600.0,
        }
        return Plan(**fields | changes)

    def notes(self, name: str) -> list[dict]:
        return [fields for event, fields in self.events.notes if event == name]


@pytest.fixture
def world() -> World:
    return World()


@asynccontextmanager
async def node(world: World, folder, name: str = "a", **changes) -> AsyncIterator[Watch]:
    """One that looks when it is told to, and once when it starts."""
    file = await StateFile.open(folder, secret=PEPPER)
    watch = Watch(SqlAlerts(file), node=name, clock=world.clock, events=world.events, stamp=str)
    await watch.use(world.plan(**changes))
    await until(lambda: world.asked)
    try:
        yield watch
    finally:
        await watch.close()
        await file.close()


async def pass_time(world: World, watch: Watch, seconds: float) -> None:
    world.clock.now += seconds
    await watch.look()


async def test_what_begins_and_what_is_over_is_delivered(world, tmp_path):
    async with node(world, tmp_path) as watch:
        world.open = {"mock/m"}
        await pass_time(world, watch, 100)
        await until(lambda: len(world.ear.heard) == 1)
        world.open = set()
        await pass_time(world, watch, 100)
        await until(lambda: len(world.ear.heard) == 2)
        assert world.ear.titles == ["sentinel: 1 firing (circuit-open)", "sentinel: 1 recovered (circuit-open)"]
        await until(lambda: watch.delivered["ops", "delivered"] == 2)
        kinds = [entry.kind for entry in (await watch.store.history(limit=9, cursor=None)).entries]
        assert kinds == ["delivered", "resolved", "delivered", "firing"]
        assert [fields["subject"] for fields in world.notes("alert_firing")] == ["mock/m"]
        assert len(world.notes("alert_resolved")) == 1


async def test_a_restart_tells_nothing_twice(world, tmp_path):
    world.open = {"mock/m"}
    async with node(world, tmp_path):
        await until(lambda: len(world.ear.heard) == 1)
    world.asked.clear()
    async with node(world, tmp_path, "after the restart") as watch:
        for _ in range(3):
            await pass_time(world, watch, 100)
        world.open = set()
        await pass_time(world, watch, 100)
        await until(lambda: len(world.ear.heard) == 2)
    assert world.ear.titles == ["sentinel: 1 firing (circuit-open)", "sentinel: 1 recovered (circuit-open)"]


async def test_what_a_process_that_died_had_to_deliver_the_next_one_delivers_under_the_same_id(world, tmp_path):
    world.open, world.ear.stuck = {"mock/m"}, asyncio.Event()
    async with node(world, tmp_path):
        await until(lambda: world.ear.tried == 1)  # it is being sent when the process ends
    world.ear.stuck = None
    world.asked.clear()
    async with node(world, tmp_path, "b") as watch:
        await pass_time(world, watch, courier.CLAIMED + 1)
        await until(lambda: len(world.ear.heard) == 1)
        assert world.ear.heard[0].tries == 2


async def test_of_two_nodes_one_tells_and_the_other_takes_over_when_it_dies(world, tmp_path):
    async with node(world, tmp_path, "a") as first:
        other_world = World()
        other_world.clock, other_world.ear = world.clock, Ear()
        other_file = await StateFile.open(tmp_path, secret=PEPPER)
        second = Watch(SqlAlerts(other_file), node="b", clock=world.clock, events=other_world.events, stamp=str)
        try:
            await second.use(other_world.plan())
            world.open = other_world.open = {"mock/m"}
            for _ in range(3):
                world.clock.now += 100
                await asyncio.gather(first.look(), second.look())
            await until(lambda: len(world.ear.heard) == 1)
            assert first.board is not None
            assert second.board is None
            assert other_world.asked == [], "who does not lead asks nothing"
            world.clock.now += 3 * 3600.0 + 1  # the first is frozen: its lease is over
            await second.look()
            assert second.board is not None
            other_world.open = set()
            await pass_time(other_world, second, 100)
            await until(lambda: len(other_world.ear.heard) == 1)
            assert other_world.ear.titles == ["sentinel: 1 recovered (circuit-open)"]
            await first.look()
            assert first.board is None
        finally:
            await second.close()
            await other_file.close()
    assert world.ear.titles == ["sentinel: 1 firing (circuit-open)"]


async def test_what_a_frozen_node_found_is_not_kept_once_another_leads(world, tmp_path):
    async with node(world, tmp_path, "a") as first:
        frozen = asyncio.Event()

        async def gather_late(needs: Needs, now: float) -> Figures:
            await frozen.wait()
            return Figures(now=now, open_circuits={"mock/m"})

        await first.use(replace(world.plan(), gather=gather_late))
        looking = asyncio.create_task(first.look())
        await asyncio.sleep(0.05)
        world.clock.now += 3 * 3600.0 + 1
        assert await first.store.lead("b", world.clock.now, 100.0) is not None
        frozen.set()
        await looking
        assert first.board is None
        assert (await first.store.look())[0].alerts == ()
    assert world.ear.tried == 0


async def test_a_channel_that_fails_is_tried_again_later_and_later_until_it_takes_it(world, tmp_path):
    world.ear.failing = ChannelDown("it answered 503")
    world.open = {"mock/m"}
    async with node(world, tmp_path) as watch:
        await until(lambda: world.ear.tried == 1)
        for tries in range(2, 5):
            await until(lambda tries=tries: watch.delivered["ops", "failed"] == tries - 1)
            world.clock.now += courier.FIRST * 2.0 ** (tries - 1)
            watch.courier.wake()
            await until(lambda tries=tries: world.ear.tried == tries)
        await until(lambda: watch.delivered["ops", "failed"] == 4)
        world.ear.failing = None
        world.clock.now += courier.LONGEST
        watch.courier.wake()
        await until(lambda: len(world.ear.heard) == 1)
        assert world.ear.heard[0].tries == 5
        assert [fields["reason"] for fields in world.notes("alert_not_delivered")] == ["it answered 503"] * 4


async def test_a_channel_that_fails_on_and_on_is_left_alone_for_a_while(world, tmp_path):
    world.ear.failing = ChannelDown("no")
    async with node(world, tmp_path) as watch:
        for number in range(8):
            world.open = {f"mock/{number}"}
            await pass_time(world, watch, 61)
            await until(lambda number=number: watch.delivered["ops", "failed"] == number + 1)
        assert world.ear.tried >= courier.PAUSES.failures
        assert len(world.notes("alert_channel_paused")) == 1
        tried = world.ear.tried
        watch.courier.wake()
        await asyncio.sleep(0.05)
        assert world.ear.tried == tried
        world.ear.failing = None
        world.clock.now += courier.PAUSES.pause
        watch.courier.wake()
        await until(lambda: len(world.ear.heard) == 8)


async def test_what_is_too_old_to_help_or_nobody_will_ever_take_is_given_up_and_told(world, tmp_path):
    world.ear.failing, world.open = ChannelDown("it answered 500"), {"mock/m"}
    async with node(world, tmp_path) as watch:
        await until(lambda: watch.delivered["ops", "failed"] == 1)
        world.clock.now += courier.TOO_OLD
        watch.courier.wake()
        await until(lambda: watch.delivered["ops", "undelivered"] == 1)
        world.ear.failing, world.open = ChannelDown("it answered 410", gone=True), {"mock/m", "mock/n"}
        await watch.look()
        await until(lambda: watch.delivered["ops", "undelivered"] == 2)
        texts = [one.text for one in (await watch.store.history(limit=9, cursor=None)).entries if one.kind == "undelivered"]
        assert [text.rpartition(": ")[2] for text in texts] == ["it answered 410", "it answered 500"]


async def test_what_is_too_old_when_its_turn_comes_is_not_sent_at_all(world, tmp_path):
    world.open, world.ear.stuck = {"mock/m"}, asyncio.Event()
    async with node(world, tmp_path):
        await until(lambda: world.ear.tried == 1)  # it is being sent when the process ends
    world.ear.stuck = None
    world.asked.clear()
    world.clock.now += courier.TOO_OLD + 1
    async with node(world, tmp_path, "b") as watch:
        await until(lambda: watch.delivered["ops", "undelivered"] == 1)
        assert world.ear.tried == 1
        assert [fields["reason"] for fields in world.notes("alert_not_delivered")] == ["it is too old"]


async def test_that_it_is_over_never_arrives_before_that_it_began(world, tmp_path):
    world.ear.failing, world.open = ChannelDown("it answered 503"), {"mock/m"}
    async with node(world, tmp_path, habits=Habits(1.0, 900.0, 0.0)) as watch:
        await until(lambda: watch.delivered["ops", "failed"] == 1)
        world.ear.failing, world.open = None, set()
        await pass_time(world, watch, courier.FIRST / 4)  # what failed is not due yet
        await asyncio.sleep(0.1)
        world.clock.now += courier.FIRST
        watch.courier.wake()
        await until(lambda: len(world.ear.heard) == 2)
        assert world.ear.titles == ["sentinel: 1 firing (circuit-open)", "sentinel: 1 recovered (circuit-open)"]


async def test_who_is_woken_before_its_time_still_looks_when_it_comes(world, tmp_path):
    world.ear.failing, world.open = ChannelDown("it answered 503"), {"mock/m"}
    async with node(world, tmp_path) as watch:
        await until(lambda: watch.delivered["ops", "failed"] == 1)
        world.ear.failing = None
        world.clock.now = (due := await watch.store.due("ops")) - 0.05
        watch.courier.wake()
        await asyncio.sleep(0.2)
        assert world.ear.tried == 1
        world.clock.now = due
        await until(lambda: len(world.ear.heard) == 1)


async def test_a_letter_that_trips_us_over_is_given_up_for_those_behind_it(world, tmp_path):
    world.ear.failing, world.open = ZeroDivisionError(), {"mock/m"}
    async with node(world, tmp_path) as watch:
        for tries in range(1, courier.FAULTS):
            await until(lambda tries=tries: watch.delivered["ops", "failed"] == tries)
            world.clock.now += courier.LONGEST
            watch.courier.wake()
        await until(lambda: watch.delivered["ops", "undelivered"] == 1)
        assert [fields["error"] for fields in world.notes("alert_fault")] == ["ZeroDivisionError"] * courier.FAULTS
        world.ear.failing, world.open = None, {"mock/m", "mock/n"}
        await pass_time(world, watch, 61)
        await until(lambda: len(world.ear.heard) == 1)


async def test_one_channel_that_hangs_holds_up_no_other(world, tmp_path):
    stuck, world.open = Ear("stuck"), {"mock/m"}
    stuck.stuck = asyncio.Event()
    async with node(world, tmp_path, channels={"stuck": stuck, "ops": world.ear}) as watch:
        await until(lambda: len(world.ear.heard) == 1)
        world.open = {"mock/m", "mock/n"}
        await pass_time(world, watch, 61)
        await until(lambda: len(world.ear.heard) == 2)
        assert (stuck.tried, stuck.heard) == (1, [])


async def test_what_can_not_be_told_now_neither_fires_nor_recovers(world, tmp_path):
    world.open = {"mock/m"}
    async with node(world, tmp_path) as watch:
        await until(lambda: len(world.ear.heard) == 1)
        world.blind = True
        await pass_time(world, watch, 100)
        assert [alert.phase for alert in watch.board.alerts] == ["firing"]
    assert len(world.ear.heard) == 1


async def test_a_store_that_is_away_is_told_once_and_when_it_is_back(world, tmp_path):
    async with node(world, tmp_path) as watch:
        kept = watch.store

        class Away:
            async def lead(self, *_):
                raise StoreDown("gone")

            async def resign(self, *_):
                raise StoreDown("gone")

        watch.store = Away()
        await watch.look_safely()
        await watch.look_safely()
        assert world.notes("alerts_unkept") == [{"reason": "gone"}]
        assert watch.board is None
        watch.store = kept
        await watch.look_safely()
        assert len(world.notes("alerts_kept")) == 1


async def test_a_fault_of_ours_ends_neither_looking_nor_delivering(world, tmp_path):
    async with node(world, tmp_path) as watch:

        async def trip(needs: Needs, now: float) -> Figures:
            raise ZeroDivisionError

        await watch.use(replace(world.plan(), gather=trip))
        await until(lambda: world.notes("alert_fault"))
        assert world.notes("alert_fault")[0]["error"] == "ZeroDivisionError"
        assert world.notes("alert_fault")[0]["place"].startswith("test_watch.py:")
        world.open = {"mock/m"}
        await watch.use(world.plan())
        await until(lambda: len(world.ear.heard) == 1)


async def test_another_plan_is_gone_by_at_once_and_none_ends_it(world, tmp_path):
    world.open = {"mock/m"}
    async with node(world, tmp_path) as watch:
        await until(lambda: len(world.ear.heard) == 1)
        world.clock.now += 100
        await watch.use(world.plan(rules=()))
        await until(lambda: len(world.ear.heard) == 2)
        assert "recovered" in world.ear.titles[1]
        await watch.use(Plan())
        assert not watch.is_on
        assert await watch.store.lead("b", world.clock.now, 1.0) is not None, "another may look at once"


async def test_a_test_is_sent_now_and_once_and_is_in_the_history(world, tmp_path):
    async with node(world, tmp_path) as watch:
        id_ = await watch.test("ops")
        assert [(letter.id, letter.message.title) for letter in world.ear.heard] == [(id_, "sentinel: test")]
        world.ear.failing = ChannelDown("it answered 500")
        with pytest.raises(ChannelDown):
            await watch.test("ops")
        with pytest.raises(AlertNotFound, match="Those that are configured: ops"):
            await watch.test("opps")
        entries = (await watch.store.history(limit=9, cursor=None)).entries
        assert [(entry.kind, entry.text) for entry in entries] == [
            ("test", "not delivered: it answered 500"),
            ("test", "delivered"),
        ]


async def test_ten_thousand_at_once_are_one_message(world, tmp_path):
    world.open = {f"mock/m{number}" for number in range(10_000)}
    async with node(world, tmp_path) as watch:
        await until(lambda: len(world.ear.heard) == 1)
        for _ in range(5):
            await pass_time(world, watch, 61)
        assert len(world.ear.heard) == 1
        assert world.ear.titles == ["sentinel: 10,000 firing (circuit-open)"]
        assert len(world.notes("alert_firing")) <= 20
        assert len((await watch.store.history(limit=200, cursor=None)).entries) <= 102
