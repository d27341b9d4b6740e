"""What lasts as long as the program: its clock, connections, stores and log, and the wiring in force, which a reload swaps."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final, Protocol

import msgspec

from sentinel_gateway import alarms, rules
from sentinel_gateway.alerts.watch import Plan
from sentinel_gateway.api.asgi import App, Receive, Scope, Send
from sentinel_gateway.api.dashboard.sessions import Sessions
from sentinel_gateway.api.fast_path import FastPath
from sentinel_gateway.api.guard import Guard
from sentinel_gateway.api.management import forget_endpoints
from sentinel_gateway.api.refusals import Refusals
from sentinel_gateway.configured import Configured
from sentinel_gateway.core.issuance import AuditEntry
from sentinel_gateway.core.pricing import Costs
from sentinel_gateway.errors import ConfigurationError, StoreDown
from sentinel_gateway.ledger.books import NOTHING
from sentinel_gateway.pipeline.admit import Admission
from sentinel_gateway.pipeline.authentication import Authenticator
from sentinel_gateway.pipeline.dispatch import Dispatch
from sentinel_gateway.pipeline.strain import Strain
from sentinel_gateway.ports import Clock
from sentinel_gateway.ports.ledger import Past
from sentinel_gateway.programs.dspy_programs import DspyPrograms
from sentinel_gateway.providers._http import HttpClient
from sentinel_gateway.providers.prices import PriceBook
from sentinel_gateway.routes import Routes
from sentinel_gateway.settings.load import Load, Loaded
from sentinel_gateway.settings.model import Settings
from sentinel_gateway.settings.network import is_loopback
from sentinel_gateway.storage import Stores
from sentinel_gateway.stores.admin_key import admin_key
from sentinel_gateway.telemetry.events import Telemetry
from sentinel_gateway.telemetry.lasting import costs_with, counters
from sentinel_gateway.telemetry.metrics import Metrics
from sentinel_gateway.telemetry.regions import Regions

ALWAYS_LISTED: Final = ("redis", "qdrant", "embeddings")
"""Services that `/health` and `/admin/stats` name whether or not they are in use (seed 000)."""


class Wired(Protocol):
    """One configuration, wired, as far as the process asks it."""

    app: App
    fast: FastPath
    refusals: Refusals
    guard: Guard
    routes: Routes
    dispatch: Dispatch
    programs: DspyPrograms


class Outside(msgspec.Struct, frozen=True):
    """What a process is opened with. `via` is what it is called in that header, `node` what it is called among nodes."""

    node: str
    clock: Clock
    via: str
    http: HttpClient
    metrics: Metrics
    events: Telemetry
    prices: PriceBook


class Process:
    """What outlives a reload, and the wiring in force. It is the ASGI app that the server runs."""

    def __init__(
        self, load: Load, wire: "Callable[[Settings, Process], Wired]", loaded: Loaded, outside: Outside, stores: Stores
    ) -> None:
        settings = loaded.settings
        self.clock = outside.clock
        self.via = outside.via
        self.http = outside.http
        self.metrics = outside.metrics
        self.events = outside.events
        self.prices = outside.prices
        self.started = self.clock()
        self.regions = Regions(self.clock)
        self.sessions = Sessions()
        self.draining = False
        configured = settings.admin_key
        self.admin = admin_key(settings.data_dir, configured.get_secret_value() if configured else None)
        self.stores = stores
        self.authenticator = Authenticator(
            stores.state.ring, pepper=stores.state.secret, admin_hash=self.admin.digest, clock=self.clock
        )
        self.loopback = is_loopback(settings.server.host)
        """Of the address that was bound: a reload does not bind another."""
        self.configured = Configured(load, loaded, self._make_plan)
        self.tiers = stores.tiers
        self.semantic = stores.semantic
        self.embedder = stores.embedder
        self.evidence = None if stores.semantic is None else stores.semantic.evidence
        self.strain = Strain(outside.events.note)
        too_much, refused = self.strain.is_too_much, self.strain.refused
        self.admission = Admission(rules.capacity(settings), random.random, strained=too_much, refused=refused)
        if stores.books is not None and settings.ledger.when_full == "refuse":
            stores.books.when_full(self.admission.shut)
        self.watch = alarms.open_watch(stores, outside.node, self.clock, self.events)
        self._wire = wire
        self._wiring: Wired | None = None
        self._reloading: set[asyncio.Task[None]] = set()
        self._one_reload = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Process {'draining' if self.draining else 'serving'} {self._wiring!r}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.answer(scope, receive, send)  # a coroutine itself, by which other servers know what they may call

    def answer(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Have the wiring in force answer. Our server asks this at once."""
        if self._wiring is None:
            raise RuntimeError("no configuration is in force yet")
        return self._wiring.app(scope, receive, send)

    def answer_again(self, segment: bytes, client: str) -> tuple[int, bytes] | None:
        """Status and answer of bytes that memory has answered before, or that are refused; None: they have to be read."""
        wiring = self._wiring
        if wiring is None:
            return None
        if (answer := wiring.fast.answer(segment, client)) is not None:
            return 200, answer
        if self.admission.has_room or (refusal := wiring.refusals.answer(segment)) is None:
            return None
        self.strain.refused()
        return refusal

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
        """`up`, `down`, `disabled`, or `local` (vectors that nodes can't share): seed 000's, used or not, and our own."""
        own = await self.tiers.status()
        if self.embedder is not None:
            own["embeddings"] = "up" if self.embedder.works else "down"
        if (books := self.stores.books) is not None:
            own["ledger"] = "up" if books.fault is None else "down"
        return dict.fromkeys(ALWAYS_LISTED, "disabled") | own

    async def use(self, settings: Settings) -> None:
        """Put a configuration in force."""
        plan = await asyncio.to_thread(self._make_plan, settings)  # Apprise is heavy
        await self.prices.use(rules.price_rules(settings))
        wiring = self._wire(settings, self)
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
        self.metrics.know(wiring.routes.lists)
        await self.watch.use(plan)
        wiring.programs.start()
        previous, self._wiring = self._wiring, wiring
        if previous is not None:
            previous.refusals.close()
            await previous.routes.stop()
            await previous.programs.stop()
            forget_endpoints()

    def _make_plan(self, settings: Settings) -> Plan:
        """What is to be told, and to whom. Raises `ConfigurationError` for a channel that can't be opened."""
        return alarms.make_plan(settings, self.stores, self.http, self.clock)

    async def reload(self, mark: str | None = None) -> list[str]:
        """Read the configuration again and use it; `ConfigurationError` if it is faulty, and then nothing has changed.

        `mark`: of the one that was looked at; raises `ConfigurationMoved` if that is not what is read now.
        """
        async with self._one_reload:
            loaded = await self.configured.load(mark)
            await self.use(loaded.settings)
            notes = self.configured.use(loaded)
        self.events.note("configuration_reloaded")
        return notes

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
        self.strain.close()
        for task in list(self._reloading):
            task.cancel()
        await asyncio.gather(*self._reloading, return_exceptions=True)
        await self.watch.close()
        await self.configured.close()
        if self._wiring is not None:
            self._wiring.refusals.close()
            await self._wiring.routes.stop()
            await self._wiring.programs.stop()
