"""What every adapter over HTTP is told, and how it reads what is no stream."""

import asyncio
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final

import msgspec

from sentinel_gateway.providers._connection import Headers
from sentinel_gateway.providers._deadlines import Timeouts
from sentinel_gateway.providers._errors import UpstreamTooLong

OK: Final = 200
LIST_SECONDS: Final = 5.0
"""Nobody waits for a list of models; one that takes longer isn't worth having."""
LIST_BYTES: Final = 4 * 1024 * 1024
MOST_LISTED: Final = 10_000
"""Names of a list that are kept: each is looked at for whoever asks for one that there is not."""
MOST_PARTS: Final = 4_000_000
"""Keys and values of an answer: some 18,000 tokens with `logprobs` and 20 alternatives each (230 for a token). Decoding so many
takes about a second and 300 MB; 32 MiB of empty lists and nothing else would take 700."""
EVENT_PARTS: Final = 100_000
"""Those of an event: 400 tokens with as many alternatives. Decoding and joining so many take up to 30 ms, in which nobody else is
served; 1 MiB of empty objects took 150."""
AT_ONCE: Final = 1024 * 1024
"""Bytes of an answer that are decoded at once: some 30 ms at most. A thread would help nobody with more: all of the process waits
while one decodes."""
PIECE: Final = 64 * 1024
"""Bytes of a longer answer that are decoded before others have their turn."""
DEEP: Final = 8
"""Levels of it that are taken apart; each is looked through as a whole. The tokens of `logprobs` lie in the sixth."""

_SECRET_NAMES: Final = ("auth", "key", "token", "secret")
_MIN_SECRET: Final = 6
"""Shorter values, such as a local server's `none`, would be cut out of ordinary words."""

_SIGNS: Final = b"{[:,"
"""Outside of strings, about as many as there are keys and values. Those within strings count as well: to tell them apart could
cost as much as decoding, and nobody's text has millions."""
_decode = msgspec.json.Decoder().decode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


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
    return some_names(named)


def some_names(named: Iterable[Any]) -> frozenset[str]:
    """Those that are names, up to `MOST_LISTED`."""
    return frozenset(islice((name for name in named if name and isinstance(name, str)), MOST_LISTED))


def _model_name(item: Any) -> str:
    name = item.get("id") or item.get("name") if isinstance(item, dict) else item
    return name.removeprefix("models/") if isinstance(name, str) else ""  # Gemini's prefix, which it doesn't ask for


async def read_json(body: bytes, provider: str) -> Any:
    """A whole answer decoded; None if it is not JSON. Raises `UpstreamTooLong` if it says more than anybody's does."""
    if len(body) <= AT_ONCE:
        return read_event(body)
    if len(body) > MOST_PARTS and sum(map(body.count, _SIGNS)) > MOST_PARTS:
        raise UpstreamTooLong(f"{provider} sent an answer of more than {MOST_PARTS:,} keys and values: ask for less at a time.")
    try:
        return await _Pieces().read(msgspec.Raw(body.strip(b" \t\r\n")), DEEP)
    except (ValueError, RecursionError):
        return None


class _Pieces:
    """Decodes a long text, and lets others have their turn meanwhile."""

    __slots__ = ("_read",)

    def __init__(self) -> None:
        self._read = 0

    async def read(self, text: msgspec.Raw, deep: int) -> Any:
        """The same as all of it decoded at once."""
        begin = bytes(memoryview(text)[:1])
        if len(text) > PIECE and deep and begin == b"{":
            members: dict[str, Any] = _members(text)
            for name, member in members.items():
                members[name] = await self.read(member, deep - 1)  # in its place: both would take twice the memory
            return members
        if len(text) > PIECE and deep and begin == b"[":
            items: list[Any] = _items(text)
            for place, item in enumerate(items):
                items[place] = await self.read(item, deep - 1)
            return items
        self._read += len(text)
        if self._read >= PIECE:
            self._read = 0
            await asyncio.sleep(0)
        return _decode(text)


def read_event(data: bytes) -> Any:
    """One event of a stream decoded; None if it is not JSON. Its bytes are bound enough (`MAX_EVENT_BYTES`)."""
    try:
        return _decode(data)
    except (ValueError, RecursionError):
        return None


def is_json(headers: Headers) -> bool:
    """Is this a whole answer, not a stream?"""
    return headers.get(b"content-type", b"").partition(b";")[0].strip().lower() == b"application/json"
