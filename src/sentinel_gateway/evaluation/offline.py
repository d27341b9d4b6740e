"""The gateway's own cache and semantic tier, wired as its path has them, without a network, a disk or a provider."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

import msgspec

from sentinel_gateway import rules
from sentinel_gateway.adapters import open_embedder
from sentinel_gateway.core.caching import YEAR
from sentinel_gateway.errors import ConfigurationError
from sentinel_gateway.pipeline.semantic import Semantic
from sentinel_gateway.pipeline.tiers import Tiers
from sentinel_gateway.ports import NearStore
from sentinel_gateway.settings.model import Settings
from sentinel_gateway.stores.lone_bulletin import LoneBulletin
from sentinel_gateway.stores.memory import MemoryStore
from sentinel_gateway.telemetry.events import Unheard
from sentinel_gateway.vectors.memory import IndexLimits, MemoryIndex

if TYPE_CHECKING:
    from sentinel_gateway.embedders.local import LocalEmbedder

PATIENCE: Final = 60.0
"""Seconds that a vector, a search or a count may take: nobody waits for an answer here."""
STORE_BYTES: Final = 512 << 20
STORE_ENTRIES: Final = 1_000_000
"""The farther tier is stood in for by memory, which has to end somewhere."""


class HandClock:
    """A `Clock` that stands still until it is moved. It never goes back."""

    def __init__(self, now: float = 0.0) -> None:
        self._now = now

    def __call__(self) -> float:
        return self._now

    def move(self, now: float) -> None:
        """To this time, unless that is past."""
        self._now = max(self._now, now)

    def __repr__(self) -> str:
        return f"<HandClock {self._now}>"


class Offline(msgspec.Struct, frozen=True):
    """What is kept and found here, by the rules of `settings`."""

    settings: Settings
    clock: HandClock
    near: NearStore
    tiers: Tiers
    embedder: "LocalEmbedder"
    semantic: Semantic


@asynccontextmanager
async def open_model() -> AsyncIterator["LocalEmbedder"]:
    """The embedding model of the gateway; raises `ConfigurationError` if it is not there."""
    embedder = await open_embedder(Unheard(), deadline=PATIENCE)
    try:
        if not embedder.works:
            raise ConfigurationError([("embedding model", "can't be loaded: 'sentinel doctor' tells why")])
        yield embedder
    finally:
        await embedder.close()


@asynccontextmanager
async def open_offline(settings: Settings, embedder: "LocalEmbedder") -> AsyncIterator[Offline]:
    """All of it, empty."""
    clock = HandClock()
    async with AsyncExitStack() as closing:
        limits = IndexLimits(questions=settings.cache.semantic.entries, deadline=PATIENCE)
        index = MemoryIndex(model=embedder.model, dimension=embedder.dimension, limits=limits, clock=clock)
        closing.push_async_callback(index.close)
        near, near_ttl = _store(settings)
        tiers = Tiers(near, None, index, bulletin=LoneBulletin(), near_ttl=near_ttl, clock=clock)
        closing.push_async_callback(tiers.close)
        semantic = Semantic(index, embedder, tiers, rules.thresholds(settings), events=Unheard())
        closing.push_async_callback(semantic.close)
        yield Offline(settings, clock, near, tiers, embedder, semantic)


def _store(settings: Settings) -> tuple[NearStore, float]:
    """Memory alone, as it is set, or room for what the disk or Redis would hold; and how long it keeps an answer at most."""
    memory, disk = settings.cache.memory, settings.cache.disk
    if settings.redis.address is None and not disk.enabled:
        return MemoryStore(max_entries=memory.entries, max_bytes=memory.bytes), memory.ttl
    most = STORE_BYTES if settings.redis.address is not None else min(disk.bytes, STORE_BYTES)
    return MemoryStore(max_entries=STORE_ENTRIES, max_bytes=most), YEAR
