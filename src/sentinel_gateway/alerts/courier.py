"""Delivers what was written: each letter until its channel has taken it, with pauses that grow, or until it is too old to help.

Letters wait in the store, so what a process that died had to deliver, the next one delivers. Who claims one has it for a while,
so that two nodes never send the same at once; one that was sent and not settled is sent again, under the same id. A channel that
fails again and again is left alone for a minute at a time.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from sentinel_gateway.core.circuit import Circuit, CircuitRules
from sentinel_gateway.errors import ChannelDown, StoreDown, place_of
from sentinel_gateway.ports import Clock, Events
from sentinel_gateway.ports.alerts import AlertStore, Channel, Entry, Kind, Letter

FIRST: Final = 5.0
"""Seconds to the second try, twice as many to each further one, up to the longest; by chance down to half of that."""
LONGEST: Final = 60.0
"""What is newer waits for what is older, so that must not rest for long; nor is there ever a longer time without a look."""
TOO_OLD: Final = 6 * 3600.0
"""Seconds after which a letter is given up."""
CLAIMED: Final = 60.0
"""Seconds for which a letter is nobody else's; a channel's own deadline is far less."""
PAUSES: Final = CircuitRules(failures=5, successes=1, pause=60.0)


class Courier:
    """`channels` may be changed at any time. Belongs to the event loop's thread.

    `delivered` counts by channel and by `delivered`, `failed` (it is tried again) or `undelivered`.
    """

    def __init__(self, store: AlertStore, clock: Clock, events: Events, chance: Callable[[], float]) -> None:
        self.channels: Mapping[str, Channel] = {}
        self.delivered: Counter[tuple[str, str]] = Counter()
        self._store = store
        self._clock = clock
        self._events = events
        self._chance = chance
        self._circuits: dict[str, Circuit] = {}
        self._due = float("inf")
        self._woken = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Courier to {', '.join(self.channels) or 'nobody'}>"

    def wake(self) -> None:
        """There may be letters."""
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        self._woken.set()

    async def close(self) -> None:
        """What is being sent is sent again by the next process."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    async def _run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(self._due - self._clock(), LONGEST))):
                    await self._woken.wait()
            self._woken.clear()
            self._due = float("inf")
            await asyncio.gather(*(self._serve_safely(channel) for channel in list(self.channels.values())))

    async def _serve_safely(self, channel: Channel) -> None:
        try:
            await self._serve(channel)
        except StoreDown:
            self._again(self._clock() + FIRST)
        except Exception as exc:  # noqa: BLE001 - broad: a fault of ours with one letter must not keep the others
            self._events.note("alert_fault", channel=channel.name, error=type(exc).__name__, place=place_of(exc))

    async def _serve(self, channel: Channel) -> None:
        """All that is due to it, until one fails."""
        circuit = self._circuits.setdefault(channel.name, Circuit(PAUSES))
        while True:
            now = self._clock()
            if not circuit.admits(now, last=False):
                self._again(now + PAUSES.pause)
                return
            letter = await self._store.claim(channel.name, now, CLAIMED)
            if letter is None:
                return
            generation = circuit.enter(now)
            try:
                await channel.send(letter)
            except ChannelDown as exc:
                if circuit.failed(generation, self._clock()):
                    self._events.note("alert_channel_paused", channel=channel.name, reason=str(exc))
                await self._failed(letter, exc)
                return
            circuit.succeeded(generation)
            await self._store.settle(letter, self._entry(letter, "delivered", letter.message.title))
            self.delivered[channel.name, "delivered"] += 1

    async def _failed(self, letter: Letter, why: ChannelDown) -> None:
        now = self._clock()
        pause = min(FIRST * 2.0 ** (letter.tries - 1), LONGEST) * (0.5 + 0.5 * self._chance())
        given_up = why.gone or now + pause > letter.at + TOO_OLD
        outcome = "undelivered" if given_up else "failed"
        self._events.note(
            "alert_not_delivered", channel=letter.channel, tries=float(letter.tries), outcome=outcome, reason=str(why)
        )
        if given_up:
            await self._store.settle(letter, self._entry(letter, "undelivered", f"{letter.message.title}: {why}"))
        else:
            await self._store.settle(letter, None, due=now + pause)
            self._again(now + pause)
        self.delivered[letter.channel, outcome] += 1

    def _entry(self, letter: Letter, kind: Kind, text: str) -> Entry:
        return Entry(at=self._clock(), kind=kind, channel=letter.channel, text=text)

    def _again(self, due: float) -> None:
        self._due = min(self._due, due)
