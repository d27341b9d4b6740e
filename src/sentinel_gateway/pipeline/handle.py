"""One request, from its bytes to its answer: the path, top to bottom.

    admit     is there room?                         a place, or `Overloaded`            admit.py
    plan      what is asked, of whom, under what key?  decode, route, identity           understand.py, plan.py
    limit     may this caller ask that, now?         a share of its limits, or `RateLimited`  limiting.py, budgeting.py
    once      was it asked under the same idempotency key?  what was answered then       idempotency.py
    look up   is there an answer already?            `Hit`, or `Miss` with its reasons   lookup.py, tiers.py
              or one to the same in other words?     the same                            semantic.py
    fly       is somebody asking for it already?     a place in that flight, or a new one  flight.py
              or another node?                       what it brings                      fleet.py
    dispatch  ask the providers                      `Completion` or an open stream      dispatch.py
    relay     pass a stream on, fold it beside       chunks as they come                 relay.py
              or withhold it to its end, if asked    the next attempt, where it breaks   recovery.py
    settle    may the answer be kept, how long?      `Store`, or `NotStorable` and why   settle.py

Each step adds one concern and hands a typed value to the next; what a request has met stands in its `Journey`.
The inward side (`api`) reads bytes, calls `Pipeline.handle` and renders what comes back.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import msgspec
from msgspec.structs import replace

from sentinel_gateway.core.bound import BoundRules, restriction
from sentinel_gateway.core.caching import Hit, Miss, Step, Wish
from sentinel_gateway.core.chat import Answer, ChatRequest, Usage
from sentinel_gateway.core.idempotency import claim
from sentinel_gateway.core.identity import Question, last_words
from sentinel_gateway.core.tokens import Expected, said_about
from sentinel_gateway.errors import NotCached, RequestError, UpstreamError
from sentinel_gateway.pipeline.admit import Admission
from sentinel_gateway.pipeline.budgeting import Costing
from sentinel_gateway.pipeline.dispatch import Answering, OpenStream
from sentinel_gateway.pipeline.drains import Drains
from sentinel_gateway.pipeline.experiments import Experiments
from sentinel_gateway.pipeline.fleet import Brought, Fleet
from sentinel_gateway.pipeline.flight import Flight, Flights, shares
from sentinel_gateway.pipeline.idempotency import Idempotency, Work
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.limiting import Estimate, Grant
from sentinel_gateway.pipeline.lookup import look_far, look_further, look_near, told
from sentinel_gateway.pipeline.plan import Plan, Planner
from sentinel_gateway.pipeline.recovery import withhold
from sentinel_gateway.pipeline.relay import Relay
from sentinel_gateway.pipeline.reply import Cached, Live, Reply, Whole
from sentinel_gateway.pipeline.semantic import Semantic
from sentinel_gateway.pipeline.settle import Settlement
from sentinel_gateway.pipeline.tiers import Tiers
from sentinel_gateway.pipeline.understand import check_others, enter, read, understand
from sentinel_gateway.ports import Completion, Unsent

NOTHING: Final = Usage(0, 0, 0)


class Terms(msgspec.Struct, frozen=True):
    """On what terms requests are taken.

    Without the others idempotency keys mean nothing, neither tokens nor money are reserved, and no other node is asked.
    """

    admission: Admission
    idempotency: Idempotency | None = None
    estimate: Estimate | None = None
    costing: Costing | None = None
    fleet: Fleet | None = None
    bounds: BoundRules = BoundRules()
    stale_if_error: float = 0.0
    """Seconds after its end in which an answer still serves if every target fails."""
    drains: Drains | None = None
    """What reads answers to their end that nobody waits for any more; without it none is."""
    experiments: Experiments | None = None
    """What some requests are part of; None where there are none."""


class Pipeline:
    """The path, wired."""

    def __init__(
        self,
        *,
        terms: Terms,
        planner: Planner,
        tiers: Tiers,
        semantic: Semantic | None,
        dispatch: Answering,
        settlement: Settlement,
    ) -> None:
        self.admission = terms.admission
        self.tiers = tiers
        self._semantic = semantic
        self._settlement = settlement
        self._planner = planner
        self._dispatch = dispatch
        self._idempotency = terms.idempotency
        self._estimate = terms.estimate
        self._costing = terms.costing
        self._flights = Flights(self._is_stale, terms.drains)
        self._open = self._ask if terms.fleet is None else partial(self._ask_nodes, terms.fleet)
        self._bounds = terms.bounds
        self._stale_if_error = terms.stale_if_error
        self._experiments = terms.experiments
        self._booking: set[asyncio.Task[None]] = set()

    def handle(self, raw: bytes, journey: Journey, *, waiting: Callable[[Plan], Awaitable[None]]) -> Awaitable[Reply]:
        """The answer to a body; raises `RequestError`s, also before it is awaited. The caller holds a place of `admission`.

        `waiting` is awaited before a provider is asked: from then on the answer may take long.
        """
        if journey.grant is not None or journey.idempotency_key:
            return self._enter_and_answer(raw, journey, waiting)
        plan = self._enrolled(read(self._planner, raw, journey), journey)
        return self._answer(raw, plan, journey, waiting, look_near(self.tiers, plan, journey))

    async def _enter_and_answer(self, raw: bytes, journey: Journey, waiting: Callable[[Plan], Awaitable[None]]) -> Reply:
        """The same for who has limits, or wants it done once."""
        plan = self._enrolled(await understand(self._planner, raw, journey), journey)
        if not journey.idempotency_key or self._idempotency is None:
            near = look_near(self.tiers, plan, journey)
            await enter(plan, journey, place=not isinstance(near, Hit))
            return await self._answer(raw, plan, journey, waiting, near)
        await enter(plan, journey)
        await waiting(plan)  # here, and not in the work: that goes on when the caller has left
        space = journey.caller.space  # the caller's own: a cache group shares answers, not keys
        asked = claim(
            journey.idempotency_key,
            tenant=space,
            route=journey.route,
            body=raw,
            headers=f"{journey.version} {journey.betas}".strip(),
        )
        work = Work(partial(_hold, journey), partial(self._answer_once, raw, plan, journey), partial(_release, journey))
        return await self._idempotency.answer(asked, plan, journey, work)

    def look_again(self, key: str, generation: int, wish: Wish) -> Hit | None:
        """What memory has for the key and generation of an earlier plan; None if nothing, if no room, or other routes by now."""
        if self.admission.is_full or not self._planner.is_current(generation):
            return None
        near = self.tiers.look_near(key, wish)
        return near if isinstance(near, Hit) else None

    async def _answer_once(self, raw: bytes, plan: Plan, journey: Journey) -> Cached | Whole | Live:
        """It goes on when the caller has left."""
        return await self._answer(raw, plan, journey, _go_on, look_near(self.tiers, plan, journey))

    def _enrolled(self, plan: Plan, journey: Journey) -> Plan:
        """What the body asks, as the experiments have it."""
        if plan.request.similarity_threshold is not None:  # what the body asks for stands above what a header does
            journey.wish = replace(journey.wish, similarity_threshold=plan.request.similarity_threshold)
        return plan if self._experiments is None else self._experiments.enrol(plan, self._planner, journey)

    async def _answer(
        self, raw: bytes, plan: Plan, journey: Journey, waiting: Callable[[Plan], Awaitable[None]], near: Hit | Step
    ) -> Cached | Whole | Live:
        found = told(near, journey) if isinstance(near, Hit) else await self._look_further(plan, journey, near)
        if isinstance(found, Hit):
            self._planner.remember(raw, plan, tenant=journey.tenant, namespace=journey.wish.namespace)
            return Cached(plan, found)
        if journey.wish.only_if_cached:
            raise NotCached("Nothing stored answers this request, and 'Cache-Control: only-if-cached' forbids to ask a provider.")
        try:
            check_others(plan, journey)
            await waiting(plan)
            brought = self._brought(plan, journey)
            if brought is None and (reserving := self._reserve(plan, journey)) is not None:
                await reserving
                brought = self._brought(plan, journey)  # somebody may have begun meanwhile, and even have landed
                if brought is not None:
                    self._book(plan, journey, NOTHING)
            if isinstance(brought, Hit):
                return Cached(plan, told(brought, journey))
            return await self._fly(plan, journey, brought)
        except RequestError as error:
            instead = self._spared(journey) or await self._outlived(plan, journey, error)
            if instead is None:
                raise
            return Cached(plan, told(instead, journey))

    def _spared(self, journey: Journey) -> Hit | None:
        """What was to be compared with the answer that did not come."""
        evidence = None if self._semantic is None else self._semantic.evidence
        return None if evidence is None else evidence.spared(journey)

    async def _outlived(self, plan: Plan, journey: Journey, error: RequestError) -> Hit | None:
        """What has expired, where every target failed and neither the caller nor the question minds its age."""
        wish, bound = journey.wish, journey.restriction
        failed = isinstance(error, UpstreamError) and error.next_target
        within = min(self._stale_if_error, wish.stalest)
        minds = not wish.read or wish.max_age is not None or wish.min_fresh is not None
        if not (within and failed) or minds or (bound is not None and bound.most is not None):
            return None
        looking, trace = self.tiers.find_outlived(plan.key, within), journey.trace
        found = await (looking if trace is None else trace.lookup(looking))
        return found if isinstance(found, Hit) else None

    def _brought(self, plan: Plan, journey: Journey) -> Flight | Hit | None:
        """What brings the answer already, or the answer, where it came while others were asked."""
        flight = self._flights.find(plan, journey)
        if flight is not None:
            return flight
        near = look_near(self.tiers, plan, journey)
        return near if isinstance(near, Hit) else None

    def _reserve(self, plan: Plan, journey: Journey) -> Awaitable[None] | None:
        """Take what the answer may cost from the limits and budgets of who asks for it; to be awaited where that takes time."""
        grant = journey.grant
        if grant is None or self._estimate is None or not grant.reserves:
            return None
        tokens, costing = self._estimate(plan), self._costing if grant.has_budget else None
        most = tokens.most
        amount = 0 if costing is None else costing.amount(plan, most.ceiling, anew=_may_begin_anew(plan, journey))
        if amount is not None and grant.reserve_uncounted(most.tokens, amount):
            return None
        expected = tokens.counted()
        if amount is not None and isinstance(expected, Expected) and grant.reserve_now(expected.tokens, amount):
            return None
        return self._reserve_slowly(plan, journey, grant, expected)

    async def _reserve_slowly(self, plan: Plan, journey: Journey, grant: Grant, expected: Expected | Awaitable[Expected]) -> None:
        if not isinstance(expected, Expected):
            expected = await expected
        if grant.has_budget and self._costing is not None:
            anew = _may_begin_anew(plan, journey)
            journey.capped = await self._costing.hold(plan, grant, expected, anew=anew)
        else:
            await grant.reserve(expected.tokens)

    def _book(self, plan: Plan, journey: Journey, usage: Usage | None, *, heard: int = 0) -> None:
        """What was reserved has come to this, and to what was lost; untold, to no less than the tokens that were `heard`."""
        grant = journey.grant
        if grant is not None and (reserved := grant.reserved) is not None:
            bounded = plan.request.token_limit is not None
            untold = max(reserved, heard) if bounded else reserved + heard
            actual = journey.lost + (untold if usage is None else usage.total_tokens)
            if grant.settle_now(actual, journey.cost):
                return
            booking = asyncio.create_task(grant.settle(actual, journey.cost))
            self._booking.add(booking)
            booking.add_done_callback(self._booking.discard)

    async def _look_further(self, plan: Plan, journey: Journey, near: Step) -> Hit | Miss:
        """Whoever finds the answer on its way looks no further, unless it wants nothing else."""
        alone = journey.wish.only_if_cached or self._flights.find(plan, journey) is None
        found = await look_far(self.tiers, plan, journey, near, alone=alone)
        if isinstance(found, Hit):
            return found
        bound = journey.restriction = restriction(last_words(plan.request.fields), self._bounds)
        if self._semantic is None or journey.wish.bypass or (journey.place is not None and not journey.place.arm.semantic):
            return found
        asked = self._planner.question(plan, tenant=journey.tenant, namespace=journey.wish.namespace)
        journey.question = bound.why if bound is not None and isinstance(asked, Question) else asked
        further = await look_further(self._semantic, plan, journey, found) if alone else found
        self._semantic.remembered.note(plan, journey, found)
        return further

    def _fly(self, plan: Plan, journey: Journey, flight: Flight | None) -> Awaitable[Whole | Live]:
        if flight is not None:
            journey.outcome = "coalesced"
        else:
            explored = journey.trial is not None and journey.trial.spared  # nobody else waits for what is asked for our sake
            flight = self._flights.launch(plan, journey, self._open, alone=explored)
        return self._aboard(plan, journey, flight)

    async def _aboard(self, plan: Plan, journey: Journey, flight: Flight) -> Whole | Live:
        flight.board()
        reply: Whole | Live | None = None
        completion = None
        try:
            opened = await flight.opened()
            if isinstance(opened, Completion):
                reply = Whole(plan, opened)
            elif plan.request.stream:
                reply = Live(plan, flight)
            else:
                completion = _put_together(await flight.answer())
        finally:
            try:
                if reply is None:  # who gets a stream leaves at its end, and a flight that brought a whole answer is over
                    await flight.leave()
            finally:
                flight.tell(journey)
        if reply is not None:
            return reply
        if completion is None:  # too long to be put together from the stream that another asked for
            journey.outcome = "miss"
            if (reserving := self._reserve(plan, journey)) is not None:
                await reserving
            return await self._aboard(plan, journey, self._flights.launch(plan, journey, self._ask, alone=True))
        return Whole(plan, completion)

    def _is_stale(self, journey: Journey) -> bool:
        """Has what it brings been cleared since it set out? Then it is for those who wait for it already."""
        return self.tiers.cleared_since(journey.epoch, journey.caller.space)

    async def _ask_nodes(self, fleet: Fleet, plan: Plan, journey: Journey) -> Completion | Relay:
        """What another node has just brought, or is about to; else what a provider says."""
        if not shares(journey):
            return await self._ask(plan, journey)
        ask, conduct = partial(self._ask, plan, journey), plan.route.conduct
        total = None if conduct is None else conduct.total
        try:
            found = await fleet.bring(plan.key, journey, ask, stale=self._is_stale, total=total)
        except asyncio.CancelledError:  # what was asked of a provider is booked already
            self._book(plan, journey, NOTHING)
            raise
        if not isinstance(found, Brought):
            return found
        self._book(plan, journey, NOTHING)
        journey.outcome, journey.target = "coalesced", found.target
        return found.completion

    async def _ask(self, plan: Plan, journey: Journey) -> Completion | Relay:
        try:
            asked = plan if journey.capped is None else journey.capped.plan
            if plan.request.stream:
                relay = partial(self._relay, plan, asked.request, journey)
                if journey.wish.buffered:
                    return await self._dispatch.read_stream(asked, journey, partial(withhold, relay, journey))
                return relay(await self._dispatch.open_stream(asked, journey))
            completion = await self._dispatch.complete(asked, journey)
        except (Exception, Unsent):  # a fault of ours as well: nothing came of what was reserved
            self._book(plan, journey, NOTHING)
            raise
        except asyncio.CancelledError:  # nobody waits any more: what was sent is paid
            sent = _asked(plan, journey) if journey.attempts else 0
            self._book(plan, journey, Usage(sent, 0, sent))
            raise
        answer = completion.answer
        self._settlement.answered(plan, journey, answer, answer.usage)
        if journey.grant is not None:
            self._book(plan, journey, answer.usage, heard=said_about(answer) if answer.usage is None else 0)
        return completion

    def _relay(self, plan: Plan, request: ChatRequest, journey: Journey, opened: OpenStream) -> Relay:
        """`request` is what the provider was asked: a budget may have bounded its output."""
        settle, bound = partial(self._settle_stream, plan, journey), self._settlement.max_bytes
        counted = journey.grant is not None and not journey.grant.uncounted
        return Relay(opened, request, max_bytes=bound, settle=settle, asked=_asked(plan, journey) if counted else 0)

    def _settle_stream(self, plan: Plan, journey: Journey, relay: Relay) -> None:
        self._settlement.answered(plan, journey, relay.proven(), relay.usage)
        self._book(plan, journey, relay.fold.usage, heard=relay.heard)

    async def close(self, live: Live, journey: Journey) -> None:
        """This caller has all it will get of a live answer; its upstream is let go if nobody else waits for it."""
        try:
            await live.flight.leave()
        finally:
            live.flight.tell(journey)


def _may_begin_anew(plan: Plan, journey: Journey) -> bool:
    """May an answer be paid for twice: begun anew, or asked of another target beside?"""
    conduct = plan.route.conduct
    return journey.wish.buffered or (conduct is not None and conduct.hedge is not None)


def _asked(plan: Plan, journey: Journey) -> int:
    """Tokens of the input, at most: what is reserved but for the output that is allowed; 0 if nothing is."""
    reserved = 0 if journey.grant is None else journey.grant.reserved or 0
    return max(0, reserved - plan.request.choices * (plan.request.token_limit or 0))


async def _go_on(_: Plan) -> None:
    """Nobody's connection is watched."""


def _hold(journey: Journey) -> None:
    """What goes on without the caller holds the caller's place in flight until all of it has ended, and is told then."""
    journey.goes_on = True
    if journey.grant is not None:
        journey.grant.hold()


async def _release(journey: Journey) -> None:
    journey.goes_on = False
    if journey.report is not None:
        journey.end(journey.at + journey.seconds)
        journey.report(journey)
    if journey.grant is not None:
        await journey.grant.release()


def _put_together(answer: Answer | None) -> Completion | None:
    return None if answer is None else Completion(msgspec.json.encode(answer.fields), answer)
