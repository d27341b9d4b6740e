"""One request, from its bytes to its answer: the path, top to bottom.

    admit     is there room?                         a place, or `Overloaded`            admit.py
    plan      what is asked, of whom, under what key?  decode, route, identity           plan.py
    look up   is there an answer already?            `Hit`, or `Miss` with its reasons   lookup.py
    dispatch  ask the providers                      `Completion` or an open stream      dispatch.py
    relay     pass a stream on, fold it beside       chunks as they come                 relay.py
    settle    may the answer be kept, how long?      `Store`, or `NotStorable` and why   settle.py

Each step adds one concern and hands a typed value to the next; what a request has met stands in its `Journey`.
The inward side (`api`) reads bytes, calls `Pipeline.handle` and renders what comes back.
"""

from collections.abc import Awaitable, Callable

import msgspec

from sentinel_gateway.core.caching import Hit
from sentinel_gateway.pipeline.admit import Admission
from sentinel_gateway.pipeline.dispatch import Dispatch
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.lookup import look_up
from sentinel_gateway.pipeline.plan import Plan, Planner
from sentinel_gateway.pipeline.relay import Relay
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
    """Being answered by a provider. Whoever holds this must call `Pipeline.settle` once, and `Pipeline.close` in the end."""

    plan: Plan
    relay: Relay


Reply = Cached | Whole | Live


class Pipeline:
    """The path, wired. `max_bytes` is the longest answer that is remembered."""

    def __init__(
        self, *, admission: Admission, planner: Planner, tiers: Tiers, dispatch: Dispatch, settlement: Settlement, max_bytes: int
    ) -> None:
        self.admission = admission
        self.tiers = tiers
        self._settlement = settlement
        self._planner = planner
        self._dispatch = dispatch
        self._max_bytes = max_bytes

    async def handle(self, raw: bytes, journey: Journey, *, waiting: Callable[[Plan], Awaitable[None]]) -> Reply:
        """The answer to a body; raises `RequestError`s. The caller holds a place of `admission`.

        `waiting` is awaited before a provider is asked: from then on the answer may take long.
        """
        plan = self._planner.plan(raw, tenant=journey.tenant, namespace=journey.wish.namespace)
        journey.model, journey.stream = plan.request.model, plan.request.stream
        found = await look_up(self.tiers, plan, journey)
        if isinstance(found, Hit):
            self._planner.remember(raw, plan, tenant=journey.tenant, namespace=journey.wish.namespace)
            return Cached(plan, found)
        await waiting(plan)
        if plan.request.stream:
            opened = await self._dispatch.open_stream(plan, journey)
            return Live(plan, Relay(opened, plan.request, max_bytes=self._max_bytes))
        completion = await self._dispatch.complete(plan, journey)
        self._settlement.answered(plan, journey, completion.answer, completion.answer.usage)
        return Whole(plan, completion)

    def settle(self, live: Live, journey: Journey) -> None:
        """A live answer has come as far as it will: once, and before its caller knows, so that the next to ask finds it."""
        self._settlement.answered(live.plan, journey, live.relay.proven(), live.relay.fold.usage)

    async def close(self, live: Live) -> None:
        """Let go of a live answer's upstream."""
        await live.relay.close()
