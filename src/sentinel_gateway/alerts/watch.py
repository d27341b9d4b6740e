"""Looks, every so often, whether a rule holds, and whether a report is due; keeps what came of it; and has it told.

Of several nodes that keep alerts in one place, one looks at a time: it holds a lease, and what it found is kept only if it still
holds that, in one transaction with what is to be sent. So nobody is told twice, whoever dies when, and where things stand
outlives the process. No request waits for any of this.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from secrets import token_hex
from typing import Final

import msgspec
from msgspec.structs import replace

from sentinel_gateway.alerts.courier import Courier
from sentinel_gateway.alerts.reports import Compile, Report, due
from sentinel_gateway.core.alerting.board import Board, Habits, Step, advance
from sentinel_gateway.core.alerting.conditions import find, needs
from sentinel_gateway.core.alerting.figures import Figures, Needs
from sentinel_gateway.core.alerting.notices import Stamp, messages, trial
from sentinel_gateway.core.alerting.rules import Rule
from sentinel_gateway.errors import AlertNotFound, ChannelDown, StoreDown, place_of
from sentinel_gateway.ports import Clock, Events
from sentinel_gateway.ports.alerts import AlertStore, Channel, Entry, Led, Letter

SWEEP: Final = 3600.0
"""Seconds between two looks at old lines of the history where nothing else is to be kept."""
LOGGED: Final = 20
"""Turns of one look that the log tells one by one."""
LEAST_LEASE: Final = 30.0
LEASES: Final = 3.0
"""A lease is so many times as long as the time from one look to the next: one that fails loses nothing."""

Gather = Callable[[Needs, float], Awaitable[Figures]]
"""What is known now of what rules ask for. Never raises."""


class Plan(msgspec.Struct, frozen=True):
    """A configuration's part. `every` is from one look to the next, `kept` how long the history is, in seconds (0: for ever)."""

    rules: tuple[Rule, ...] = ()
    gather: Gather | None = None
    channels: Mapping[str, Channel] = {}
    habits: Habits = Habits()
    on: bool = False
    every: float = 30.0
    kept: float = 0.0
    service: str = "sentinel"
    reports: tuple[Report, ...] = ()
    compile: Compile | None = None


OFF: Final = Plan()


class Watch:
    """Of one process; belongs to the event loop's thread. `node` is the process' own name among all nodes."""

    def __init__(self, store: AlertStore, *, node: str, clock: Clock, events: Events, stamp: Stamp) -> None:
        self.store = store
        self.plan = OFF
        self.board: Board | None = None
        """As this node has left it; None while another one looks, or none."""
        self._node = node
        self._clock = clock
        self._events = events
        self._stamp = stamp
        self.courier = Courier(store, clock, events, random.random)
        self._looking: asyncio.Task[None] | None = None
        self._hurried = asyncio.Event()
        self._failing = False
        self._sweep_at = 0.0
        self._turn = 0

    def __repr__(self) -> str:
        return f"<Watch {len(self.plan.rules)} rules, {'looking' if self.board is not None else 'idle'}>"

    @property
    def rules(self) -> Sequence[Rule]:
        """Those in force."""
        return self.plan.rules

    @property
    def channels(self) -> Mapping[str, Channel]:
        return self.plan.channels

    @property
    def is_on(self) -> bool:
        return self.plan.on

    @property
    def delivered(self) -> Counter[tuple[str, str]]:
        """Messages by channel and outcome, since the start."""
        return self.courier.delivered

    async def use(self, plan: Plan) -> None:
        """Go by this from now on."""
        self.plan = plan
        self.courier.channels = plan.channels
        if not plan.on:
            await self.close()
        elif self._looking is None:
            self._looking = asyncio.create_task(self._look_on())
        else:
            self._hurried.set()

    async def close(self) -> None:
        """Nobody looks any more; another node may at once."""
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking
            with suppress(StoreDown):
                await self.store.resign(self._node)
        self.board = None
        await self.courier.close()

    async def test(self, name: str) -> str:
        """Send a test to a channel, now and once; the id under which it came. Raises `AlertNotFound` and `ChannelDown`."""
        channel = self.plan.channels.get(name)
        if channel is None:
            known = ", ".join(self.plan.channels) or "none is configured"
            raise AlertNotFound(f"There is no channel '{name[:100]}'. Those that are configured: {known}.", param="channel")
        return await send_trial(channel, self._clock(), service=self.plan.service, note=self.store.note)

    async def _look_on(self) -> None:
        while True:
            await self.look_safely()
            with suppress(TimeoutError):
                async with asyncio.timeout(self.plan.every):
                    await self._hurried.wait()
            self._hurried.clear()

    async def look_safely(self) -> None:
        """As `look`; what goes wrong is told, and never raised."""
        try:
            await self.look()
        except StoreDown as exc:
            self.board = None
            if not self._failing:
                self._failing = True
                self._events.note("alerts_unkept", reason=str(exc))
        except Exception as exc:  # noqa: BLE001 - broad: whatever one look trips over, there must be a next one; it is told
            self._events.note("alert_fault", channel="", error=type(exc).__name__, place=place_of(exc))
        else:
            if self._failing:
                self._failing = False
                self._events.note("alerts_kept")

    async def look(self) -> None:
        """Look once, if it is this node's turn. Raises `StoreDown`."""
        plan, now = self.plan, self._clock()
        led = await self.store.lead(self._node, now, max(LEASES * plan.every, LEAST_LEASE))
        if led is None or plan.gather is None:
            self.board = None
            return
        figures = await plan.gather(needs(plan.rules), now)
        step = await asyncio.to_thread(_step, plan, led, figures, now)  # ten thousand findings take 40 ms
        step = replace(step, board=replace(step.board, reported=led.board.reported))
        if not await self._keep(led.board, step, plan, now):
            self.board = None  # it took so long that another node looks by now
            return
        self.board = step.board
        for turn in step.turns[:LOGGED]:
            alert = turn.alert
            said = {"reason" if turn.change == "firing" else "text": alert.text}  # a reason makes it a warning
            self._events.note(f"alert_{turn.change}", rule=alert.rule, subject=alert.subject, severity=alert.severity, **said)
        self.courier.wake()
        if plan.compile is not None:
            await self._report(step.board, plan, plan.compile, now)

    async def _keep(self, before: Board, step: Step, plan: Plan, now: float) -> bool:
        letters = []
        if step.notice is not None:
            told = messages(step.notice, plan.channels, service=plan.service, stamp=self._stamp)
            letters = [Letter(make_id(), channel, now, 0, message) for channel, message in told.items()]
        if step.board == before and not letters and now < self._sweep_at:
            return True
        entries = [
            Entry(at=turn.at, kind=turn.change, rule=turn.alert.rule, subject=turn.alert.subject, text=turn.alert.text)
            for turn in step.turns
        ]
        kept = await self.store.keep(self._node, step.board, entries, letters, oldest=_oldest(plan, now))
        self._sweep_at = now + SWEEP
        return kept

    async def _report(self, board: Board, plan: Plan, compile_: Compile, now: float) -> None:
        """After the alerts, which wait for no ledger. Each look begins with the next report: one that fails keeps no other."""
        self._turn += 1
        first = self._turn % max(1, len(plan.reports))
        reports = (*plan.reports[first:], *plan.reports[:first])
        reported, written = await due(reports, compile_, board.reported, plan.channels, now)
        if reported == board.reported:
            return
        board = replace(board, reported=reported)
        letters = [Letter(make_id(), channel, now, 0, message) for channel, message in written]
        kept = await self.store.keep(self._node, board, (), letters, oldest=_oldest(plan, now))
        self.board = board if kept else None
        self.courier.wake()


def _oldest(plan: Plan, now: float) -> float:
    """From when on the history is kept."""
    return now - plan.kept if plan.kept else 0.0


def _step(plan: Plan, led: Led, figures: Figures, now: float) -> Step:
    found = {rule.name: find(rule, figures) for rule in plan.rules}
    return advance(led.board, plan.rules, found, now, habits=plan.habits, silenced=led.silences)


def make_id() -> str:
    """Of a message, unlike all others."""
    return f"msg_{token_hex(12)}"


async def send_trial(
    channel: Channel, now: float, *, service: str, note: Callable[[Entry], Awaitable[None]] | None = None
) -> str:
    """Send a test; what came of it goes into the history as far as that can be written. Raises `ChannelDown`."""
    letter = Letter(make_id(), channel.name, now, 1, trial(channel.name, service=service))
    outcome = "delivered"
    try:
        await channel.send(letter)
    except ChannelDown as exc:
        outcome = f"not delivered: {exc}"
        raise
    finally:
        if note is not None:
            with suppress(StoreDown):
                await note(Entry(at=now, kind="test", channel=channel.name, text=outcome))
    return letter.id
