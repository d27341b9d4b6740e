"""Settings to adapters: the only place that knows which class does a job, and what each is told of the settings.

Whatever is heavy and may be switched off is imported when it is asked for.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from sentinel_gateway.core.idempotency import Quota
from sentinel_gateway.counters.bpe import BpeCounter, CounterLimits
from sentinel_gateway.errors import ConfigurationError, StoreDown
from sentinel_gateway.ledger.books import bring_up_to_date, lacks_postgres
from sentinel_gateway.pipeline.aside import OneThread
from sentinel_gateway.pipeline.evidence import Evidence, Kept
from sentinel_gateway.pipeline.evidence_log import EvidenceLog
from sentinel_gateway.pipeline.keyring import KeyRing
from sentinel_gateway.pipeline.spending import Spending
from sentinel_gateway.pipeline.tiers import Tiers
from sentinel_gateway.ports import (
    AuditLog,
    Bulletin,
    Clock,
    Embedder,
    Events,
    Handover,
    IdempotencyStore,
    KeyStore,
    LimitStore,
    NearStore,
    Prices,
    Provider,
    TokenCounter,
    VectorArchive,
    VectorIndex,
)
from sentinel_gateway.programs.definition import Definition
from sentinel_gateway.programs.dspy_programs import DspyPrograms
from sentinel_gateway.providers._deadlines import Timeouts
from sentinel_gateway.providers._http import HttpClient
from sentinel_gateway.providers._provider import ProviderConfig
from sentinel_gateway.providers._sigv4 import Credentials
from sentinel_gateway.providers._translated import TranslatedProvider
from sentinel_gateway.providers.anthropic import Anthropic
from sentinel_gateway.providers.bedrock import Bedrock, Signer
from sentinel_gateway.providers.demo import NAME as DEMO
from sentinel_gateway.providers.demo import DemoProvider
from sentinel_gateway.providers.gemini import Gemini
from sentinel_gateway.providers.openai import OpenAIProvider
from sentinel_gateway.settings.model import ProviderSettings, Settings
from sentinel_gateway.stores._adoption import adopt, keys_of, steps_of
from sentinel_gateway.stores._state import State as Place
from sentinel_gateway.stores._state import Statements
from sentinel_gateway.stores._state_file import StateFile
from sentinel_gateway.stores.account_keeper import AccountKeeper, restore
from sentinel_gateway.stores.audit import SqlAudit
from sentinel_gateway.stores.clock import SteadyClock
from sentinel_gateway.stores.evidence import SqlEvidence
from sentinel_gateway.stores.idempotency import SqliteIdempotency, open_file
from sentinel_gateway.stores.keys import SqlKeys
from sentinel_gateway.stores.learners import Naming, SqlLearners, words_key
from sentinel_gateway.stores.lessons import SqlLessons
from sentinel_gateway.stores.lone_bulletin import LoneBulletin
from sentinel_gateway.stores.memory import MemoryStore
from sentinel_gateway.stores.memory_limits import MemoryLimits
from sentinel_gateway.stores.secret import gateway_secret
from sentinel_gateway.stores.sqlite import SqliteLimits, SqliteStore

if TYPE_CHECKING:
    from qdrant_client import AsyncQdrantClient

    from sentinel_gateway.embedders.local import LocalEmbedder
    from sentinel_gateway.stores._redis import RedisLink
    from sentinel_gateway.stores._state_server import StateServer
    from sentinel_gateway.stores.redis import RedisStore
    from sentinel_gateway.vectors._records import Records

STDOUT: Final = 1
MAY_DIFFER: Final = 1.0
"""Seconds between the clocks of nodes, and of what they share."""
SLOW_SHARE: Final = 0.4
"""Of the time that Redis has for an answer: what takes longer is slow."""


def open_memory(settings: Settings) -> NearStore:
    """The near tier."""
    memory = settings.cache.memory
    return MemoryStore(max_entries=memory.entries, max_bytes=memory.bytes)


class State(msgspec.Struct, frozen=True):
    """What must not be lost, and the table of keys that follows it. `secret` is what keys are hashed with.

    `place` is where keys, the audit log and alerts are: the file, or a database that other nodes use as well. `evidence` is the
    same, or another way to the same database. `node`: our name.
    """

    keys: KeyStore
    audit: AuditLog
    ring: KeyRing
    secret: bytes
    file: StateFile
    place: Place
    evidence: Place
    accounts: AccountKeeper
    node: str

    async def close(self) -> None:
        await self.accounts.close()
        await self.ring.close()
        await asyncio.gather(*(one.close() for one in {self.place, self.evidence, self.file}))


def open_secret(settings: Settings) -> bytes:
    """What client keys are hashed with and nodes know each other by; `ConfigurationError` where it can't be kept."""
    return gateway_secret(settings.data_dir, settings.secret.get_secret_value() if settings.secret else None)


async def open_state(
    settings: Settings, secret: bytes, bulletin: Bulletin, clock: SteadyClock, events: Events, *, node: str
) -> State:
    """Client keys, the audit log and what was spent; raises `ConfigurationError` where they can't be kept.

    Where other nodes keep them in the same database, the clock goes by that one's from now on.
    """
    file = await StateFile.open(settings.data_dir, secret=secret)
    try:
        place: Place = file
        evidence: Place = file
        if settings.database_url is not None:
            steps = await steps_of(file)
            place = server = await open_server(settings, secret, file)
            evidence = _server(settings, secret, partial(adopt, found=[], steps=steps), of="evidence")
            await _go_by(server, clock, events)
    except ConfigurationError:
        await file.close()
        raise
    keys = SqlKeys(place)
    ring = await KeyRing.open(keys, bulletin=bulletin, clock=clock, on_event=events.note)
    accounts = AccountKeeper(file, node=node, clock=clock, events=events)
    await accounts.open()
    return State(keys, SqlAudit(place), ring, secret, file, place, evidence, accounts, node)


async def _go_by(server: "StateServer", clock: SteadyClock, events: Events) -> None:
    """One clock for all nodes: when a key, a lease, a day of a budget or an answer ends is the same moment on each of them."""
    if server.is_open:  # else it is away, and who starts waits for it no longer
        with suppress(StoreDown):
            before, theirs, after = clock(), await server.moment(), clock()
            if max(before - theirs, theirs - after) > MAY_DIFFER:
                ahead = theirs - (before + after) / 2
                clock.put_forward(ahead)
                events.note("database_clock_differs", seconds=round(abs(ahead), 1))


async def open_server(settings: Settings, secret: bytes, file: StateFile) -> "StateServer":
    """Where nodes keep keys together, which those of our own file join; `ConfigurationError` where they can't."""
    return await _server(settings, secret, partial(adopt, found=await keys_of(file)), of="keys").reached()


def _server(
    settings: Settings, secret: bytes, welcome: Callable[[Statements], None], *, of: Literal["keys", "evidence"]
) -> "StateServer":
    try:
        from sentinel_gateway.stores._state_server import StateServer  # noqa: PLC0415 - who has no PostgreSQL may lack the package
    except ModuleNotFoundError as exc:
        raise ConfigurationError([("database_url", lacks_postgres(exc))]) from exc
    assert settings.database_url is not None  # noqa: S101 - for the types' sake
    url = settings.database_url.get_secret_value()
    return StateServer(url, secret=secret, prepare=partial(bring_up_to_date, settings.data_dir, url), welcome=welcome, of=of)


def open_evidence(state: State, tiers: Tiers, embedder: Embedder, clock: Clock, events: Events, *, prices: Prices) -> Evidence:
    """What is known of answers to reworded questions, beside the keys."""
    from sentinel_gateway.core.confidence.learner import VERSION  # noqa: PLC0415 - numpy
    from sentinel_gateway.pipeline.calibration import Calibration  # noqa: PLC0415 - as above
    from sentinel_gateway.pipeline.exchange import Exchange  # noqa: PLC0415 - as above

    place, aside, key = state.evidence, OneThread("sentinel-matching"), words_key(state.secret)
    shared = place is not state.file
    log = EvidenceLog(SqlEvidence(place, clock), clock, events, shared=shared)
    naming = Naming(VERSION)
    exchange = Exchange(SqlLessons(place, naming=naming), state.node, clock, events) if shared else None
    learners = SqlLearners(place, naming=naming, shared=shared)
    kept = Kept(log, Calibration(learners, clock, events, key=key, aside=aside, exchange=exchange))
    return Evidence(kept, tiers, embedder, Spending(prices, clock), clock=clock, chance=random.random)


def open_idempotency(settings: Settings) -> IdempotencyStore:
    """Idempotency keys, in a file of their own, opened when the first one comes."""
    return SqliteIdempotency(partial(open_file, settings.data_dir), quota=Quota())


def open_counter(events: Events, *, deadline: float | None = None) -> TokenCounter:
    """Nothing is loaded before there is something to count. `deadline`: other than usual."""
    limits = CounterLimits() if deadline is None else CounterLimits(deadline=deadline)
    return BpeCounter(limits=limits, on_event=events.note)


def open_limits(
    settings: Settings, link: "RedisLink | None", state: State, *, node: str, clock: Clock, events: Events
) -> LimitStore:
    """The buckets and accounts of all nodes, or of this process; they outlive a reload."""
    table, left = state.accounts.table, state.accounts.left
    if link is None:
        restore(table, left)
        return MemoryLimits(clock=clock, accounts=table)
    from sentinel_gateway.stores._redis_member import member  # noqa: PLC0415 - who has no Redis may lack the package
    from sentinel_gateway.stores._shared_accounts import SharedAccounts  # noqa: PLC0415
    from sentinel_gateway.stores.redis_limits import SharedLimits  # noqa: PLC0415

    who, accounts = member(state.secret, node), SharedAccounts(clock, table, left)
    return SharedLimits(link, member=who, replicas=settings.replicas, accounts=accounts, events=events)


def open_bulletin(link: "RedisLink | None", secret: bytes, node: str, events: Events) -> Bulletin:
    """What this node tells all others, where there may be any."""
    if link is None:
        return LoneBulletin()
    from sentinel_gateway.stores._redis_member import member  # noqa: PLC0415 - as above
    from sentinel_gateway.stores.redis_bulletin import RedisBulletin  # noqa: PLC0415

    return RedisBulletin(link, member=member(secret, node), events=events)


async def open_disk(settings: Settings, clock: Clock, events: Events) -> SqliteStore | None:
    """The tier that survives restarts, if it is on."""
    if not settings.cache.disk.enabled:
        return None
    limits = SqliteLimits(max_bytes=settings.cache.disk.bytes, stale=settings.cache.stale_if_error)
    return await SqliteStore.open(settings.data_dir, limits=limits, clock=clock, on_event=events.note)


def open_redis(settings: Settings, purpose: str, clock: Clock, events: Events) -> "RedisLink | None":
    """The way to Redis for one purpose, if there is a Redis; not connected yet."""
    address = settings.redis.address
    if address is None:
        return None
    try:
        from sentinel_gateway.stores._redis import RedisLimits, open_link  # noqa: PLC0415 - who has no Redis may lack the package
    except ModuleNotFoundError as exc:
        fix = f"needs the package {exc.name}, which is not installed: pip install 'sentinel-gateway[redis]'"
        raise ConfigurationError([("redis", fix)]) from exc
    timeout = settings.redis.timeout
    limits = RedisLimits(connections=settings.redis.max_connections, call=timeout, slow=SLOW_SHARE * timeout)
    return open_link(address, name=purpose, clock=clock, events=events, limits=limits)


async def open_shared(link: "RedisLink", secret: bytes, clock: Clock, events: Events, *, stale: float) -> "RedisStore":
    """The tier that nodes share, connected if Redis is there."""
    from sentinel_gateway.stores.redis import RedisStore  # noqa: PLC0415 - as above

    with suppress(StoreDown):
        await link.check()
    return RedisStore(link, secret=secret, clock=clock, on_event=events.note, stale=stale)


def open_flights(link: "RedisLink", secret: bytes, node: str) -> Handover:
    """What nodes tell each other of the calls that they make."""
    from sentinel_gateway.stores.redis_flights import RedisFlights  # noqa: PLC0415 - as above

    return RedisFlights(link, secret=secret, node=node)


async def open_embedder(events: Events, *, deadline: float | None = None) -> "LocalEmbedder":
    """The bundled model. Where its file is absent or damaged, it is down, and has said so. `deadline`: other than usual."""
    return await load_embedder(events.note, deadline)


async def load_embedder(on_event: Callable[..., None], deadline: float | None = None) -> "LocalEmbedder":
    """As `open_embedder`, for who hears by other means than events what is wrong."""
    from sentinel_gateway.embedders.local import LocalLimits  # noqa: PLC0415 - these two load numpy
    from sentinel_gateway.embedders.minilm import open_minilm  # noqa: PLC0415

    limits = LocalLimits() if deadline is None else LocalLimits(deadline=deadline)
    return await open_minilm(limits=limits, on_event=on_event)


def make_records(embedder: "LocalEmbedder", secret: bytes) -> "Records":
    """How questions are written where others could change them."""
    from sentinel_gateway.vectors._records import Records  # noqa: PLC0415 - this loads numpy

    return Records(secret, model=embedder.model, dimension=embedder.dimension)


def open_index(
    settings: Settings,
    records: "Records",
    link: "RedisLink | None",
    clock: Clock,
    events: Events,
    *,
    archive: VectorArchive | None,
) -> VectorIndex:
    """Where questions are found: in Qdrant where there is one, else in Redis, else in this process; still to be prepared."""
    from sentinel_gateway.vectors.memory import IndexLimits, MemoryIndex  # noqa: PLC0415 - numpy

    most = settings.cache.semantic.entries
    if settings.qdrant.url is not None:
        return _open_qdrant(settings, records, clock, events)
    limits = IndexLimits(questions=most)
    local = MemoryIndex(model=records.model, dimension=records.dimension, limits=limits, clock=clock, archive=archive)
    if link is None:
        return local
    from sentinel_gateway.vectors.redis_sets import RedisIndex  # noqa: PLC0415 - who has no Redis may lack the package
    from sentinel_gateway.vectors.shared import SharedIndex  # noqa: PLC0415

    return SharedIndex(RedisIndex(link, records, most=most, clock=clock, events=events), local, events=events)


def _open_qdrant(settings: Settings, records: "Records", clock: Clock, events: Events) -> VectorIndex:
    client = qdrant_client(settings)
    from sentinel_gateway.vectors.qdrant import QdrantIndex, QdrantLimits  # noqa: PLC0415 - who has none may lack the package

    return QdrantIndex(client, records, limits=QdrantLimits(), clock=clock, events=events)


def qdrant_client(settings: Settings) -> "AsyncQdrantClient":
    try:
        from sentinel_gateway.vectors.qdrant import open_client  # noqa: PLC0415 - as above
    except ModuleNotFoundError as exc:
        fix = f"needs the package {exc.name}, which is not installed: pip install 'sentinel-gateway[qdrant]'"
        raise ConfigurationError([("qdrant.url", fix)]) from exc
    key = settings.qdrant.api_key
    return open_client(settings.qdrant.url or "", key.get_secret_value() if key else None)


def make_providers(settings: Settings, http: HttpClient, clock: Clock) -> Iterator[tuple[str, Provider]]:
    """Those that are on, by name; the demo last."""
    yield from real_providers(settings, http)
    if settings.demo:
        yield DEMO, DemoProvider(clock)


def real_providers(settings: Settings, http: HttpClient) -> Iterator[tuple[str, Provider]]:
    for name, provider in settings.providers.items():
        if name != DEMO and provider.enabled:
            yield name, _provider(_provider_config(name, provider), provider, http)


def make_programs(settings: Settings, events: Events) -> DspyPrograms:
    """What answers predictions; nothing is loaded yet."""
    written = settings.programs.items()
    definitions = [Definition(name=name, **one.model_dump(exclude_none=True)) for name, one in written]
    return DspyPrograms(definitions, events.note)


def _provider(config: ProviderConfig, settings: ProviderSettings, http: HttpClient) -> Provider:
    match settings.dialect:
        case "anthropic":
            return TranslatedProvider(config, Anthropic(config), http)
        case "gemini":
            return TranslatedProvider(config, Gemini(config), http)
        case "bedrock":
            return TranslatedProvider(config, Bedrock(config, _signer(settings)), http)
        case _:
            return OpenAIProvider(config, http)


def _signer(settings: ProviderSettings) -> Signer | None:
    if not settings.signs:
        return None
    key, secret, token = (
        value.get_secret_value() if value else ""
        for value in (settings.access_key_id, settings.secret_access_key, settings.session_token)
    )
    return Signer(Credentials(key, secret, token), settings.region or "", time.time)


def _provider_config(name: str, provider: ProviderSettings) -> ProviderConfig:
    return ProviderConfig(
        name=name,
        base_url=provider.base_url,
        headers={header: value.get_secret_value() for header, value in provider.headers.items()},
        query={parameter: value.get_secret_value() for parameter, value in provider.query.items()},
        timeouts=Timeouts(**provider.timeouts.model_dump()),
        key_name=provider.key_name,
    )
