"""Settings to adapters: the only place that knows which class does a job, and what each is told of the settings.

Whatever is heavy and may be switched off is imported when it is asked for.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from sentinel_gateway import __version__
from sentinel_gateway.core.idempotency import Quota
from sentinel_gateway.counters.bpe import BpeCounter, CounterLimits
from sentinel_gateway.errors import EmbedderDown, UpstreamError
from sentinel_gateway.pipeline.keyring import KeyRing
from sentinel_gateway.ports import (
    AuditLog,
    Clock,
    Events,
    IdempotencyStore,
    KeyStore,
    LimitStore,
    NearStore,
    Provider,
    TokenCounter,
    VectorArchive,
)
from sentinel_gateway.providers._deadlines import Timeouts
from sentinel_gateway.providers._http import HttpClient
from sentinel_gateway.providers.demo import NAME as DEMO
from sentinel_gateway.providers.demo import DemoProvider
from sentinel_gateway.providers.openai import OpenAIProvider, ProviderConfig
from sentinel_gateway.providers.prices import price_of
from sentinel_gateway.settings.model import ProviderSettings, Settings
from sentinel_gateway.stores._state_file import StateFile
from sentinel_gateway.stores.audit import SqliteAudit
from sentinel_gateway.stores.idempotency import SqliteIdempotency, open_file
from sentinel_gateway.stores.keys import SqliteKeys
from sentinel_gateway.stores.memory import MemoryStore
from sentinel_gateway.stores.memory_limits import MemoryLimits
from sentinel_gateway.stores.secret import gateway_secret
from sentinel_gateway.stores.sqlite import SqliteLimits, SqliteStore
from sentinel_gateway.telemetry.lines import json_line, text_line
from sentinel_gateway.telemetry.logs import LogWriter

if TYPE_CHECKING:
    from sentinel_gateway.embedders.local import LocalEmbedder
    from sentinel_gateway.vectors.memory import MemoryIndex

STDOUT: Final = 1


def open_log(settings: Settings, clock: Clock) -> LogWriter:
    """The log on standard output."""
    line = partial(text_line, price=price_of) if settings.logging.format == "text" else json_line
    level = settings.logging.level
    return LogWriter(STDOUT, line, level="warning" if level == "warn" else level, clock=clock)


def open_memory(settings: Settings) -> NearStore:
    """The near tier."""
    memory = settings.cache.memory
    return MemoryStore(max_entries=memory.entries, max_bytes=memory.bytes)


class State(msgspec.Struct, frozen=True):
    """What must not be lost, and the table of keys that follows it. `secret` is what keys are hashed with."""

    keys: KeyStore
    audit: AuditLog
    ring: KeyRing
    secret: bytes
    file: StateFile

    async def close(self) -> None:
        await self.ring.close()
        await self.file.close()


async def open_state(settings: Settings, clock: Clock, events: Events) -> State:
    """Client keys and the audit log; raises `ConfigurationError` where they can't be kept."""
    secret = gateway_secret(settings.data_dir, settings.secret.get_secret_value() if settings.secret else None)
    file = await StateFile.open(settings.data_dir, secret=secret)
    keys = SqliteKeys(file)
    ring = await KeyRing.open(keys, clock=clock, on_event=events.note)
    return State(keys, SqliteAudit(file), ring, secret, file)


def open_idempotency(settings: Settings) -> IdempotencyStore:
    """Idempotency keys, in a file of their own, opened when the first one comes."""
    return SqliteIdempotency(partial(open_file, settings.data_dir), quota=Quota())


def open_counter(events: Events) -> TokenCounter:
    """Nothing is loaded before there is something to count."""
    return BpeCounter(limits=CounterLimits(), on_event=events.note)


def open_limits() -> LimitStore:
    """The buckets of this process; they outlive a reload."""
    return MemoryLimits(clock=time.monotonic)


async def open_disk(settings: Settings, clock: Clock, events: Events) -> SqliteStore | None:
    """The tier that survives restarts, if it is on."""
    if not settings.cache.disk.enabled:
        return None
    limits = SqliteLimits(max_bytes=settings.cache.disk.bytes)
    return await SqliteStore.open(settings.data_dir, limits=limits, clock=clock, on_event=events.note)


async def open_embedder(events: Events) -> "LocalEmbedder":
    """The bundled model. Where its file is absent or damaged, it is down, and has said so."""
    return await _open_minilm(events.note)


async def _open_minilm(on_event: Callable[..., None]) -> "LocalEmbedder":
    from sentinel_gateway.embedders.local import LocalLimits  # noqa: PLC0415 - these two load numpy
    from sentinel_gateway.embedders.minilm import open_minilm  # noqa: PLC0415

    return await open_minilm(limits=LocalLimits(), on_event=on_event)


def open_index(settings: Settings, embedder: "LocalEmbedder", archive: VectorArchive | None, clock: Clock) -> "MemoryIndex":
    """The questions of this process; still to be restored."""
    from sentinel_gateway.vectors.memory import IndexLimits, MemoryIndex  # noqa: PLC0415 - numpy

    limits = IndexLimits(questions=settings.cache.semantic.entries)
    return MemoryIndex(model=embedder.model, dimension=embedder.dimension, limits=limits, clock=clock, archive=archive)


def make_providers(settings: Settings, http: HttpClient, clock: Clock) -> Iterator[tuple[str, Provider]]:
    """Those that are on, by name; the demo last."""
    yield from _real_providers(settings, http)
    if settings.demo:
        yield DEMO, DemoProvider(clock)


def _real_providers(settings: Settings, http: HttpClient) -> Iterator[tuple[str, OpenAIProvider]]:
    for name, provider in settings.providers.items():
        if name != DEMO and provider.enabled:
            yield name, OpenAIProvider(_provider_config(name, provider), http)


def _provider_config(name: str, provider: ProviderSettings) -> ProviderConfig:
    return ProviderConfig(
        name=name,
        base_url=provider.base_url,
        headers={header: value.get_secret_value() for header, value in provider.headers.items()},
        query=provider.query,
        timeouts=Timeouts(**provider.timeouts.model_dump()),
        key_name=provider.key_name,
    )


class Probe(msgspec.Struct, frozen=True):
    """What `sentinel doctor` learnt of one provider, or of the embedding model."""

    name: str
    ok: bool
    detail: str


async def probe_providers(settings: Settings) -> list[Probe]:
    """Ask each enabled provider for its models, all at once: it costs nothing there, and tells whether the key is good."""
    async with HttpClient(node="doctor", version=__version__) as http:
        return list(await asyncio.gather(*(_probe(provider) for _, provider in _real_providers(settings, http))))


async def _probe(provider: Provider) -> Probe:
    try:
        models = await provider.list_models()
    except UpstreamError as exc:
        return Probe(provider.name, ok=False, detail=exc.message)
    return Probe(provider.name, ok=True, detail=f"{len(models)} models")


async def probe_embedder() -> Probe:
    """Load the model and have it read a text."""
    said: list[str] = []
    embedder = await _open_minilm(lambda _event, reason="": said.append(reason))
    try:
        await embedder.embed(["Hello"])
    except EmbedderDown as exc:
        detail = said[0] if said else str(exc)
        return Probe(
            "embedding model", ok=False, detail=f"{detail}: install Sentinel anew, or set cache.semantic.enabled to false"
        )
    finally:
        await embedder.close()
    return Probe("embedding model", ok=True, detail=embedder.model)
