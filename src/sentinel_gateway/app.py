"""The composition root: opens the adapters that `adapters.py` makes of the settings, wires them, and closes them.

Two lifetimes. A `Process` lasts as long as the program: its clock, connections, stores and log. A `Wiring` lasts as long as
one configuration: providers, routes, limits, the path and the app around it. A reload builds a second wiring and swaps one
reference; requests under way finish on the first.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from secrets import token_hex
from typing import Final

import msgspec
from fastapi import APIRouter

from sentinel_gateway import __version__, rules
from sentinel_gateway.adapters import make_providers, open_secret, steady_clock
from sentinel_gateway.api.admin import Admin, Controls
from sentinel_gateway.api.analytics import Analytics
from sentinel_gateway.api.anthropic import ANTHROPIC_ERRORS
from sentinel_gateway.api.asgi import App, Receive, Scope, Send
from sentinel_gateway.api.browsers import Browsers, Hosts, Pages
from sentinel_gateway.api.chat import ChatCompletions
from sentinel_gateway.api.circuits import CircuitAdmin
from sentinel_gateway.api.dialects import anthropic_posts, other_posts
from sentinel_gateway.api.entrance import Entrance
from sentinel_gateway.api.exchange import Intake
from sentinel_gateway.api.explaining import Explaining
from sentinel_gateway.api.face import Face
from sentinel_gateway.api.fast_path import FastPath
from sentinel_gateway.api.feedback import Feedback
from sentinel_gateway.api.gateway import Faces, build_gateway
from sentinel_gateway.api.guard import Guard, Policy
from sentinel_gateway.api.keys import KeyAdmin
from sentinel_gateway.api.management import Observed, build_management
from sentinel_gateway.api.models import Models
from sentinel_gateway.api.monitoring import Monitoring
from sentinel_gateway.api.monitoring_hours import ProviderHours
from sentinel_gateway.api.openai import ERRORS
from sentinel_gateway.api.openapi import Documentation
from sentinel_gateway.api.operations import Identity, Operations, Reports
from sentinel_gateway.api.paths import Paths
from sentinel_gateway.api.problems import PROBLEMS
from sentinel_gateway.api.query import Query
from sentinel_gateway.api.regions import LatencyRegions
from sentinel_gateway.api.request_costs import RequestCosts
from sentinel_gateway.api.semantic_admin import SemanticAdmin
from sentinel_gateway.api.streaming import StreamOptions
from sentinel_gateway.core.issuance import AuditEntry, Minter
from sentinel_gateway.core.pricing import Costs
from sentinel_gateway.core.via import own_name
from sentinel_gateway.errors import ConfigurationError, StoreDown
from sentinel_gateway.ledger.books import NOTHING
from sentinel_gateway.listeners import open_listeners
from sentinel_gateway.pipeline.admit import Admission
from sentinel_gateway.pipeline.authentication import Authenticator
from sentinel_gateway.pipeline.bookkeeping import Booked
from sentinel_gateway.pipeline.budgeting import Costing
from sentinel_gateway.pipeline.dispatch import Dispatch
from sentinel_gateway.pipeline.embed import Embedding, Measures
from sentinel_gateway.pipeline.estimate import TokenEstimate
from sentinel_gateway.pipeline.explaining import Explainer
from sentinel_gateway.pipeline.handle import Pipeline
from sentinel_gateway.pipeline.limiting import Limiter
from sentinel_gateway.pipeline.settle import Settlement
from sentinel_gateway.ports import Clock, Events
from sentinel_gateway.ports.ledger import Past
from sentinel_gateway.providers._http import HttpClient
from sentinel_gateway.providers.prices import PriceBook
from sentinel_gateway.routes import Routes
from sentinel_gateway.settings.load import Loaded
from sentinel_gateway.settings.model import Settings
from sentinel_gateway.settings.network import is_loopback
from sentinel_gateway.settings.restart import needing_restart
from sentinel_gateway.storage import Stores, check_reach, follow_others, open_stores
from sentinel_gateway.stores.admin_key import admin_key
from sentinel_gateway.telemetry.events import Telemetry
from sentinel_gateway.telemetry.evidence import EvidenceFigures
from sentinel_gateway.telemetry.lasting import costs_with, counters
from sentinel_gateway.telemetry.metrics import CONTENT_TYPES, Exposition, Metrics
from sentinel_gateway.telemetry.regions import Located, Regions
from sentinel_gateway.terms import make_costing, make_settlement, make_terms

ALWAYS_LISTED: Final = ("redis", "qdrant", "embeddings")
"""Services that `/health` and `/admin/stats` name whether or not they are in use (seed 000)."""

Load = Callable[[], Loaded]


class Outside(msgspec.Struct, frozen=True):
    """What a process is opened with. `via` is what it is called in that header."""

    clock: Clock
    via: str
    http: HttpClient
    metrics: Metrics
    events: Telemetry
    prices: PriceBook


class Process:
    """What outlives a reload, and the wiring in force. It is the ASGI app that the server runs."""

    def __init__(self, load: Load, settings: Settings, outside: Outside, stores: Stores) -> None:
        self.clock = outside.clock
        self.via = outside.via
        self.http = outside.http
        self.metrics = outside.metrics
        self.events = outside.events
        self.prices = outside.prices
        self.started = self.clock()
        self.regions = Regions(self.clock)
        self.draining = False
        configured = settings.admin_key
        self.admin = admin_key(settings.data_dir, configured.get_secret_value() if configured else None)
        self.stores = stores
        self.authenticator = Authenticator(
            stores.state.ring, pepper=stores.state.secret, admin_hash=self.admin.digest, clock=self.clock
        )
        self.loopback = is_loopback(settings.server.host)
        """Of the address that was bound: a reload does not bind another."""
        self._first = settings
        self.tiers = stores.tiers
        self.semantic = stores.semantic
        self.embedder = stores.embedder
        self.evidence = None if stores.semantic is None else stores.semantic.evidence
        self.admission = Admission(rules.capacity(settings), random.random)
        if stores.books is not None and settings.ledger.when_full == "refuse":
            stores.books.when_full(self.admission.shut)
        self._load = load
        self._wiring: Wiring | None = None
        self._reloading: set[asyncio.Task[None]] = set()
        self._one_reload = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Process {'draining' if self.draining else 'serving'} {self._wiring!r}>"

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return _unanswered() if self._wiring is None else self._wiring.app(scope, receive, send)

    def answer_again(self, segment: bytes, client: str) -> bytes | None:
        """The answer to bytes that memory has answered before; None if they have to be read."""
        return None if self._wiring is None else self._wiring.fast.answer(segment, client)

    @property
    def asks_for_keys(self) -> bool:
        """Does it ask callers for a key now?"""
        return self._wiring is not None and not self._wiring.guard.is_open

    async def counters(self) -> Mapping[str, float]:
        """Seed 000's cache statistics. `hit_rate` in per cent of the requests that the cache decided."""
        return counters(self.metrics.totals(), (await self._past()).outcomes)

    async def costs(self) -> Mapping[tuple[str, str], Costs]:
        """What was spent and saved, by model and face."""
        return costs_with(self.metrics.costs(), (await self._past()).costs)

    async def _past(self) -> Past:
        """What the ledger has of the time before the start; nothing, as long as it can't be asked."""
        books = self.stores.books
        return (None if books is None else await books.past()) or NOTHING

    async def services(self) -> Mapping[str, str]:
        """`up`, `down` or `disabled` of each dependency: seed 000's, used or not, and our own."""
        own = await self.tiers.status()
        if self.embedder is not None:
            own["embeddings"] = "up" if self.embedder.works else "down"
        if (books := self.stores.books) is not None:
            own["ledger"] = "up" if books.fault is None else "down"
        return dict.fromkeys(ALWAYS_LISTED, "disabled") | own

    async def use(self, settings: Settings) -> None:
        """Put a configuration in force."""
        await self.prices.use(rules.price_rules(settings))
        wiring = Wiring(settings, self)
        await wiring.routes.start()
        self.tiers.near_ttl = settings.cache.memory.ttl
        if self.semantic is not None:
            self.semantic.thresholds = rules.thresholds(settings)
        if self.evidence is not None:
            self.evidence.use(rules.habits(settings), wiring.dispatch, wiring.routes.current)
        self.admission.resize(rules.capacity(settings))
        self.stores.drains.most = settings.routing.max_drains
        self.stores.circuits.standings.use(rules.standings(settings), rules.compared(settings))
        self.metrics.percentiles = settings.metrics.percentiles
        self.metrics.models.knows = wiring.routes.lists
        previous, self._wiring = self._wiring, wiring
        if previous is not None:
            await previous.routes.stop()

    async def reload(self) -> list[str]:
        """Read the configuration again and use it; `ConfigurationError` if it is faulty, and then nothing has changed."""
        async with self._one_reload:
            loaded = await asyncio.to_thread(self._load)
            await self.use(loaded.settings)
        self.events.note("configuration_reloaded")
        return [*loaded.notes, *needing_restart(self._first, loaded.settings)]

    def reload_soon(self) -> None:
        """Reload beside everything else (SIGHUP); what is to be said of it goes to the log."""
        task = asyncio.create_task(self._reload_and_note())
        self._reloading.add(task)
        task.add_done_callback(self._reloading.discard)

    async def _reload_and_note(self) -> None:
        async def record(action: str) -> None:
            entry = AuditEntry(at=self.clock(), actor="signal", action=action, object="")
            await self.stores.state.audit.append(entry)

        try:
            await record("configuration.reload")
            for note in await self.reload():
                self.events.note("configuration_note", text=note)
        except (ConfigurationError, StoreDown, OSError) as exc:
            self.events.note("configuration_rejected", faults=str(exc))
            with suppress(StoreDown):
                await record("configuration.rejected")

    def drain(self) -> None:
        """Not ready from now on."""
        self.draining = True
        self.events.note("draining")

    async def close(self) -> None:
        """Stop what runs in the background."""
        for task in list(self._reloading):
            task.cancel()
        await asyncio.gather(*self._reloading, return_exceptions=True)
        if self._wiring is not None:
            await self._wiring.routes.stop()


class Wiring:
    """One configuration, wired."""

    def __init__(self, settings: Settings, process: Process) -> None:
        self._settings = settings
        self._process = process
        self._providers = dict(make_providers(settings, process.http, process.clock))
        self.dispatch = Dispatch(self._providers, process.stores.circuits, rules.retries(settings), process.stores.accounts)
        self.routes = Routes(settings, self._providers, process.prices, process.events)
        self.app = self._build(process)

    def __repr__(self) -> str:
        return f"<Wiring {', '.join(self._providers)}>"

    def _build(self, process: Process) -> App:
        settings, clock, events, planners = self._settings, process.clock, process.events, self.routes.planners
        tiers, server, stores = process.tiers, settings.server, process.stores
        semantic = process.semantic if settings.cache.semantic.enabled else None
        groups = rules.groups(settings)
        explainer = Explainer(semantic, rules.bound_rules(settings), groups) if semantic is not None else None
        settlement = make_settlement(settings, tiers, process.evidence, clock)
        estimate = TokenEstimate(stores.counter, media_tokens=settings.tokens.media)
        costing = make_costing(settings, process.prices, estimate)
        pipeline = partial(
            Pipeline,
            terms=make_terms(settings, stores, process.admission, estimate, costing),
            tiers=tiers,
            semantic=semantic,
            dispatch=self.dispatch,
            settlement=settlement,
        )
        pages = Pages(server.cors.origins, server.cors.credentials)
        browsers = Browsers(pages, Hosts(server.allowed_hosts))
        guard = self.guard = Guard(
            process.authenticator, stores.state.ring, Policy(settings.keys.required, loopback=process.loopback)
        )
        entrance = Entrance(browsers, guard, groups, server.region_header, trace=events.begin_trace)
        books = stores.books
        heard: Events = events if books is None else Booked(events, books.journal)
        heard = heard if server.region_header is None else Located(heard, process.regions)
        face = partial(Face, entrance=entrance, intake=Intake(max_body=server.max_body_bytes), clock=clock, events=heard)
        options = StreamOptions(server.heartbeat, via=process.via)
        limiter = Limiter(stores.limits, rules=rules.limit_rules(settings), clock=clock, chance=random.random)
        chats = pipeline(planner=planners["chat"])
        self.fast = FastPath(chats, limiter, guard, clock=clock, events=heard)
        chat = ChatCompletions(chats, limiter, options, fast=self.fast, clock=clock)
        models = Models(self.routes.current, created=int(process.started))
        query = Query(pipeline(planner=planners["query"]), limiter, via=options.via, clock=clock)
        embedding = self._embedding(settlement, costing)
        posts = [chat, *other_posts(planners, pipeline, embedding, limiter, options, clock=clock)]
        messages = anthropic_posts(planners, pipeline, estimate, limiter, options, clock=clock)
        routers = [
            self._operations(guard).routes(),
            self._administration(guard).routes(),
            Explaining(explainer, stores.state.keys, access=guard.administrator()).routes(),
            self._key_administration(guard).routes(),
            Feedback(process.evidence, limiter, guard=guard).routes(),
            CircuitAdmin(process.stores.circuits, stores.state.audit, guard=guard, clock=clock).routes(),
            SemanticAdmin(process.evidence, stores.state.audit, guard=guard, clock=clock).routes(),
            *self._monitoring(guard),
        ]
        plain = [post.route for post in (*posts, *messages, query)]
        management = build_management([*routers, Documentation(routers, plain, guard=guard).routes()], guard)
        observed = Observed(management, browsers=browsers, clock=clock, events=events, trace=events.begin_trace)
        faces = Faces(
            openai=face(Paths(posts, models).route, ERRORS),
            anthropic=face(Paths(messages, models).route, ANTHROPIC_ERRORS),
            query=face(query.answer, PROBLEMS),
        )
        return build_gateway(faces, observed, pages)

    def _embedding(self, settlement: Settlement, costing: Costing) -> Embedding:
        process, planner = self._process, self.routes.planners["embeddings"]
        measures, admission = Measures(process.stores.counter, costing), process.admission
        return Embedding(planner, process.tiers, self.dispatch, settlement, admission=admission, measures=measures)

    def _operations(self, guard: Guard) -> Operations:
        process, service = self._process, self._settings.service
        identity = Identity(service.name, service.version, process.started)
        circuits = process.stores.circuits.shown
        reports = Reports(
            ready=self._why_not_ready,
            metrics=self._scrape,
            counters=process.counters,
            services=process.services,
            costs=process.costs,
            priced=process.prices.known,
            circuits=circuits,
        )
        return Operations(process.tiers, identity, reports, guard=guard, clock=process.clock)

    def _administration(self, guard: Guard) -> Admin:
        process = self._process
        return Admin(
            process.tiers,
            process.stores.purge,
            process.stores.state.audit,
            guard=guard,
            controls=Controls(process.counters, process.services, process.reload),
            clock=process.clock,
        )

    def _key_administration(self, guard: Guard) -> KeyAdmin:
        state = self._process.stores.state
        minter = Minter(state.secret, defaults=rules.defaults(self._settings))
        return KeyAdmin(state.keys, state.audit, state.ring, minter, access=guard.administrator(), clock=self._process.clock)

    def _monitoring(self, guard: Guard) -> list[APIRouter]:
        """What tells of providers and of the past."""
        process, stores, clock = self._process, self._process.stores, self._process.clock
        history = None if stores.books is None else stores.books.history
        hours = ProviderHours(stores.recent, history, clock)
        return [
            Monitoring(stores.recent, hours, stores.circuits, self._providers, guard=guard, clock=clock).routes(),
            Analytics(history, stores.state.keys, self._providers, guard=guard, clock=clock).routes(),
            RequestCosts(history, process.prices, guard=guard, clock=clock).routes(),
            LatencyRegions(process.regions.since, self._settings.server.region_header, guard=guard, clock=clock).routes(),
        ]

    def _why_not_ready(self) -> str | None:
        if self._process.draining:
            return "draining: this node is about to stop"
        return None if self._providers else "no provider is usable: configure one, or set providers.demo.enabled to true"

    async def _scrape(self, exposition: Exposition) -> tuple[bytes, str]:
        self._process.metrics.update_dependencies(await self._process.services())
        return self._render_metrics(exposition)

    def _render_metrics(self, exposition: Exposition = "text") -> tuple[bytes, str]:
        process, metrics = self._process, self._process.metrics
        metrics.update_time(process.clock())
        metrics.update_ready(ready=self._why_not_ready() is None)
        metrics.update_in_flight(process.admission.running)
        metrics.update_circuits(process.stores.circuits.shown())
        metrics.update_rate_limiter_buckets(process.stores.limits.buckets())
        metrics.update_memory(*process.tiers.size())
        if (evidence := process.evidence) is not None:
            learned = evidence.calibration.standings(evidence.habits.most_wrong)
            figures = EvidenceFigures(evidence.heard, evidence.compared, evidence.log.standings, learned, evidence.told)
            metrics.update_evidence(figures)
        return metrics.render(exposition), CONTENT_TYPES[exposition]


@asynccontextmanager
async def open_process(load: Load, settings: Settings) -> AsyncIterator[Process]:
    """Everything opened in order, and closed in reverse: what was taken for the disk is written, the log is flushed."""
    clock = steady_clock()
    node = token_hex(4)
    metrics = Metrics(__version__)
    async with AsyncExitStack() as closing:
        events = open_listeners(settings, metrics, clock, closing)
        via = own_name(open_secret(settings), settings.service.name)
        http = await closing.enter_async_context(HttpClient(via=via, version=__version__))
        prices = PriceBook(clock, events.note)
        outside = Outside(clock, via, http, metrics, events, prices)
        stores = await open_stores(settings, node, clock, events, closing, prices=prices)
        check_reach(settings, stores.state.ring)
        await follow_others(stores, closing)
        process = Process(load, settings, outside, stores)
        closing.push_async_callback(process.close)
        await process.use(settings)
        yield process


async def _unanswered() -> None:
    """Nothing is wired: the server says that nobody answers."""
