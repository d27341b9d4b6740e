"""One request, from its bytes to its answer: the path, top to bottom.

    admit     is there room?                         a place, or `Overloaded`            admit.py
    plan      what is asked, of whom, under what key?  decode, route, identity           plan.py
    look up   is there an answer already?            `Hit`, or `Miss` with its reasons   lookup.py, tiers.py
              or one to the same in other words?     the same                            semantic.py
    fly       is somebody asking for it already?     a place in that flight, or a new one  flight.py
    dispatch  ask the providers                      `Completion` or an open stream      dispatch.py
    relay     pass a stream on, fold it beside       chunks as they come                 relay.py
    settle    may the answer be kept, how long?      `Store`, or `NotStorable` and why   settle.py

Each step adds one concern and hands a typed value to the next; what a request has met stands in its `Journey`.
The inward side (`api`) reads bytes, calls `Pipeline.handle` and renders what comes back.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial

import msgspec
from msgspec.structs import replace

from sentinel_gateway.core.caching import Hit, Miss, Step
from sentinel_gateway.core.chat import Answer
from sentinel_gateway.errors import NotCached
from sentinel_gateway.pipeline.admit import Admission
from sentinel_gateway.pipeline.dispatch import Dispatch
from sentinel_gateway.pipeline.flight import Flight, Flights
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.lookup import look_far, look_further, look_near
from sentinel_gateway.pipeline.plan import Plan, Planner
from sentinel_gateway.pipeline.relay import Relay
from sentinel_gateway.pipeline.semantic import Semantic
from sentinel_gateway.pipeline.settle import Settlement
from sentinel_gateway.pipeline.tiers import Tiers
from sentinel_gateway.ports import Completion


class Cached(msgspec.Struct, frozen=True):
    """Answered from the cache."""

    plan: Plan
    hit: Hit


class Whole(msgspec.Struct, frozen=True):
    """Answered by a provider, at once."""

    plan: Plan
    completion: Completion


class Live(msgspec.Struct, frozen=True):
    """Being answered by a provider. Whoever holds this must call `Pipeline.close` once, in the end."""

    plan: Plan
    flight: Flight

    def payloads(self) -> AsyncGenerator[list[bytes]]:
        """The stream as this caller asked for it."""
        return self.flight.payloads(usage=self.plan.request.include_usage)


Reply = Cached | Whole | Live


class Pipeline:
    """The path, wired."""

    def __init__(
        self,
        *,
        admission: Admission,
        planner: Planner,
        tiers: Tiers,
        semantic: Semantic | None,
        dispatch: Dispatch,
        settlement: Settlement,
    ) -> None:
        self.admission = admission
        self.tiers = tiers
        self._semantic = semantic
        self._settlement = settlement
        self._planner = planner
        self._dispatch = dispatch
        self._flights = Flights()

    async def handle(self, raw: bytes, journey: Journey, *, waiting: Callable[[Plan], Awaitable[None]]) -> Reply:
        """The answer to a body; raises `RequestError`s. The caller holds a place of `admission`.

        `waiting` is awaited before a provider is asked: from then on the answer may take long.
        """
        plan = self._planner.plan(raw, tenant=journey.tenant, namespace=journey.wish.namespace)
        journey.model, journey.stream = plan.request.model, plan.request.stream
        if plan.request.similarity_threshold is not None:  # what the body asks for stands above what a header does
            journey.wish = replace(journey.wish, similarity_threshold=plan.request.similarity_threshold)
        found: Hit | Miss | Step = look_near(self.tiers, plan, journey)
        if isinstance(found, Step):
            found = await self._look_further(plan, journey, found)
        if isinstance(found, Hit):
            self._planner.remember(raw, plan, tenant=journey.tenant, namespace=journey.wish.namespace)
            return Cached(plan, found)
        if journey.wish.only_if_cached:
            raise NotCached("Nothing stored answers this request, and 'Cache-Control: only-if-cached' forbids to ask a provider.")
        await waiting(plan)
        joined = self._flights.find(plan, journey)
        if joined is None and isinstance(landed := look_near(self.tiers, plan, journey), Hit):  # while the others were asked
            return Cached(plan, landed)
        return await self._fly(plan, journey, joined)

    async def _look_further(self, plan: Plan, journey: Journey, near: Step) -> Hit | Miss:
        """Whoever finds the answer on its way looks no further, unless it wants nothing else."""
        alone = journey.wish.only_if_cached or self._flights.find(plan, journey) is None
        found = await look_far(self.tiers, plan, journey, near, alone=alone)
        if isinstance(found, Hit) or self._semantic is None or journey.wish.bypass:
            return found
        journey.question = self._planner.question(plan, tenant=journey.tenant, namespace=journey.wish.namespace)
        return await look_further(self._semantic, plan, journey, found) if alone else found

    async def _fly(self, plan: Plan, journey: Journey, joined: Flight | None) -> Whole | Live:
        flight = joined or self._flights.launch(plan, journey, partial(self._open, plan))
        if joined is not None:
            journey.outcome = "coalesced"
        flight.board()
        live = False
        try:
            opened = await flight.opened()
            live = plan.request.stream and isinstance(opened, Relay)
            if live:
                flight.tell(journey)
                return Live(plan, flight)
            completion = opened if isinstance(opened, Completion) else _put_together(await flight.answer())
        finally:
            if not live:
                flight.tell(journey)
                await flight.leave()
        if completion is None:  # too long to be put together from the stream that another asked for
            return await self._fly(plan, journey, self._flights.launch(plan, journey, partial(self._open, plan), alone=True))
        return Whole(plan, completion)

    async def _open(self, plan: Plan, journey: Journey) -> Completion | Relay:
        if plan.request.stream:
            opened = await self._dispatch.open_stream(plan, journey)
            settle = partial(self._settle_stream, plan, journey)
            return Relay(opened, plan.request, max_bytes=self._settlement.max_bytes, settle=settle)
        completion = await self._dispatch.complete(plan, journey)
        self._settlement.answered(plan, journey, completion.answer, completion.answer.usage)
        return completion

    def _settle_stream(self, plan: Plan, journey: Journey, relay: Relay) -> None:
        self._settlement.answered(plan, journey, relay.proven(), relay.fold.usage)

    async def close(self, live: Live, journey: Journey) -> None:
        """This caller has all it will get of a live answer; its upstream is let go if nobody else waits for it."""
        try:
            await live.flight.leave()
        finally:
            live.flight.tell(journey)


def _put_together(answer: Answer | None) -> Completion | None:
    return None if answer is None else Completion(msgspec.json.encode(answer.fields), answer)
