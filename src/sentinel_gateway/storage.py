"""What a process keeps, opened in order: keys and what else must last, limits, the tiers of the cache."""

import asyncio
from contextlib import AsyncExitStack

import msgspec

from sentinel_gateway.adapters import (
    State,
    open_counter,
    open_disk,
    open_embedder,
    open_idempotency,
    open_index,
    open_limits,
    open_memory,
    open_state,
)
from sentinel_gateway.core.matching import Thresholds
from sentinel_gateway.errors import ConfigurationError
from sentinel_gateway.pipeline.idempotency import Idempotency, IdempotencyLimits
from sentinel_gateway.pipeline.keyring import KeyRing
from sentinel_gateway.pipeline.semantic import Semantic
from sentinel_gateway.pipeline.tiers import Tiers
from sentinel_gateway.ports import Clock, Embedder, Events, LimitStore, TokenCounter
from sentinel_gateway.settings.model import Settings
from sentinel_gateway.settings.network import is_loopback


class Stores(msgspec.Struct, frozen=True):
    """What is kept and found again, opened. `semantic` and its `embedder` are None where reworded questions are not compared."""

    tiers: Tiers
    state: State
    limits: LimitStore
    once: Idempotency
    counter: TokenCounter
    semantic: Semantic | None = None
    embedder: Embedder | None = None


async def open_stores(settings: Settings, clock: Clock, events: Events, closing: AsyncExitStack) -> Stores:
    """The keys and what else must last, limits, and the tiers of the cache as far as they are on."""
    near, near_ttl = open_memory(settings), settings.cache.memory.ttl
    state = await open_state(settings, clock, events)
    closing.push_async_callback(state.close)
    asked_once = open_idempotency(settings)
    closing.push_async_callback(asked_once.close)
    once = Idempotency(asked_once, IdempotencyLimits(), clock)
    closing.push_async_callback(once.close)
    counter = open_counter(events)
    closing.push_async_callback(counter.close)
    limits = open_limits()
    disk = await open_disk(settings, clock, events)
    if disk is not None:
        closing.push_async_callback(disk.close)
    if not settings.cache.semantic.enabled:
        return Stores(Tiers(near, disk, near_ttl=near_ttl, clock=clock), state, limits, once, counter)
    embedder = await open_embedder(events)
    closing.push_async_callback(embedder.close)
    index = open_index(settings, embedder, disk, clock)
    closing.push_async_callback(index.close)
    tiers = Tiers(near, disk, index, near_ttl=near_ttl, clock=clock)
    semantic = Semantic(index, embedder, tiers, thresholds(settings))
    closing.push_async_callback(semantic.close)
    restoring = asyncio.create_task(index.restore())
    closing.callback(restoring.cancel)
    return Stores(tiers, state, limits, once, counter, semantic, embedder)


def thresholds(settings: Settings) -> Thresholds:
    """How near is near enough."""
    semantic = settings.cache.semantic
    return Thresholds(usual=semantic.threshold, least=semantic.min_threshold)


def check_reach(settings: Settings, ring: KeyRing) -> None:
    """Beyond this machine nobody comes in without a key: where there is none yet, or none that can be read, don't start."""
    host = settings.server.host
    if is_loopback(host) or len(ring):
        return
    found, fix = "there is no client key yet", "make one with 'sentinel keys create --name NAME'"
    if ring.why_unread is not None:
        found, fix = f"the client keys can't be read now ({ring.why_unread})", "start again when they can be"
    raise ConfigurationError([("server.host", f"others can reach {host}, and {found}: {fix}, or bind 127.0.0.1")])
