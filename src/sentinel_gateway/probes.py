"""What `sentinel doctor` asks: providers, databases, Redis, Qdrant and the embedding model, each by the gateway's own adapter."""

import asyncio
import time
from typing import Any

import msgspec

from sentinel_gateway import __version__
from sentinel_gateway.adapters import MAY_DIFFER, load_embedder, open_redis, qdrant_client, real_providers
from sentinel_gateway.errors import ConfigurationError, EmbedderDown, StoreDown, UpstreamError
from sentinel_gateway.ledger.books import lacks_postgres
from sentinel_gateway.ports.upstream import Provider
from sentinel_gateway.providers._http import HttpClient
from sentinel_gateway.settings.model import Settings
from sentinel_gateway.telemetry.events import Unheard


class Probe(msgspec.Struct, frozen=True):
    """What was learnt of one of them."""

    name: str
    ok: bool
    detail: str


async def probe_providers(settings: Settings) -> list[Probe]:
    """Ask each enabled provider for its models, all at once: it costs nothing there, and tells whether the key is good."""
    async with HttpClient(via="sentinel-doctor", version=__version__) as http:
        return list(await asyncio.gather(*(_probe(provider) for _, provider in real_providers(settings, http))))


async def _probe(provider: Provider) -> Probe:
    try:
        models = await provider.list_models()
    except UpstreamError as exc:
        return Probe(provider.name, ok=False, detail=exc.message)
    return Probe(provider.name, ok=True, detail=f"{len(models)} models")


async def probe_redis(settings: Settings) -> list[Probe]:
    """Ask Redis, if there is one: whether it answers, and what time it has."""
    try:
        link = open_redis(settings, "doctor", time.monotonic, Unheard())
    except ConfigurationError as exc:
        return [Probe("redis", ok=False, detail=exc.faults[0][1])]
    if link is None:
        return []
    try:
        await link.check()
        before = time.time()
        told: Any = await link.call(lambda client: client.time())
    except StoreDown as exc:
        return [Probe("redis", ok=False, detail=f"{link.address} does not answer as it should ({exc})")]
    finally:
        await link.close()
    answers = Probe("redis", ok=True, detail=link.address)
    if not isinstance(told, tuple):  # a cluster has several clocks
        return [answers]
    seconds, micros = told
    return [answers, check_clock("Redis'", before, seconds + micros / 1e6, time.time())]


def check_clock(whose: str, before: float, theirs: float, after: float) -> Probe:
    """Whether it is the time of ours: theirs was read between two moments here, all in Unix seconds."""
    apart = max(before - theirs, theirs - after, 0.0)
    if apart > MAY_DIFFER:
        return Probe("clock", ok=False, detail=f"{apart:.1f} s from {whose}, {MAY_DIFFER:g} at most: have NTP keep both")
    return Probe("clock", ok=True, detail=f"with {whose}")


def probe_database(settings: Settings) -> list[Probe]:
    """Ask PostgreSQL, if there is one: what it is, and what time it has."""
    if settings.database_url is None:
        return []
    try:
        from sentinel_gateway.ledger.look import look  # noqa: PLC0415 - who has no PostgreSQL may lack the package
    except ModuleNotFoundError as exc:
        return [Probe("database", ok=False, detail=lacks_postgres(exc))]
    ok, detail, moments = look(settings.database_url.get_secret_value())
    asked = Probe("database", ok=ok, detail=detail)
    return [asked] if moments is None else [asked, check_clock("the database's", *moments)]


async def probe_qdrant(settings: Settings) -> list[Probe]:
    """Ask Qdrant, if there is one."""
    if settings.qdrant.url is None:
        return []
    try:
        client = qdrant_client(settings)
    except ConfigurationError as exc:
        return [Probe("qdrant", ok=False, detail=exc.faults[0][1])]
    from sentinel_gateway.vectors.qdrant import fault_of  # noqa: PLC0415 - as above

    fault = await fault_of(client)
    await client.close()
    url = settings.qdrant.url
    return [Probe("qdrant", ok=fault is None, detail=url if fault is None else f"{url} does not answer as it should ({fault})")]


async def probe_embedder() -> Probe:
    """Load the model and have it read a text."""
    said: list[str] = []
    embedder = await load_embedder(lambda _event, reason="": said.append(reason))
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
