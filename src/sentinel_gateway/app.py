"""The composition root: opens the adapters that `adapters.py` makes of the settings, wires them, and closes them.

Two lifetimes. A `Process` (`process.py`) lasts as long as the program: its clock, connections, stores and log. A `Wiring` lasts
as long as one configuration: providers, routes, limits, the path and the app around it. A reload builds a second wiring and
swaps one reference; requests under way finish on the first.
"""

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from secrets import token_hex

from fastapi import APIRouter

from sentinel_gateway import __version__, rules
from sentinel_gateway.adapters import make_programs, make_providers, open_secret
from sentinel_gateway.api.admin import Admin, Controls
from sentinel_gateway.api.alerts import AlertAdmin
from sentinel_gateway.api.analytics import Analytics
from sentinel_gateway.api.anthropic import ANTHROPIC_ERRORS
from sentinel_gateway.api.asgi import App
from sentinel_gateway.api.batch import BatchRules, QueryBatch
from sentinel_gateway.api.batched import Items, Single
from sentinel_gateway.api.browsers import Browsers, Hosts, Pages
from sentinel_gateway.api.budgets import Budgets
from sentinel_gateway.api.cache_admin import CacheAdmin
from sentinel_gateway.api.chat import ChatCompletions
from sentinel_gateway.api.circuits import CircuitAdmin
from sentinel_gateway.api.configuration import ConfigurationAdmin
from sentinel_gateway.api.dashboard.alerts import AlertsPage
from sentinel_gateway.api.dashboard.asking import Asking
from sentinel_gateway.api.dashboard.audit import Audit
from sentinel_gateway.api.dashboard.cache import CachePage
from sentinel_gateway.api.dashboard.config import ConfigPage
from sentinel_gateway.api.dashboard.explain import Explain
from sentinel_gateway.api.dashboard.frame import Dashboard, Ground
from sentinel_gateway.api.dashboard.keys import Keys
from sentinel_gateway.api.dashboard.money import Money
from sentinel_gateway.api.dashboard.overview import Overview
from sentinel_gateway.api.dashboard.playground import Playground
from sentinel_gateway.api.dashboard.providers import Providers
from sentinel_gateway.api.dashboard.semantic import SemanticPage
from sentinel_gateway.api.decided import RequestDecisions
from sentinel_gateway.api.dialects import anthropic_posts, other_posts
from sentinel_gateway.api.endpoint import Post
from sentinel_gateway.api.entrance import Entrance
from sentinel_gateway.api.exchange import Intake
from sentinel_gateway.api.experiments import ExperimentAdmin
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
from sentinel_gateway.api.predict import Predict
from sentinel_gateway.api.problems import PROBLEMS
from sentinel_gateway.api.query import Query, QueryPaths
from sentinel_gateway.api.refusals import Refusals
from sentinel_gateway.api.regions import LatencyRegions
from sentinel_gateway.api.request_costs import RequestCosts
from sentinel_gateway.api.semantic_admin import SemanticAdmin
from sentinel_gateway.api.semantic_trials import SemanticTrials
from sentinel_gateway.api.streaming import StreamOptions
from sentinel_gateway.api.traffic import Traffic
from sentinel_gateway.core.issuance import Minter
from sentinel_gateway.core.via import own_name
from sentinel_gateway.listeners import open_listeners
from sentinel_gateway.pipeline.admit import Admission, Capacity
from sentinel_gateway.pipeline.bookkeeping import Booked
from sentinel_gateway.pipeline.budgeting import Costing
from sentinel_gateway.pipeline.dispatch import Dispatch
from sentinel_gateway.pipeline.embed import Embedding, Measures
from sentinel_gateway.pipeline.estimate import TokenEstimate
from sentinel_gateway.pipeline.explaining import Explainer
from sentinel_gateway.pipeline.handle import Pipeline, Terms
from sentinel_gateway.pipeline.limiting import Limiter
from sentinel_gateway.pipeline.predicting import Predicting
from sentinel_gateway.pipeline.semantic import Semantic
from sentinel_gateway.pipeline.settle import Settlement
from sentinel_gateway.pipeline.siblings import Siblings
from sentinel_gateway.process import Outside, Process
from sentinel_gateway.providers._http import HttpClient
from sentinel_gateway.providers.prices import PriceBook
from sentinel_gateway.routes import Routes
from sentinel_gateway.settings.load import Load, Loaded
from sentinel_gateway.settings.model import Settings
from sentinel_gateway.settings.routes import default_route
from sentinel_gateway.storage import check_reach, follow_others, open_stores
from sentinel_gateway.stores.clock import SteadyClock
from sentinel_gateway.telemetry.evidence import EvidenceFigures
from sentinel_gateway.telemetry.metrics import CONTENT_TYPES, Exposition, Metrics
from sentinel_gateway.telemetry.regions import Located
from sentinel_gateway.terms import make_costing, make_settlement, make_terms, of_predictions


class Wiring:
    """One configuration, wired."""

    def __init__(self, settings: Settings, process: Process) -> None:
        self._settings = settings
        self._process = process
        self._providers = dict(make_providers(settings, process.http, process.clock))
        retries, stores, give_way = rules.retries(settings), process.stores, process.strain.give_way
        self.dispatch = Dispatch(self._providers, stores.circuits, retries, stores.accounts, give_way=give_way)
        self.programs = make_programs(settings, process.events)
        self.routes = Routes(settings, self._providers, self.programs, prices=process.prices, events=process.events)
        self.app = self._build(process)

    def __repr__(self) -> str:
        return f"<Wiring {', '.join(self._providers)}>"

    def _build(self, process: Process) -> App:
        settings, clock, events, planners = self._settings, process.clock, process.events, self.routes.planners
        tiers, server, stores = process.tiers, settings.server, process.stores
        semantic = process.semantic if settings.cache.semantic.enabled else None
        groups = rules.groups(settings)
        settlement = make_settlement(settings, tiers, process.evidence, clock)
        estimate = TokenEstimate(stores.counter, media_tokens=settings.tokens.media)
        costing = make_costing(settings, process.prices)
        terms = make_terms(settings, stores, process.admission, estimate, costing)
        pipeline = partial(Pipeline, terms=terms, tiers=tiers, semantic=semantic, dispatch=self.dispatch, settlement=settlement)
        pages = Pages(server.cors.origins, server.cors.credentials)
        browsers = Browsers(pages, Hosts(server.allowed_hosts))
        guard = self.guard = Guard(
            process.authenticator, stores.state.ring, Policy(settings.keys.required, loopback=process.loopback)
        )
        entering = partial(Entrance, browsers, groups=groups, region=server.region_header, trace=events.begin_trace)
        books = stores.books
        booked = events if books is None else Booked(events, books.journal)
        heard = booked if server.region_header is None else Located(booked, process.regions)
        intake = Intake(max_body=server.max_body_bytes)
        face = partial(Face, entrance=entering(guard), intake=intake, clock=clock, events=heard)
        options = StreamOptions(server.heartbeat, via=process.via)
        limiter = Limiter(stores.limits, rules=rules.limit_rules(settings), clock=clock, chance=random.random)
        chats = pipeline(planner=planners["chat"])
        self.fast = FastPath(chats, limiter, guard, clock=clock, events=heard)
        chat = ChatCompletions(chats, limiter, options, fast=self.fast, clock=clock)
        models = self._models = Models(self.routes.current, created=int(process.started))
        self._asking = Asking(chat, face, entering, guard=guard, intake=intake, clock=clock)
        siblings = Siblings(planners["query"], tiers, semantic, rules.bound_rules(settings))
        queries = self._queries(pipeline(planner=planners["query"]), siblings, limiter, face, intake)
        predict = self._predict(pipeline, terms, chats, limiter)
        embedding = self._embedding(settlement, costing)
        posts = [chat, *other_posts(planners, pipeline, embedding, limiter, options, clock=clock)]
        messages = anthropic_posts(planners, pipeline, estimate, limiter, options, clock=clock)
        routers = self._routers(guard, limiter, semantic)
        plain = [post.route for post in (*posts, *messages, *queries, predict)]
        forms = {ERRORS: posts, ANTHROPIC_ERRORS: messages, PROBLEMS: (queries[0], predict)}  # a batch has places of its own
        self.refusals = Refusals(forms, count=process.metrics.observe, events=events, clock=clock, chance=random.random)
        documentation = Documentation(routers, plain, guard=guard).routes()
        management = build_management([*routers, documentation], guard, self._dashboard.lost)
        observed = Observed(management, browsers=browsers, clock=clock, events=events, trace=events.begin_trace)
        faces = Faces(
            openai=face(Paths(posts, models).route, ERRORS),
            anthropic=face(Paths(messages, models).route, ANTHROPIC_ERRORS),
            query=face(QueryPaths(*queries).route, PROBLEMS),
            predict=face(predict.answer, PROBLEMS),
        )
        return build_gateway(faces, observed, pages)

    def _routers(self, guard: Guard, limiter: Limiter, semantic: Semantic | None) -> Sequence[APIRouter]:
        """What is not on the data path."""
        process, settings, state, clock = self._process, self._settings, self._process.stores.state, self._process.clock
        bound, groups = rules.bound_rules(settings), rules.groups(settings)
        explainer = Explainer(semantic, bound, groups) if semantic is not None else None
        return [
            Operations(process.tiers, self._identity, self._reports, guard=guard, clock=clock).routes(),
            Explaining(explainer, state.keys, access=guard.administrator()).routes(),
            self._key_administration(guard).routes(),
            Feedback(process.evidence, limiter, guard=guard).routes(),
            *self._looking(guard, semantic),
        ]

    def _queries(
        self, path: Pipeline, siblings: Siblings, limiter: Limiter, face: Callable[..., Face], intake: Intake
    ) -> Sequence[Post]:
        """One query, and many together, each of which passes a face of its own."""
        settings, batch, via, clock = self._settings, self._settings.batch, self._process.via, self._process.clock
        single = QueryPaths(Single(path, limiter, via=via, clock=clock))
        items = Items(face(single.route, PROBLEMS), intake=intake, clock=clock)
        terms = BatchRules(batch.queries, batch.concurrency, settings.server.max_depth, settings.server.heartbeat, via)
        admission = Admission(Capacity(batch.in_flight, queue=0, queue_wait=0.0), random.random)
        together = QueryBatch(items, siblings, limiter, terms, admission=admission, clock=clock)
        return Query(path, limiter, via=via, clock=clock), together

    def _predict(self, pipeline: Callable[..., Pipeline], terms: Terms, chats: Pipeline, limiter: Limiter) -> Predict:
        process, planners, programs = self._process, self.routes.planners, self.programs
        exact = pipeline(terms=terms, planner=planners["chat"], semantic=None)
        predicting = Predicting(programs, {False: exact, True: chats}, process.events, process.clock)
        path = Pipeline(
            terms=of_predictions(terms),
            planner=planners["predict"],
            tiers=process.tiers,
            semantic=None,
            dispatch=predicting,
            settlement=make_settlement(self._settings, process.tiers, None, process.clock),
        )
        track = process.metrics.predictions.track
        return Predict(path, programs, limiter, track, via=process.via, clock=process.clock)

    def _embedding(self, settlement: Settlement, costing: Costing) -> Embedding:
        process, planner = self._process, self.routes.planners["embeddings"]
        measures, admission = Measures(process.stores.counter, costing), process.admission
        return Embedding(planner, process.tiers, self.dispatch, settlement, admission=admission, measures=measures)

    @property
    def _identity(self) -> Identity:
        service = self._settings.service
        return Identity(service.name, service.version, self._process.started)

    @property
    def _reports(self) -> Reports:
        process = self._process
        return Reports(
            ready=self._why_not_ready,
            metrics=self._scrape,
            counters=process.counters,
            services=process.services,
            costs=process.costs,
            priced=process.prices.known,
            circuits=process.stores.circuits.shown,
            tiers=process.metrics.tiers,
            config=partial(self._settings.model_dump, mode="json"),
        )

    def _administration(self, guard: Guard) -> Admin:
        process = self._process
        return Admin(
            process.tiers,
            process.stores.purge,
            process.stores.state.audit,
            guard=guard,
            controls=Controls(process.counters, process.services, process.reload, self._shows_text),
            clock=process.clock,
        )

    def _shows_text(self) -> bool:
        """May administrators read what others have asked?"""
        said = self._settings.admin.show_text
        return self.guard.is_open if said is None else said

    def _key_administration(self, guard: Guard) -> KeyAdmin:
        state = self._process.stores.state
        minter = Minter(state.secret, defaults=rules.defaults(self._settings))
        return KeyAdmin(state.keys, state.audit, state.ring, minter, access=guard.administrator(), clock=self._process.clock)

    def _looking(self, guard: Guard, semantic: Semantic | None) -> list[APIRouter]:
        """What tells of providers, of the past, of what is stored and of decisions, and the dashboard that shows it."""
        process, stores, clock, audit = self._process, self._process.stores, self._process.clock, self._process.stores.state.audit
        history = None if stores.books is None else stores.books.history
        hours = ProviderHours(stores.recent, history, clock)
        monitoring = Monitoring(stores.recent, hours, stores.circuits, self._providers, guard=guard, clock=clock)
        analytics = Analytics(history, stores.state.keys, self._providers, guard=guard, clock=clock)
        circuits = CircuitAdmin(stores.circuits, stores.state.audit, guard=guard, clock=clock)
        traffic = Traffic(history, stores.state.ring.holders, guard=guard, clock=clock)
        keys = self._key_administration(guard)
        costs = RequestCosts(history, process.prices, guard=guard, clock=clock)
        accounts, ring, granted = stores.state.accounts.table, stores.state.ring, rules.limit_rules(self._settings).budgets
        decided = RequestDecisions(semantic, self._shows_text, guard=guard)
        budgets = Budgets(accounts.items, ring.holders, granted, guard=guard, clock=clock)
        clearing, purge = self._administration(guard), None if semantic is None else stores.purge
        cached = CacheAdmin(process.tiers, purge, audit, guard=guard, texts=self._shows_text, clock=clock)
        standing = SemanticAdmin(process.evidence, audit, guard=guard, clock=clock)
        if semantic is not None:
            semantic.recent.texts = self._shows_text
        trials = SemanticTrials(semantic, guard=guard, clock=clock)
        under_way = rules.experiments(self._settings)
        experiments = ExperimentAdmin(
            under_way, history, process.evidence, guard=guard, clock=clock, retention=self._settings.ledger.retention
        )
        alerts = AlertAdmin(process.watch, audit, guard=guard, clock=clock)
        configuration = ConfigurationAdmin(process.configured, guard=guard)
        screens = [
            Overview(self._reports, traffic, list(self._providers), identity=self._identity, clock=clock),
            Providers(monitoring, analytics, circuits, clock),
            SemanticPage(standing, trials, experiments, clock),
            CachePage(cached, clearing, clock),
            Money(traffic, analytics, budgets, clock),
            Keys(keys, clock),
            AlertsPage(alerts),
            Playground(self._asking, self._models, default_route(self._settings) or ""),
            Explain(traffic, costs, decided),
            ConfigPage(process.configured, clearing),
            Audit(keys),
        ]
        ground = Ground(guard, process.sessions, stores.state.audit, self._identity, clock, lambda: process.draining)
        self._dashboard = Dashboard(screens, ground)
        return [
            *(told.routes() for told in (monitoring, analytics, circuits, traffic, costs, decided, budgets, clearing, cached)),
            *(told.routes() for told in (standing, trials, experiments, alerts, configuration)),
            LatencyRegions(process.regions.since, self._settings.server.region_header, guard=guard, clock=clock).routes(),
            *self._dashboard.routes(),
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
        metrics.update_alerts(process.watch.board, process.watch.delivered)
        if (evidence := process.evidence) is not None:
            learned = evidence.calibration.standings(evidence.habits.most_wrong)
            figures = EvidenceFigures(evidence.heard, evidence.compared, evidence.log.standings, learned, evidence.told)
            metrics.update_evidence(figures)
        return metrics.render(exposition), CONTENT_TYPES[exposition]


@asynccontextmanager
async def open_process(load: Load, loaded: Loaded) -> AsyncIterator[Process]:
    """Everything opened in order, and closed in reverse: what was taken for the disk is written, the log is flushed."""
    settings, clock = loaded.settings, SteadyClock()
    node = token_hex(4)
    metrics = Metrics(__version__)
    async with AsyncExitStack() as closing:
        events = open_listeners(settings, metrics, clock, closing)
        via = own_name(open_secret(settings), settings.service.name)
        http = await closing.enter_async_context(HttpClient(via=via, version=__version__))
        prices = PriceBook(clock, events.note)
        outside = Outside(node, clock, via, http, metrics, events, prices)
        stores = await open_stores(settings, node, clock, events, closing, prices=prices)
        check_reach(settings, stores.state.ring)
        await follow_others(stores, closing)
        process = Process(load, Wiring, loaded, outside, stores)
        closing.push_async_callback(process.close)
        await process.use(settings)
        yield process
