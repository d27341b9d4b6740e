"""What a process keeps, opened in order: keys and what else must last, limits, the tiers of the cache."""

import asyncio
import random
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import msgspec

from sentinel_gateway.adapters import (
    State,
    make_records,
    open_bulletin,
    open_counter,
    open_disk,
    open_embedder,
    open_evidence,
    open_flights,
    open_idempotency,
    open_index,
    open_limits,
    open_memory,
    open_redis,
    open_secret,
    open_shared,
    open_state,
)
from sentinel_gateway.core.standing import StandingRules, Standings
from sentinel_gateway.errors import ConfigurationError
from sentinel_gateway.ledger.books import Books, lacks_postgres
from sentinel_gateway.ledger.copier import Habits
from sentinel_gateway.ledger.journal import JournalLimits
from sentinel_gateway.pipeline.circuits import Circuits
from sentinel_gateway.pipeline.drains import Drains
from sentinel_gateway.pipeline.hearing import Hearing
from sentinel_gateway.pipeline.hedging import Accounts
from sentinel_gateway.pipeline.idempotency import Idempotency, IdempotencyLimits
from sentinel_gateway.pipeline.keyring import KeyRing
from sentinel_gateway.pipeline.purge import Purge
from sentinel_gateway.pipeline.semantic import Semantic
from sentinel_gateway.pipeline.tiers import Tiers
from sentinel_gateway.ports import (
    Bulletin,
    Clock,
    Embedder,
    Events,
    Handover,
    LimitStore,
    Prices,
    RecentMetrics,
    ReplyStore,
    TokenCounter,
    VectorArchive,
    World,
)
from sentinel_gateway.rules import thresholds
from sentinel_gateway.settings.model import Settings
from sentinel_gateway.settings.network import is_loopback
from sentinel_gateway.stores.clock import SteadyClock
from sentinel_gateway.telemetry.recent.memory import MemoryMetrics
from sentinel_gateway.telemetry.recent.mirror import CircuitMirror
from sentinel_gateway.telemetry.recent.recorder import Recorder

if TYPE_CHECKING:
    from sentinel_gateway.stores._redis import RedisLink


PATIENCE: Final = 5.0
"""Seconds that the start waits for what is known of reworded questions."""


class Closable(Protocol):
    """What ends with the process."""

    async def close(self) -> None: ...


_Closable = TypeVar("_Closable", bound=Closable)


class Stores(msgspec.Struct, frozen=True):
    """What is kept and found again, opened, what is known of targets, and what outlasts the requests that it was done for.

    What compares questions is None where reworded ones are not answered.
    """

    tiers: Tiers
    state: State
    limits: LimitStore
    once: Idempotency
    counter: TokenCounter
    bulletin: Bulletin
    circuits: Circuits
    accounts: Accounts
    drains: Drains
    recent: RecentMetrics
    handover: Handover | None = None
    semantic: Semantic | None = None
    embedder: Embedder | None = None
    purge: Purge | None = None
    books: Books | None = None


async def open_stores(
    settings: Settings, node: str, clock: SteadyClock, events: Events, closing: AsyncExitStack, *, prices: Prices
) -> Stores:
    """The keys and what else must last, limits, and the tiers of the cache as far as they are on. `node` is our name."""
    near, near_ttl = open_memory(settings), settings.cache.memory.ttl
    link = partial(_open_link, settings, [], clock=clock, events=events, closing=closing)
    secret, nodes = open_secret(settings), link("nodes")
    bulletin = open_bulletin(nodes, secret, node, events)
    state = _closed_by(closing, await open_state(settings, secret, bulletin, clock, events, node=node))  # it puts the clock right
    books = open_ledger(settings, clock, events)
    if books is not None:
        closing.push_async_callback(books.close)
    recent = open_recent(settings, link("monitoring"), clock)
    recorder = _closed_by(closing, Recorder(events, recent))
    world = World(clock, asyncio.sleep, random.random, recorder, None if books is None else books.journal)
    circuits = _closed_by(closing, Circuits(Standings(StandingRules()), bulletin, world))
    mirror = _closed_by(closing, CircuitMirror(circuits.standings, recent, clock))
    mirror.start()
    accounts = Accounts(prices, clock)
    asked_once = _closed_by(closing, open_idempotency(settings))
    once = _closed_by(closing, Idempotency(asked_once, IdempotencyLimits(), clock))
    counter = _closed_by(closing, open_counter(events))
    limits = _closed_by(closing, open_limits(settings, nodes, state, node=node, clock=clock, events=events))
    handover = _open_handover(nodes, secret, node, closing)
    far, disk = await _open_far(settings, link("replies"), secret, clock=clock, events=events, closing=closing)
    if not settings.cache.semantic.enabled:
        tiers = Tiers(near, far, bulletin=bulletin, near_ttl=near_ttl, clock=clock)
        closing.push_async_callback(tiers.close)
        drains = _open_drains(world, closing)
        return Stores(tiers, state, limits, once, counter, bulletin, circuits, accounts, drains, recent, handover, books=books)
    embedder = _closed_by(closing, await open_embedder(events))
    records = make_records(embedder, secret)
    index = _closed_by(closing, open_index(settings, records, link("vectors"), clock, events, archive=disk))
    tiers = _closed_by(closing, Tiers(near, far, index, bulletin=bulletin, near_ttl=near_ttl, clock=clock))
    evidence = _closed_by(closing, open_evidence(state, tiers, embedder, clock, events, prices=prices))
    await _begin(evidence.open(), closing)
    semantic = _closed_by(closing, Semantic(index, embedder, tiers, thresholds(settings), evidence, events=events))
    preparing = asyncio.create_task(index.prepare())
    closing.callback(preparing.cancel)
    purge = _closed_by(closing, Purge(semantic, tiers, bulletin, clock=clock, events=events))
    drains = _open_drains(world, closing)
    return Stores(
        *(tiers, state, limits, once, counter, bulletin, circuits, accounts, drains, recent, handover),
        semantic=semantic,
        embedder=embedder,
        purge=purge,
        books=books,
    )


def open_ledger(settings: Settings, clock: Clock, events: Events) -> Books | None:
    """Who asked for what and what it cost, if that is written down; raises `ConfigurationError` where it can't be."""
    wanted, url = settings.ledger, settings.database_url
    if not wanted.enabled:
        return None
    if url is not None:
        try:
            import psycopg  # noqa: F401, PLC0415 - who has no PostgreSQL may lack the package
        except ModuleNotFoundError as exc:
            raise ConfigurationError([("database_url", lacks_postgres(exc))]) from exc
    limits = JournalLimits(most=wanted.journal_bytes, spill=wanted.spill_bytes, sync=wanted.sync)
    habits = Habits(wanted.retention, eager=url is not None)
    address = None if url is None else url.get_secret_value()
    return Books(settings.data_dir, address, limits=limits, habits=habits, clock=clock, on_event=events.note)


def open_recent(settings: Settings, link: "RedisLink | None", clock: Clock) -> RecentMetrics:
    """What providers did lately, on all nodes if there is a Redis."""
    if link is None:
        return MemoryMetrics(clock)
    from sentinel_gateway.telemetry.recent.redis import RedisMetrics  # noqa: PLC0415 - who has no Redis may lack the package

    return RedisMetrics(link, clock, prefix=settings.monitoring.prefix)


async def follow_others(stores: Stores, closing: AsyncExitStack) -> None:
    """From now on, do as other nodes tell, and count with them; and know what is pinned, as soon as the store can say."""
    stores.tiers.learn_pins()
    hearing = Hearing(stores.tiers, stores.state.ring, stores.purge, stores.circuits)
    closing.push_async_callback(stores.bulletin.close)
    await stores.bulletin.follow(hearing.heard, hearing.missed)
    await stores.limits.open()  # last: else the first requests would be refused for a budget that nobody was asked about


async def _begin(opening: Coroutine[Any, Any, None], closing: AsyncExitStack) -> None:
    """Wait until it is done, or goes on beside the start: a database that hangs holds up nobody who asks for something else."""
    task = asyncio.create_task(opening)
    closing.callback(task.cancel)
    await asyncio.wait([task], timeout=PATIENCE)
    if task.done():
        task.result()


def _closed_by(closing: AsyncExitStack, one: _Closable) -> _Closable:
    """`one`, which is closed before all that was opened before it."""
    closing.push_async_callback(one.close)
    return one


def _open_link(
    settings: Settings, others: list["RedisLink"], purpose: str, *, clock: Clock, events: Events, closing: AsyncExitStack
) -> "RedisLink | None":
    link = open_redis(settings, purpose, clock, events)
    if link is not None:
        link.join(others)
        closing.push_async_callback(link.close)
    return link


def _open_drains(world: World, closing: AsyncExitStack) -> Drains:
    """Opened last: what is let go at a stop settles with all that is kept."""
    return _closed_by(closing, Drains(world))


def _open_handover(link: "RedisLink | None", secret: bytes, node: str, closing: AsyncExitStack) -> Handover | None:
    """The way to the other nodes' flights, where there is a Redis to meet at."""
    if link is None:
        return None
    return _closed_by(closing, open_flights(link, secret, node))


async def _open_far(
    settings: Settings, link: "RedisLink | None", secret: bytes, *, clock: Clock, events: Events, closing: AsyncExitStack
) -> tuple[ReplyStore | None, VectorArchive | None]:
    """The one farther tier: Redis where there is one, else the disk. The disk alone also keeps the questions' vectors."""
    if link is not None:
        shared = await open_shared(link, secret, clock, events, stale=settings.cache.stale_if_error)
        closing.push_async_callback(shared.close)
        return shared, None
    disk = await open_disk(settings, clock, events)
    if disk is not None:
        closing.push_async_callback(disk.close)
    return disk, disk


def check_reach(settings: Settings, ring: KeyRing) -> None:
    """Beyond this machine nobody comes in without a key: where there is none yet, or no file to read them from, don't start."""
    host = settings.server.host
    if is_loopback(host) or len(ring):
        return
    if settings.database_url is not None and ring.why_unread is not None:
        return  # nodes come and go while it is away: until it is back, whoever sends a key gets 503
    found, fix = "there is no client key yet", "make one with 'sentinel keys create --name NAME'"
    if ring.why_unread is not None:
        found, fix = f"the client keys can't be read now ({ring.why_unread})", "start again when they can be"
    raise ConfigurationError([("server.host", f"others can reach {host}, and {found}: {fix}, or bind 127.0.0.1")])
