"""One attempt: what its target's standing learns of it, the event that it leaves, and where it may lose, what it costs."""

from asyncio import CancelledError
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from sentinel_gateway.core.chat import Batches, Chunk, Usage
from sentinel_gateway.core.pricing import Pricing, basis, cost
from sentinel_gateway.core.record import Attempt, Ending
from sentinel_gateway.errors import (
    UpstreamError,
    UpstreamLimited,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnauthorized,
    UpstreamUnreachable,
    let_go,
)
from sentinel_gateway.pipeline.bookkeeping import intent, settled
from sentinel_gateway.pipeline.circuits import Circuits
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.spending import Spending
from sentinel_gateway.ports import Unsent, World

if TYPE_CHECKING:
    from sentinel_gateway.ports.ledger import Intent

ENDINGS: Final[Mapping[type[UpstreamError], Ending]] = {
    UpstreamLimited: "limited",
    UpstreamRefused: "refused",
    UpstreamTimeout: "timeout",
    UpstreamUnauthorized: "unauthorized",
    UpstreamUnreachable: "unreachable",
}
"""Theirs, and that of all errors below them. Any other is `broken`."""
NOTHING: Final = Usage()


async def pause(world: World, seconds: float) -> None:
    """Wait before the next attempt. Those that were made have failed and cost nothing: who leaves now has sent nothing."""
    try:
        await world.sleep(seconds)
    except CancelledError as error:
        raise Unsent from error


class Try:
    """An attempt under way. It ends once: `answered`, `failed`, or `left` by all who waited.

    Its journey is told what it has used, and what that costs by `price`.
    """

    __slots__ = ("_attempt", "_circuits", "_generation", "_intent", "_journey", "_price", "_spent", "_standing")

    def __init__(self, circuits: Circuits, journey: Journey, price: Pricing, now: float, *, again: bool, stream: bool) -> None:
        target = journey.target
        self._circuits = circuits
        self._journey = journey
        self._price = price
        self._spent: Usage | None = None
        caller = journey.caller
        self._attempt = Attempt(
            journey.sentinel_id,
            target,
            journey.attempts,
            now,
            stream,
            account=caller.tenant or "",
            key=caller.actor,
            model=journey.model,
            route=journey.route,
            trace=journey.trace,
            priced_as_of=price.as_of,
        )
        self._standing = standing = circuits.standings.find(target)
        self._generation = 0 if standing is None else standing.enter(now, stream=stream, again=again)
        self._intent: Intent | None = None
        if (ledger := circuits.world.ledger) is not None:
            held = 0 if journey.grant is None else journey.grant.budgeted
            self._intent = intent(self._attempt, reserved=held)
            ledger.intend(self._intent)

    def __repr__(self) -> str:
        return f"<Try {self._attempt.number} {self._attempt.target}>"

    def heard(self, batches: Batches[Chunk]) -> Batches[Chunk]:
        """The chunks of its stream, of which its trace is told where traces are on."""
        trace = self._attempt.trace
        return batches if trace is None else trace.heard(self._attempt, batches)

    def began(self) -> None:
        """The stream's first chunks are here."""
        self._attempt.first_token_seconds = self._circuits.world.clock() - self._attempt.at

    def spent(self, usage: Usage) -> None:
        """So much was generated, whatever comes of it."""
        self._spent = usage

    def answered(self, usage: Usage) -> None:
        """All of the answer is here."""
        attempt, standing = self._attempt, self._standing
        attempt.ending, self._journey.paid = "answered", attempt
        self._end(usage)
        if standing is not None:
            seconds = attempt.first_token_seconds or attempt.seconds
            if standing.succeeded(self._generation, stream=attempt.stream, seconds=seconds):
                self._circuits.turned(attempt.target, opened=False)

    def failed(self, error: UpstreamError, usage: Usage | None = None) -> float:
        """It ended in an error: when."""
        attempt = self._attempt
        attempt.ending = next((ENDINGS[kind] for kind in type(error).__mro__ if kind in ENDINGS), "broken")
        attempt.error, attempt.message = error.kind, error.message
        let_go(error)
        now = self._end(usage or self._spent)
        if attempt.ending == "refused":  # anybody can bring that about: nothing is remembered of a target for it
            if self._standing is not None and self._standing.circuit.refused(self._generation):
                self._circuits.turned(attempt.target, opened=False)
            return now
        standing = self._standing or self._circuits.standings.of(attempt.target)
        if standing.failed(self._generation, error, now):
            self._circuits.turned(attempt.target, opened=True)
        return now

    def left(self, usage: Usage | None = None) -> None:
        """Nobody waits for it any more: that says nothing of the target. `usage`: where nothing was `spent` that is known."""
        self._end(self._spent or usage)
        if self._standing is not None:
            self._standing.circuit.left(self._generation, self._attempt.at)

    def lost(self, usage: Usage | None) -> None:
        """Another has begun to answer before it, and is heard instead. It has had its turn to try a circuit that is open."""
        self._attempt.ending = "lost"
        self._end(usage)

    def _end(self, usage: Usage | None) -> float:
        attempt, world = self._attempt, self._circuits.world
        now = world.clock()
        attempt.seconds = now - attempt.at
        if usage is not None:
            self._bill(usage)
        if self._standing is not None:
            self._standing.leave()
        if self._intent is not None and world.ledger is not None:
            world.ledger.settle(settled(attempt, self._intent, usage or NOTHING))
        world.events.attempted(attempt)
        return now

    def _bill(self, usage: Usage) -> None:
        attempt, journey, price = self._attempt, self._journey, self._price
        attempt.prompt_tokens, attempt.completion_tokens = usage.prompt_tokens, usage.completion_tokens
        attempt.cost, attempt.basis = cost(price, usage), basis(price, usage)
        journey.cost += attempt.cost
        if attempt.ending != "lost":
            journey.prompt_tokens += usage.prompt_tokens  # beside those of what broke off before
            journey.completion_tokens += usage.completion_tokens
        if attempt.basis != "price":
            journey.basis = attempt.basis


class HedgedTry(Try):
    """One of a route whose calls may be made twice: how long it took to begin is remembered, and what it cost is booked."""

    __slots__ = ("_spending", "told", "unsent")

    def __init__(
        self, circuits: Circuits, journey: Journey, now: float, *, again: bool, stream: bool, spending: Spending
    ) -> None:
        circuits.standings.of(journey.target)
        super().__init__(circuits, journey, spending.prices(journey.target), now, again=again, stream=stream)
        self._spending = spending
        self.told = NOTHING
        """What it has used, once all of its answer is here; of a stream nothing."""
        self.unsent = False
        """It was given up before anything of it was sent."""

    def beside(self) -> "HedgedTry":
        """The same, made while another had not begun to answer."""
        self._attempt.hedge = True
        return self

    def _end(self, usage: Usage | None) -> float:
        now, attempt = super()._end(usage), self._attempt
        if attempt.ending in {"answered", "lost"}:
            self._circuits.standings.of(attempt.target).began(
                attempt.first_token_seconds or attempt.seconds, stream=attempt.stream
            )
        extra = attempt.ending == "lost"
        self._spending.note(attempt.target, usage or NOTHING, extra=extra)
        return now
