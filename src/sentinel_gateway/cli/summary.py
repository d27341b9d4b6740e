"""What a configuration turns on, for `sentinel check`."""

from collections.abc import Iterator
from typing import Any

from sentinel_gateway.settings.example import as_text
from sentinel_gateway.settings.load import Loaded
from sentinel_gateway.settings.model import Settings
from sentinel_gateway.settings.redis_url import without_password


def summarize(loaded: Loaded) -> dict[str, Any]:
    """What is on, without any secret."""
    settings = loaded.settings
    return {
        "files": list(loaded.files),
        "listen": f"http://{_bracketed(settings.server.host)}:{settings.server.port}",
        "providers": _providers(settings),
        "models": {name: list(model.names) for name, model in settings.models.items()},
        "cache": _cache(settings),
        "data_dir": str(settings.data_dir),
        "notes": list(loaded.notes),
    }


def describe(summary: dict[str, Any]) -> Iterator[str]:
    """The summary for people, line by line."""
    yield _line("files", ", ".join(summary["files"]) or "none: environment and defaults")
    yield _line("listens on", summary["listen"])
    yield from _lines("providers", [f"{name:<12} {where}" for name, where in summary["providers"].items()])
    yield from _lines("models", [f"{name} -> {', '.join(targets)}" for name, targets in summary["models"].items()])
    yield from _lines("cache", [f"{tier:<12} {what}" for tier, what in summary["cache"].items()])
    yield _line("state", summary["data_dir"])
    yield from _lines("notes", summary["notes"])
    yield "The configuration holds."


def _providers(settings: Settings) -> dict[str, str]:
    on = {name: provider.base_url for name, provider in settings.providers.items() if provider.enabled and name != "demo"}
    return on | ({"demo": "built in"} if settings.demo else {})


def _cache(settings: Settings) -> dict[str, str]:
    memory, disk, semantic = settings.cache.memory, settings.cache.disk, settings.cache.semantic
    tiers = {"memory": f"{memory.entries} answers, {as_text(memory.bytes)}, {memory.ttl:g} s each at most"}
    if settings.redis.address is not None:
        tiers["redis"] = without_password(settings.redis.address)
    elif disk.enabled:
        tiers["disk"] = as_text(disk.bytes)
    if semantic.enabled:
        tiers["semantic"] = (
            f"similarity {semantic.threshold:g}, {semantic.min_threshold:g} at least, {semantic.entries} questions"
        )
    return tiers


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _line(label: str, text: str) -> str:
    return f"{label:<12}{text}"


def _lines(label: str, texts: list[str]) -> Iterator[str]:
    for index, text in enumerate(texts):
        yield _line("" if index else label, text)
