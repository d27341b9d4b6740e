"""What a reload can't change, because it belongs to the process."""

from collections.abc import Iterator
from typing import Final

from sentinel_gateway.settings.model import Settings

SERVER_LIMITS: Final = (
    "header_timeout",
    "body_timeout",
    "write_timeout",
    "keep_alive",
    "max_connections",
    "drain_notice",
    "drain_timeout",
)
"""Settings of `server` that belong to the listening socket."""


def needing_restart(running: Settings, wanted: Settings) -> Iterator[str]:
    """A sentence for each setting that has changed without effect."""
    pairs = {
        "server.host": (running.server.host, wanted.server.host),
        "server.port": (running.server.port, wanted.server.port),
        "data_dir": (running.data_dir, wanted.data_dir),
        "admin_key": (running.admin_key, wanted.admin_key),
        "secret": (running.secret, wanted.secret),
        "redis": (running.redis, wanted.redis),
        "qdrant": (running.qdrant, wanted.qdrant),
        "ledger": (running.ledger, wanted.ledger),
        "database_url": (running.database_url, wanted.database_url),
        "monitoring": (running.monitoring, wanted.monitoring),
        "replicas": (running.replicas, wanted.replicas),
        "logging": (running.logging, wanted.logging),
        "tracing": (running.tracing, wanted.tracing),
        "cache.stale_if_error": (running.cache.stale_if_error, wanted.cache.stale_if_error),
        "cache.memory.entries": (running.cache.memory.entries, wanted.cache.memory.entries),
        "cache.memory.bytes": (running.cache.memory.bytes, wanted.cache.memory.bytes),
        "cache.disk": (running.cache.disk, wanted.cache.disk),
        # Off is off at once; on needs the model, which is loaded at the start.
        "cache.semantic.enabled": (
            running.cache.semantic.enabled,
            running.cache.semantic.enabled or wanted.cache.semantic.enabled,
        ),
        "cache.semantic.entries": (running.cache.semantic.entries, wanted.cache.semantic.entries),
        **{f"server.{name}": (getattr(running.server, name), getattr(wanted.server, name)) for name in SERVER_LIMITS},
    }
    return (f"{name} has changed and takes effect at the next start" for name, (old, new) in pairs.items() if old != new)
