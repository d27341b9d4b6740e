"""What a reload can't change, because it belongs to the process."""

from collections.abc import Iterator
from operator import attrgetter
from typing import Final

from sentinel_gateway.settings.model import Location, Settings

SEMANTIC: Final = "cache.semantic.enabled"
"""Off is off at once; on needs the model, which is loaded at the start."""
BY_RESTART: Final = (
    "server.host",
    "server.port",
    "data_dir",
    "admin_key",
    "secret",
    "redis",
    "qdrant",
    "ledger",
    "database_url",
    "monitoring",
    "replicas",
    "logging",
    "tracing",
    "cache.stale_if_error",
    "cache.memory.entries",
    "cache.memory.bytes",
    "cache.disk",
    SEMANTIC,
    "cache.semantic.entries",
    "server.header_timeout",
    "server.body_timeout",
    "server.write_timeout",
    "server.keep_alive",
    "server.max_connections",
    "server.drain_notice",
    "server.drain_timeout",
)
"""Settings, and rooms of them, that belong to the process: to its socket, its log, its stores."""
_BY_PLACE: Final[dict[Location, str]] = {tuple(name.split(".")): name for name in BY_RESTART}


def room_by_restart(place: Location) -> str | None:
    """Which of `BY_RESTART` this setting is, or is in; None if a reload changes it."""
    return _BY_PLACE.get(place[:1]) or _BY_PLACE.get(place[:2]) or _BY_PLACE.get(place[:3])


def changed(running: Settings, wanted: Settings) -> Iterator[str]:
    """Those of `BY_RESTART` that have changed without effect."""
    for name in BY_RESTART:
        old, new = (attrgetter(name)(settings) for settings in (running, wanted))
        if old != new and not (name == SEMANTIC and not new):
            yield name


def needing_restart(running: Settings, wanted: Settings) -> Iterator[str]:
    """A sentence for each of them."""
    return (f"{name} has changed and takes effect at the next start" for name in changed(running, wanted))
