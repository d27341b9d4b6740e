"""Delivers what was written: each letter until its channel has taken it, with pauses that grow, or until it is too old to help.

Letters wait in the store, so what a process that died had to deliver, the next one delivers. Who claims one has it for a while,
so that two nodes never send the same at once; one that was sent and not settled is sent again, under the same id. Each channel is
served by itself and gets its letters in their order: the last word must be the true one. One that fails again and again is left
alone for a minute at a time.
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
FAULTS: Final = 3
"""Tries after which a letter is given up that trips us over, since others wait for it."""
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
        self._woken: dict[str, asyncio.Event] = {}
        self._running: dict[str, asyncio.Task[None]] = {}

    def __repr__(self) -> str:
        return f"<Courier to {', '.join(self.channels) or 'nobody'}>"

    def wake(self) -> None:
        """There may be letters."""
        for name in self.channels:
            self._woken.setdefault(name, asyncio.Event()).set()
            if name not in self._running:
                self._running[name] = asyncio.create_task(self._run(name))

    async def close(self) -> None:
        """What is being sent is sent again by the next process."""
        running, self._running = self._running, {}
        for task in running.values():
            task.cancel()
        await asyncio.gather(*running.values(), return_exceptions=True)

    async def _run(self, name: str) -> None:
        """One channel's rounds, as long as there is one of that name; none waits for another."""
        woken = self._woken[name]
        while (channel := self.channels.get(name)) is not None:
            woken.clear()
            due = await self._serve_safely(channel)
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(due - self._clock(), LONGEST))):
                    await woken.wait()
        del self._running[name]

    async def _serve_safely(self, channel: Channel) -> float:
        """As `_serve`; what goes wrong is told, and never raised."""
        try:
            return await self._serve(channel)
        except StoreDown:
            return self._clock() + FIRST
        except Exception as exc:  # noqa: BLE001 - broad: a fault of ours in one round must not end the rounds of the channel
            self._fault(channel, exc)
            return self._clock() + LONGEST

    async def _serve(self, channel: Channel) -> float:
        """All that is due to it, in its order, until one fails; when to look again."""
        circuit = self._circuits.setdefault(channel.name, Circuit(PAUSES))
        while True:
            now = self._clock()
            if not circuit.admits(now, last=False):
                return now + FIRST
            letter = await self._store.claim(channel.name, now, CLAIMED)
            if letter is None:
                due = await self._store.due(channel.name)
                return now + LONGEST if due is None else due
            if now > letter.at + TOO_OLD:
                await self._give_up(letter, "it is too old")
                continue
            generation = circuit.enter(now)
            failure = await self._send(channel, letter)
            if failure is None:
                circuit.succeeded(generation)
                await self._store.settle(letter, self._entry(letter, "delivered", letter.message.title))
                self.delivered[channel.name, "delivered"] += 1
            else:
                if circuit.failed(generation, self._clock()):
                    self._events.note("alert_channel_paused", channel=channel.name, reason=str(failure))
                await self._failed(letter, failure)

    async def _send(self, channel: Channel, letter: Letter) -> ChannelDown | None:
        """What kept it from arriving."""
        try:
            await channel.send(letter)
        except ChannelDown as exc:
            return exc
        except Exception as exc:  # noqa: BLE001 - broad: a fault of ours with one letter must not keep the others; it is told
            self._fault(channel, exc)
            return ChannelDown(f"a fault of Sentinel's: {type(exc).__name__}", gone=letter.tries >= FAULTS)
        return None

    async def _failed(self, letter: Letter, why: ChannelDown) -> None:
        now = self._clock()
        pause = min(FIRST * 2.0 ** (letter.tries - 1), LONGEST) * (0.5 + 0.5 * self._chance())
        if why.gone or now + pause > letter.at + TOO_OLD:
            await self._give_up(letter, str(why))
            return
        self._tell(letter, "failed", str(why))
        await self._store.settle(letter, None, due=now + pause)
        self.delivered[letter.channel, "failed"] += 1

    async def _give_up(self, letter: Letter, why: str) -> None:
        self._tell(letter, "undelivered", why)
        await self._store.settle(letter, self._entry(letter, "undelivered", f"{letter.message.title}: {why}"))
        self.delivered[letter.channel, "undelivered"] += 1

    def _tell(self, letter: Letter, outcome: str, reason: str) -> None:
        self._events.note(
            "alert_not_delivered", channel=letter.channel, tries=float(letter.tries), outcome=outcome, reason=reason
        )

    def _fault(self, channel: Channel, exc: Exception) -> None:
        self._events.note("alert_fault", channel=channel.name, error=type(exc).__name__, place=place_of(exc))

    def _entry(self, letter: Letter, kind: Kind, text: str) -> Entry:
        return Entry(at=self._clock(), kind=kind, channel=letter.channel, text=text)
