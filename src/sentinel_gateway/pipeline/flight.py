"""One flight for many: requests that ask the same while nobody knows the answer yet share one upstream call.

A flight opens in a task of its own, so that its leader may leave. A stream is then drawn by whichever passenger wants more
first, and what comes is kept for those who join late or read slowly. The last passenger to leave ends it (docs/decisions/010),
unless its route says that it is to be drained.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final

from msgspec.structs import replace

from sentinel_gateway.core.chat import Answer
from sentinel_gateway.errors import UpstreamBroken
from sentinel_gateway.pipeline.drains import Drains
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.plan import Plan
from sentinel_gateway.pipeline.relay import Batch, Relay
from sentinel_gateway.ports import Completion

KEPT_BYTES: Final = 8 * 1024 * 1024
"""Of a stream, for late joiners and slow readers. Beyond it nobody can join, and who has not read the oldest part is cut off."""

Open = Callable[[Plan, Journey], Coroutine[Any, Any, Completion | Relay]]
"""Ask the providers for what a flight is to bring."""
Into = Callable[[list[bytes]], bool]
"""Takes payloads that came together, and says whether it takes more at once."""


class Flight:
    """One upstream call and who waits for it. `journey` is its own: it outlasts the leader's.

    `drains` may take it over from the last who leaves.
    """

    _aboard = 0
    _opened: Completion | Relay | None = None
    _relay: Relay | None = None
    _drains: Drains | None = None
    _batches: deque[Batch]
    """Of a stream, once it is open."""
    _dropped = 0
    """Batches that are kept no longer."""
    _bytes = 0
    """Of those that are."""
    _ended = False
    _error: Exception | None = None
    _drawing = False

    def __init__(
        self, plan: Plan, journey: Journey, open_: Open, *, on_end: Callable[["Flight"], None], drains: Drains | None = None
    ) -> None:
        self.plan = plan
        self.name = plan.key, journey.wish.buffered
        self.journey = replace(journey)
        self._on_end = on_end
        if drains is not None:
            self._drains = drains
        self._waiting: list[asyncio.Future[None]] = []
        self._loop = asyncio.get_running_loop()
        self._opening: asyncio.Task[None] | None = self._loop.create_task(self._open(open_))

    def __repr__(self) -> str:
        state = "ended" if self._ended else "open" if self._opening is None or self._opening.done() else "opening"
        return f"<Flight {self.plan.key[:8]} {state}, {self._aboard} aboard>"

    async def _open(self, open_: Open) -> None:
        try:
            self._opened = await open_(self.plan, self.journey)
        except Exception as exc:  # noqa: BLE001 - broad: whatever it is, all who wait are told
            self._error = exc
        if isinstance(self._opened, Relay):
            self._relay, self._batches = self._opened, deque()
            for batch in self._relay.withheld:
                self._keep(batch)
        else:
            self._end()
        self._wake()

    def tell(self, journey: Journey) -> None:
        """Write down for one passenger how it went so far. The tokens and their cost are the leader's."""
        own = self.journey
        journey.target, journey.kept = own.target, own.kept
        journey.upstream_started, journey.upstream_ended = own.upstream_started, own.upstream_ended
        if own.outcome == "coalesced":  # with the flight of another node
            journey.outcome = own.outcome
        if journey.outcome != "coalesced":
            journey.prompt_tokens, journey.completion_tokens = own.prompt_tokens, own.completion_tokens
            journey.cost, journey.basis = own.cost, own.basis
            journey.attempts = own.attempts

    def _end(self) -> None:
        self._ended = True
        self._on_end(self)

    # --- passengers ---

    def board(self) -> None:
        """One more waits for it; each must `leave` once, but for those to whom it has brought a whole answer."""
        self._aboard += 1

    async def leave(self) -> None:
        """One waits no more. The last one ends it: the upstream connection is closed unless all was read, or is to be."""
        self._aboard -= 1
        if self._aboard:
            return
        if not self._ended:
            drains, self._drains = self._drains, None
            if drains is not None and drains.take(self):
                return
            self._end()  # first of all: nobody may board what is being cancelled
        opening, self._opening = self._opening, None  # cancelled, it holds an error whose frames hold us
        if opening is not None and not opening.done():
            opening.cancel()
            await asyncio.wait([opening])
        if self._relay is not None:
            await self._relay.close()

    async def opened(self) -> Completion | Relay:
        """What it brings, once that is known; raises the `UpstreamError` of all who wait."""
        while self._opened is None:
            if self._error is not None:
                raise self._error.with_traceback(None)  # one error for many: each raise would lengthen its trace
            await self._woken()
        return self._opened

    def batch(self, number: int) -> Batch | None:
        """What came as the `number`th, from 0; None if it has not come yet. Raises `UpstreamBroken` if it is kept no longer."""
        ahead = number - self._dropped
        if ahead < 0:
            raise UpstreamBroken("The stream was read so slowly that its next part is kept no longer.")
        return self._batches[ahead] if ahead < len(self._batches) else None

    def is_over(self) -> bool:
        """Nothing more comes; raises the error of all who wait."""
        if self._error is not None:
            raise self._error.with_traceback(None)
        return self._ended

    async def go_on(self, into: Callable[[Batch], bool]) -> None:
        """For who has all that has come: returns when there is more, or an end.

        Who finds nobody drawing the stream draws it itself: `into` is given what comes until it wants no more now.
        """
        if self._drawing or self._relay is None:
            await self._woken()
        else:
            await self._draw(self._relay, into)

    async def _draw(self, relay: Relay, into: Callable[[Batch], bool]) -> None:
        fault: Exception | None = None

        def take(batch: Batch) -> bool:
            nonlocal fault
            self._keep(batch)
            if self._waiting:
                self._wake()
            try:
                return into(batch)
            except Exception as exc:  # noqa: BLE001 - broad: it is no matter of the others', who go on
                fault = exc
                return False

        self._drawing = True
        try:
            await relay.pipe(take)
        except StopAsyncIteration:
            self._land(relay)
        except Exception as exc:  # noqa: BLE001 - broad: whatever it is, all who wait are told
            self._land(relay, exc)
        finally:  # cancelled, it leaves the asking to another
            self._drawing = False
            self._wake()
        if fault is not None:
            raise fault

    def _woken(self) -> asyncio.Future[None]:
        """Done as soon as something has happened."""
        waiting = self._loop.create_future()
        self._waiting.append(waiting)
        return waiting

    def _wake(self) -> None:
        if not self._waiting:
            return
        waiting_now, self._waiting = self._waiting, []
        for waiting in waiting_now:
            if not waiting.done():
                waiting.set_result(None)

    def _land(self, relay: Relay, error: Exception | None = None) -> None:
        try:
            relay.end(error)
        except Exception as exc:  # noqa: BLE001 - as above
            self._error = exc
        self._end()

    def _keep(self, batch: Batch) -> None:
        self._batches.append(batch)
        self._bytes += batch.size
        while self._bytes > KEPT_BYTES and len(self._batches) > 1:
            self._bytes -= self._batches.popleft().size
            self._dropped += 1
            self._on_end(self)  # nobody can join who needs its beginning

    async def read_to_the_end(self) -> None:
        """Returns when all of it has come; raises the `UpstreamError` of all who wait."""
        if isinstance(await self.opened(), Relay):
            await Reader(self, usage=True).pipe(lambda _: True)

    async def answer(self) -> Answer | None:
        """The whole stream as one answer, once it has ended; None if it was too long to be put together."""
        await self.read_to_the_end()
        return None if self._relay is None or self._relay.fold.overflown else self._relay.fold.answer()


class Reader:
    """One passenger's way through a stream, from its beginning; with the chunk of its `usage` or without."""

    def __init__(self, flight: Flight, *, usage: bool) -> None:
        self._flight = flight
        self._usage = usage
        self._at = 0

    def __repr__(self) -> str:
        return f"<Reader of {self._flight!r} at {self._at}>"

    async def pipe(self, into: Into) -> bool:
        """Give `into` payloads as they come, in the batches in which they came, until it wants no more now; False at the end."""
        flight, more = self._flight, True

        def hear(batch: Batch) -> bool:
            nonlocal more
            self._at += 1
            payloads = batch.all if self._usage else batch.without_usage
            more = not payloads or into(payloads)
            return more

        while more:
            if (batch := flight.batch(self._at)) is not None:
                hear(batch)
            elif flight.is_over():
                return False
            else:
                await flight.go_on(hear)
        return True


class Flights:
    """Those in the air that can be joined, by the exact key and whether they are withheld.

    `stale` tells of a journey whether its answer was cleared since.
    """

    def __init__(self, stale: Callable[[Journey], bool] = lambda _: False, drains: Drains | None = None) -> None:
        self._by_key: dict[tuple[str, bool], Flight] = {}
        self._stale = stale
        self._drains = drains

    def __repr__(self) -> str:
        return f"<Flights {len(self._by_key)} in the air>"

    def find(self, plan: Plan, journey: Journey) -> Flight | None:
        """The flight that brings what is asked for. Who will have no stored answer gets none of somebody else's.

        Nor does anybody get one that was asked for before a clear, or one that is withheld, or isn't, against its wish.
        """
        wish = journey.wish
        flight = self._by_key.get((plan.key, wish.buffered)) if wish.read else None
        return None if flight is None or self._stale(flight.journey) else flight

    def launch(self, plan: Plan, journey: Journey, open_: Open, *, alone: bool = False) -> Flight:
        """A new flight; unless it flies `alone`, others can join it if its answer may be kept for them as well."""
        conduct = plan.route.conduct
        drains = self._drains if conduct is not None and conduct.drain and _keeps(journey) else None
        flight = Flight(plan, journey, open_, on_end=self._forget, drains=drains)
        if not alone and shares(journey):
            self._by_key[flight.name] = flight
        return flight

    def _forget(self, flight: Flight) -> None:
        if self._by_key.get(flight.name) is flight:
            del self._by_key[flight.name]


def shares(journey: Journey) -> bool:
    """May others have the answer to this request as well? Not one that is shorter because of a budget."""
    capped = journey.capped
    return journey.wish.read and _keeps(journey) and (capped is None or not capped.scant)


def _keeps(journey: Journey) -> bool:
    """May the answer be stored, as far as that is known before it comes?"""
    wish, bound = journey.wish, journey.restriction
    return wish.write and wish.ttl != 0 and (bound is None or not bound.forbids)
