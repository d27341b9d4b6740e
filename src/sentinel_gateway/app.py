"""The composition root: opens the adapters that `adapters.py` makes of the settings, wires them, and closes them.

Two lifetimes. A `Process` lasts as long as the program: its clock, connections, stores and log. A `Wiring` lasts as long as
one configuration: providers, routes, limits, the path and the app around it. A reload builds a second wiring and swaps one
reference; requests under way finish on the first.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from secrets import token_hex
from typing import Final

import msgspec

from sentinel_gateway import __version__
from sentinel_gateway.adapters import make_providers, open_log
from sentinel_gateway.api.admin import Admin, Controls
from sentinel_gateway.api.asgi import App, Receive, Scope, Send
from sentinel_gateway.api.browsers import Browsers, Hosts, Pages
from sentinel_gateway.api.chat import ChatCompletions, ChatOptions
from sentinel_gateway.api.entrance import Entrance
from sentinel_gateway.api.exchange import Intake
from sentinel_gateway.api.face import Face
from sentinel_gateway.api.gateway import build_gateway
from sentinel_gateway.api.guard import Guard, Policy
from sentinel_gateway.api.keys import KeyAdmin
from sentinel_gateway.api.management import Observed, build_management
from sentinel_gateway.api.models import Models
from sentinel_gateway.api.openai import ERRORS, OpenAIPaths
from sentinel_gateway.api.operations import Identity, Operations, Reports
from sentinel_gateway.api.problems import PROBLEMS
from sentinel_gateway.api.query import Query
from sentinel_gateway.api.wire.openai import read_request
from sentinel_gateway.api.wire.query import Defaults, read_query
from sentinel_gateway.core.caching import TtlRules
from sentinel_gateway.core.issuance import AuditEntry, Minter
from sentinel_gateway.core.limits import Limits
from sentinel_gateway.core.routing import Directory, Target
from sentinel_gateway.errors import ConfigurationError, StoreDown
from sentinel_gateway.pipeline.admit import Admission, Capacity
from sentinel_gateway.pipeline.authentication import Authenticator
from sentinel_gateway.pipeline.dispatch import Dispatch
from sentinel_gateway.pipeline.estimate import TokenEstimate
from sentinel_gateway.pipeline.handle import Pipeline, Terms
from sentinel_gateway.pipeline.limiting import Limiter, LimitRules
from sentinel_gateway.pipeline.plan import Planner
from sentinel_gateway.pipeline.settle import Settlement
from sentinel_gateway.pipeline.tiers import Tiers
from sentinel_gateway.ports import Clock
from sentinel_gateway.providers._http import HttpClient
from sentinel_gateway.providers.catalogue import Catalogue
from sentinel_gateway.providers.demo import MODELS as DEMO_MODELS
from sentinel_gateway.providers.demo import NAME as DEMO
from sentinel_gateway.settings.load import Loaded
from sentinel_gateway.settings.model import Limits as LimitSettings
from sentinel_gateway.settings.model import Settings
from sentinel_gateway.settings.network import is_loopback
from sentinel_gateway.settings.presets import PRESETS
from sentinel_gateway.settings.restart import needing_restart
from sentinel_gateway.settings.routes import default_models, default_route
from sentinel_gateway.storage import Stores, check_reach, open_stores, thresholds
from sentinel_gateway.stores.admin_key import admin_key
from sentinel_gateway.telemetry.events import Telemetry
from sentinel_gateway.telemetry.libraries import LibraryLogs
from sentinel_gateway.telemetry.metrics import Metrics

CATALOGUE_REFRESH: Final = 600.0
"""Seconds between two looks at what the providers list."""
ALWAYS_LISTED: Final = ("redis", "qdrant", "embeddings")
"""Services that `/health` and `/admin/stats` name whether or not they are in use (seed 000)."""

Load = Callable[[], Loaded]


def steady_clock() -> Clock:
    """The wall clock of now, carried on by the monotonic one."""
    offset = time.time() - time.monotonic()
    return lambda: time.monotonic() + offset


class Outside(msgspec.Struct, frozen=True):
    """What a process is opened with. `node` names it in `Via`."""

    clock: Clock
    node: str
    http: HttpClient
    metrics: Metrics
    events: Telemetry


class Process:
    """What outlives a reload, and the wiring in force. It is the ASGI app that the server runs."""

    def __init__(self, load: Load, settings: Settings, outside: Outside, stores: Stores) -> None:
        self.clock = outside.clock
        self.node = outside.node
        self.http = outside.http
        self.metrics = outside.metrics
        self.events = outside.events
        self.started = self.clock()
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
        self.admission = Admission(_capacity(settings), random.random)
        self._load = load
        self._wiring: Wiring | None = None
        self._reloading: set[asyncio.Task[None]] = set()
        self._one_reload = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Process {'draining' if self.draining else 'serving'} {self._wiring!r}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._wiring is not None:
            await self._wiring.app(scope, receive, send)

    @property
    def asks_for_keys(self) -> bool:
        """Does it ask callers for a key now?"""
        return self._wiring is not None and not self._wiring.guard.is_open

    def counters(self) -> Mapping[str, float]:
        """Seed 000's cache statistics. `hit_rate` in per cent of the requests that the cache decided."""
        totals = self.metrics.totals()
        hits = totals.exact_hits + totals.semantic_hits
        return {
            "exact_hits": totals.exact_hits,
            "semantic_hits": totals.semantic_hits,
            "misses": totals.misses,
            "total_requests": totals.total,
            "hit_rate": round(100 * hits / totals.total, 2) if totals.total else 0.0,
        }

    async def services(self) -> Mapping[str, str]:
        """`up`, `down` or `disabled` of each dependency: seed 000's, used or not, and our own."""
        own = await self.tiers.status()
        if self.embedder is not None:
            own["embeddings"] = "up" if self.embedder.works else "down"
        return dict.fromkeys(ALWAYS_LISTED, "disabled") | own

    async def use(self, settings: Settings) -> None:
        """Put a configuration in force."""
        wiring = Wiring(settings, self)
        await wiring.start()
        self.tiers.near_ttl = settings.cache.memory.ttl
        if self.semantic is not None:
            self.semantic.thresholds = thresholds(settings)
        self.admission.resize(_capacity(settings))
        previous, self._wiring = self._wiring, wiring
        if previous is not None:
            await previous.stop()

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
            await self._wiring.stop()


class Wiring:
    """One configuration, wired."""

    def __init__(self, settings: Settings, process: Process) -> None:
        self._settings = settings
        self._process = process
        self._providers = dict(make_providers(settings, process.http, process.clock))
        listed = {name: frozenset(provider.models) for name, provider in settings.providers.items() if provider.models}
        real = [provider for name, provider in self._providers.items() if name != DEMO]
        self._catalogue = Catalogue(real, listed=listed, events=process.events)
        self._directory = self._list()
        depth, defaults = settings.server.max_depth, Defaults(default_route(settings), default_models(settings))
        read_any_query = partial(read_query, max_depth=depth, directory=self._current_directory, defaults=defaults)
        self._chats = Planner("chat", partial(read_request, max_depth=depth), self._current_directory)
        self._queries = Planner("query", read_any_query, self._current_directory)
        self._refreshing: asyncio.Task[None] | None = None
        self.app = self._build(process)

    def __repr__(self) -> str:
        return f"<Wiring {', '.join(self._providers)}>"

    async def start(self) -> None:
        """Learn the catalogue, and keep it fresh."""
        if await self._catalogue.load():
            self._relist()
        self._refreshing = asyncio.create_task(self._keep_fresh())

    async def stop(self) -> None:
        """Stop refreshing. Requests under way go on."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            with suppress(asyncio.CancelledError):
                await self._refreshing

    async def _keep_fresh(self) -> None:
        while True:
            if await self._catalogue.refresh():
                self._relist()
            await asyncio.sleep(CATALOGUE_REFRESH)

    def _relist(self) -> None:
        self._directory = self._list()
        self._chats.forget()
        self._queries.forget()

    def _current_directory(self) -> Directory:
        return self._directory

    def _list(self) -> Directory:
        return Directory(
            aliases={name: tuple(map(_target, model.targets)) for name, model in self._settings.models.items()},
            providers=tuple(self._providers),
            catalogues={name: DEMO_MODELS if name == DEMO else self._catalogue.names(name) for name in self._providers},
            known={name: preset.switch for name, preset in PRESETS.items() if name not in self._providers},
            simulated=frozenset({DEMO}),
        )

    def _build(self, process: Process) -> App:
        settings, clock, events = self._settings, process.clock, process.events
        tiers, server, stores = process.tiers, settings.server, process.stores
        pipeline = partial(
            Pipeline,
            terms=Terms(process.admission, stores.once, TokenEstimate(stores.counter, media_tokens=settings.tokens.media)),
            tiers=tiers,
            semantic=process.semantic if settings.cache.semantic.enabled else None,
            dispatch=Dispatch(self._providers, clock, events),
            settlement=_settlement(settings, tiers, process),
        )
        pages = Pages(server.cors.origins, server.cors.credentials)
        browsers = Browsers(pages, Hosts(server.allowed_hosts))
        guard = self.guard = Guard(
            process.authenticator, stores.state.ring, Policy(settings.keys.required, loopback=process.loopback)
        )
        entrance = Entrance(browsers, guard, _groups(settings))
        face = partial(Face, entrance=entrance, intake=Intake(max_body=server.max_body_bytes), clock=clock, events=events)
        via = f"sentinel-{process.node}".encode()
        limiter = Limiter(stores.limits, rules=_limit_rules(settings), clock=clock, chance=random.random)
        chat = ChatCompletions(pipeline(planner=self._chats), limiter, ChatOptions(server.heartbeat, via), clock=clock)
        models = Models(self._current_directory, created=int(process.started))
        query = Query(pipeline(planner=self._queries), limiter, via=via, clock=clock)
        routers = [
            self._operations(guard).routes(),
            self._administration(guard).routes(),
            self._key_administration(guard).routes(),
        ]
        management = build_management(routers, guard)
        observed = Observed(management, browsers=browsers, clock=clock, events=events)
        return build_gateway(face(OpenAIPaths(chat, models).route, ERRORS), face(query.answer, PROBLEMS), observed, pages)

    def _operations(self, guard: Guard) -> Operations:
        process, service = self._process, self._settings.service
        identity = Identity(service.name, service.version, process.started)
        reports = Reports(self._why_not_ready, self._render_metrics, process.counters, process.services)
        return Operations(process.tiers, identity, reports, guard=guard, clock=process.clock)

    def _administration(self, guard: Guard) -> Admin:
        process = self._process
        return Admin(
            process.tiers,
            process.stores.state.audit,
            guard=guard,
            controls=Controls(process.counters, process.services, process.reload),
            clock=process.clock,
        )

    def _key_administration(self, guard: Guard) -> KeyAdmin:
        state = self._process.stores.state
        minter = Minter(state.secret, defaults=_limits(self._settings.limits))
        return KeyAdmin(state.keys, state.audit, state.ring, minter, access=guard.administrator(), clock=self._process.clock)

    def _why_not_ready(self) -> str | None:
        if self._process.draining:
            return "draining: this node is about to stop"
        return None if self._providers else "no provider is usable: configure one, or set providers.demo.enabled to true"

    def _render_metrics(self) -> tuple[bytes, str]:
        metrics = self._process.metrics
        metrics.update_in_flight(self._process.admission.running)
        metrics.update_rate_limiter_buckets(self._process.stores.limits.buckets())
        return metrics.render(), metrics.content_type


def _target(text: str) -> Target:
    provider, _, model = text.partition("/")
    return Target(provider, model)


def _groups(settings: Settings) -> Mapping[str, str]:
    return {name: tenant.cache_group for name, tenant in settings.tenants.items() if tenant.cache_group is not None}


def _limit_rules(settings: Settings) -> LimitRules:
    return LimitRules(
        keys=_limits(settings.limits),
        tenants={name: _limits(tenant.limits) for name, tenant in settings.tenants.items()},
        models={name: _limits(model.limits) for name, model in settings.models.items()},
    )


def _limits(limits: LimitSettings) -> Limits:
    return Limits(limits.requests_per_minute, limits.tokens_per_minute, limits.concurrency)


def _capacity(settings: Settings) -> Capacity:
    server = settings.server
    return Capacity(server.max_in_flight, server.queue, server.queue_wait)


def _settlement(settings: Settings, tiers: Tiers, process: Process) -> Settlement:
    per_model = {name: model.ttl for name, model in settings.models.items() if model.ttl is not None}
    rules = TtlRules(settings.cache.ttl, per_model)
    limit = settings.cache.max_answer_bytes
    return Settlement(tiers, rules, max_bytes=limit, clock=process.clock, chance=random.random)


@asynccontextmanager
async def open_process(load: Load, settings: Settings) -> AsyncIterator[Process]:
    """Everything opened in order, and closed in reverse: what was taken for the disk is written, the log is flushed."""
    clock = steady_clock()
    node = token_hex(4)
    metrics = Metrics(__version__)
    async with AsyncExitStack() as closing:
        log = open_log(settings, clock)
        closing.callback(log.close)
        closing.enter_context(LibraryLogs(log))
        events = Telemetry(metrics, log, clock)
        http = await closing.enter_async_context(HttpClient(node=node, version=__version__))
        outside = Outside(clock, node, http, metrics, events)
        stores = await open_stores(settings, clock, events, closing)
        check_reach(settings, stores.state.ring)
        process = Process(load, settings, outside, stores)
        closing.push_async_callback(process.close)
        await process.use(settings)
        yield process
