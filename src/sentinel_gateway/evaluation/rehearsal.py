"""A log of traffic, sent down the gateway's own path: what would its cache have answered?

The path is `pipeline.handle`, with everything it decides by. Only the clock, which shows the time of the log, and the provider,
who gives the answer of the log, stand in for the world. Nothing is sent anywhere.
"""

import asyncio
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from sentinel_gateway import rules
from sentinel_gateway.api.wire.openai import MAX_MODEL, encode, read_request
from sentinel_gateway.core.access import ANONYMOUS
from sentinel_gateway.core.caching import Hit, Wish
from sentinel_gateway.core.chat import Answer, Usage
from sentinel_gateway.core.evidence import reached
from sentinel_gateway.core.identity import Question
from sentinel_gateway.core.judging import Case, said
from sentinel_gateway.core.matching import BELOW_THRESHOLD
from sentinel_gateway.core.record import Outcome
from sentinel_gateway.core.retrying import RetryRules
from sentinel_gateway.core.standing import Standings
from sentinel_gateway.core.streaming import stored_fields
from sentinel_gateway.errors import RequestError, UpstreamError
from sentinel_gateway.evaluation.offline import Offline
from sentinel_gateway.evaluation.rows import Bad
from sentinel_gateway.evaluation.stand_ins import Recorded, Routes, Usages
from sentinel_gateway.evaluation.traffic import Logged
from sentinel_gateway.pipeline.admit import Admission
from sentinel_gateway.pipeline.circuits import Circuits
from sentinel_gateway.pipeline.dispatch import Dispatch
from sentinel_gateway.pipeline.handle import Pipeline, Terms
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.judging import Judge
from sentinel_gateway.pipeline.plan import Plan, Planner
from sentinel_gateway.pipeline.reply import Cached, Reply
from sentinel_gateway.pipeline.settle import Settlement
from sentinel_gateway.ports import Clock, World
from sentinel_gateway.settings.model import Settings
from sentinel_gateway.stores.lone_bulletin import LoneBulletin
from sentinel_gateway.telemetry.events import Unheard

if TYPE_CHECKING:
    from sentinel_gateway.ports import Provider

STREAMED: Final = ("stream", "stream_options")
"""How an answer is sent is no part of what is asked (`core.identity`): all are replayed whole."""
ROUTE: Final = "/v1/chat/completions"


class Match(msgspec.Struct, frozen=True):
    """A question, and the nearest stored one that nothing but similarity may speak against.

    `line` and `stored_line` are those of the log. `served`: it is near enough. `agree`: do the two answers of the log say the
    same? null where that can't be told.
    """

    line: int
    asked: str
    stored_line: int
    stored: str
    similarity: float
    served: bool
    agree: bool | None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What would have become of one request. `usage` is what it took, of `target`; `reason` why no stored answer served."""

    logged: Logged
    target: str
    usage: Usage
    outcome: Outcome
    reason: str = ""
    decided: bool = False
    """It was compared with others: what the error budget counts."""
    stale: bool = False
    """The very same was stored, and had expired."""
    bound: str = ""
    match: Match | None = None
    since: float | None = None
    """Seconds since the very same was asked last; None for the first time, and where the log has no times."""


class _Asked(msgspec.Struct, frozen=True):
    line: int
    text: str
    has_answer: bool


class Rehearsal:
    """Takes the requests of a log, in their order."""

    def __init__(self, offline: Offline, routes: Routes, usages: Usages) -> None:
        settings = offline.settings
        self._offline = offline
        self._routes = routes
        self._usages = usages
        self._provider = Recorded()
        self._judge = Judge(offline.embedder, None)
        self._asked: dict[str, _Asked] = {}
        """What later questions are held against; the texts of others are not kept."""
        self._last: dict[str, float] = {}
        self._planner = Planner("chat", partial(read_request, max_depth=settings.server.max_depth), routes.directory)
        providers: defaultdict[str, Provider] = defaultdict(lambda: self._provider)
        self._pipeline = Pipeline(
            terms=Terms(Admission(rules.capacity(settings), _no_chance), bounds=rules.bound_rules(settings)),
            planner=self._planner,
            tiers=offline.tiers,
            semantic=offline.semantic if settings.cache.semantic.enabled else None,
            dispatch=Dispatch(providers, _circuits(settings, offline.clock), RetryRules(attempts=1)),
            settlement=Settlement(
                offline.tiers,
                rules.ttl_rules(settings),
                max_bytes=settings.cache.max_answer_bytes,
                clock=offline.clock,
                chance=_no_chance,
            ),
        )

    def __repr__(self) -> str:
        return f"<Rehearsal of {len(self._last)} different requests, of which {len(self._asked)} may be matched>"

    async def take(self, logged: Logged) -> Step | Bad:
        """The next request: what would have become of it, or why the gateway would not have taken it."""
        if logged.at is not None:
            self._offline.clock.move(logged.at)
        raw = encode({name: value for name, value in logged.fields.items() if name not in STREAMED})
        model = logged.fields.get("model")
        if isinstance(model, str) and 0 < len(model) <= MAX_MODEL:
            self._routes.admit(model)
        journey = self._journey(logged)
        try:
            plan = self._planner.plan(raw, tenant=journey.tenant, namespace="")
        except RequestError as error:
            return _refused(logged, error)
        answer = await self._usages.complete(plan.request, logged.answer)
        self._provider.answer = None if logged.failed else answer
        try:
            reply = await self._pipeline.handle(raw, journey, waiting=_nobody_waits)
        except UpstreamError:
            reply = None
        except RequestError as error:
            return _refused(logged, error)
        return await self._told(logged, plan, journey, reply, answer)

    def _journey(self, logged: Logged) -> Journey:
        journey = Journey(route=ROUTE, method="POST", request_id="", sentinel_id="", at=self._offline.clock())
        journey.tenant, journey.wish = logged.tenant or ANONYMOUS, Wish(explain=True)
        return journey

    async def _told(self, logged: Logged, plan: Plan, journey: Journey, reply: Reply | None, answer: Answer) -> Step:
        before = self._last.get(plan.key)
        self._last[plan.key] = journey.at
        hit = reply.hit if isinstance(reply, Cached) else None
        match = await self._match(logged, journey, hit)
        if hit is None and reply is not None and isinstance(journey.question, Question):
            self._asked[plan.key] = _Asked(logged.line, journey.question.text, logged.answer is not None)
        steps = () if journey.miss is None else journey.miss.steps
        compared = next((step for step in steps if step.tier == "vector"), None)
        return Step(
            logged=logged,
            target=journey.target or plan.route.names[0],
            usage=Usage() if logged.failed or answer.usage is None else answer.usage,
            outcome=journey.outcome,
            reason="" if compared is None else compared.detail or "",
            decided=journey.outcome == "semantic" or (compared is not None and reached(compared)),
            stale=any(step.forward == "stale" for step in steps),
            bound="" if journey.restriction is None else journey.restriction.why,
            match=match,
            since=None if before is None or logged.at is None else journey.at - before,
        )

    async def _match(self, logged: Logged, journey: Journey, hit: Hit | None) -> Match | None:
        """The nearest question that serves, or would if it were near enough."""
        if not isinstance(journey.question, Question):
            return None
        key, similarity = "", journey.similarity
        if hit is not None:
            key = hit.entry.key
        elif journey.explanation is not None:
            near = next((near for near in journey.explanation.candidates if near.objections == (BELOW_THRESHOLD,)), None)
            key, similarity = ("", 0.0) if near is None else (near.key, near.similarity)
        stored = self._asked.get(key)
        if stored is None or similarity < self._offline.semantic.thresholds.least:
            return None
        asked = journey.question.text
        agree = await self._agree(logged, asked, key) if stored.has_answer else None
        served, shown = hit is not None, round(similarity, 4)
        return Match(logged.line, asked, stored.line, stored.text, shown, served=served, agree=agree)

    async def _agree(self, logged: Logged, question: str, key: str) -> bool | None:
        """As the gateway's own judge finds it, of the answers in the log."""
        entry = self._offline.near.get(key)
        if logged.answer is None or entry is None:
            return None
        fresh, stored = said(logged.answer.fields), said(stored_fields(entry.body))
        return None if fresh is None or stored is None else await self._judge.compare(Case(question, fresh, stored))


def _refused(logged: Logged, error: RequestError) -> Bad:
    return Bad(logged.line, f"would be refused: {error.message}")


def _circuits(settings: Settings, clock: Clock) -> Circuits:
    """The log says who failed: nobody is left alone, and nothing is waited for."""
    world = World(clock, asyncio.sleep, _no_chance, Unheard())
    return Circuits(Standings(rules.standings(settings)), LoneBulletin(), world)


async def _nobody_waits(_: Plan) -> None:
    """Nothing takes any time."""


def _no_chance() -> float:
    return 0.0
