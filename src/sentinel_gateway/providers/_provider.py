"""What every adapter over HTTP is told, and how it reads what is no stream."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from sentinel_gateway.providers._deadlines import Timeouts

OK: Final = 200
LIST_SECONDS: Final = 5.0
"""Nobody waits for a list of models; one that takes longer isn't worth having."""

_SECRET_NAMES: Final = ("auth", "key", "token", "secret")
_MIN_SECRET: Final = 6
"""Shorter values, such as a local server's `none`, would be cut out of ordinary words."""

_decode = msgspec.json.Decoder().decode


class ProviderConfig(msgspec.Struct, frozen=True):
    """One provider. `headers` and `query` are sent as they are, the key in one of them.

    `key_name` is where the key is configured, such as GROQ_API_KEY: messages name it, nothing reads it.
    """

    name: str
    base_url: str
    headers: Mapping[str, str] = {}
    query: Mapping[str, str] = {}
    timeouts: Timeouts = Timeouts()
    key_name: str = ""

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every value that must not be shown: whole headers, and the key within `Bearer <key>`."""
        values = [
            value
            for name, value in [*self.headers.items(), *self.query.items()]
            if any(part in name.lower() for part in _SECRET_NAMES)
        ]
        keys = {part for value in values for part in (value, value.rpartition(" ")[2]) if len(part) >= _MIN_SECRET}
        return tuple(sorted(keys, key=len, reverse=True))


def list_timeouts(timeouts: Timeouts) -> Timeouts:
    """The limits of a call for the list of models."""
    return msgspec.structs.replace(timeouts, first_byte=min(timeouts.first_byte, LIST_SECONDS))


def read_model_names(listing: Any) -> frozenset[str]:
    """The names in a model list as OpenAI (`data[].id`), Together (a bare list), Ollama or Gemini (`models[].name`) write it."""
    items = listing.get("data") or listing.get("models") if isinstance(listing, dict) else listing
    named = (_model_name(item) for item in items) if isinstance(items, list) else ()
    return frozenset(name for name in named if name)


def _model_name(item: Any) -> str:
    name = item.get("id") or item.get("name") if isinstance(item, dict) else item
    return name.removeprefix("models/") if isinstance(name, str) else ""  # Gemini's prefix, which it doesn't ask for


def read_json(body: bytes) -> Any:
    """The decoded body; None if it is not JSON."""
    try:
        return _decode(body)
    except (ValueError, RecursionError):
        return None


def is_json(headers: Mapping[str, str]) -> bool:
    """Is this a whole answer, not a stream?"""
    return headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"
