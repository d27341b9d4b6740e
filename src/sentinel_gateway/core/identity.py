"""When are two requests the same? The exact key: everything that can change the answer, and nothing else.

An unknown field takes part, so a provider's new parameter can never be answered from an entry made without it.
The list of what is left out, and of which spelled-out values equal absence, is closed (docs/decisions/003).
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from sentinel_gateway.core.chat import Fields

VERSION: Final = b"sentinel:cache:v1"
"""Changes whenever the same request would get another key: old entries are then never read again."""

LEFT_OUT: Final = frozenset(
    {
        "model",  # the targets stand in its place: an alias and what it points to are the same model
        "user",
        "metadata",
        "store",
        "stream",
        "stream_options",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
    }
)

SAME_AS_ABSENT: Final[dict[str, Any]] = {
    "n": 1,
    "logprobs": False,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "logit_bias": {},
    "tools": [],
}

_encode = msgspec.json.Encoder(order="sorted").encode


def exact_key(fields: Fields, *, face: str, targets: Sequence[str], tenant: str, namespace: str) -> str:
    """The key of the exact tiers: 64 hex digits of SHA-256.

    `targets` are the `provider/model` names the request is routed to, in order. Each part is written with its length before
    it, so no tenant, namespace or model name can be built that runs into its neighbour.
    """
    parts = [VERSION, face.encode(), tenant.encode(), namespace.encode(), *(target.encode() for target in targets)]
    digest = hashlib.sha256(b"".join(b"%d:%b," % (len(part), part) for part in parts))
    digest.update(_encode(canonical(fields)))
    return digest.hexdigest()


def canonical(fields: Fields) -> Fields:
    """The fields that can change the answer, with everything that equals absence gone."""
    kept = {name: _plain(value) for name, value in fields.items() if name not in LEFT_OUT and not _absent(name, value)}
    limit = kept.pop("max_tokens", None)
    if limit is not None and kept.setdefault("max_completion_tokens", limit) != limit:
        kept["max_tokens"] = limit
    return kept


def _absent(name: str, value: Any) -> bool:
    if value is None:
        return True
    default = SAME_AS_ABSENT.get(name)
    return default is not None and value == default and (isinstance(value, bool) == isinstance(default, bool))


def _plain(value: Any) -> Any:
    """1.0 and 1 are the same number; JSON clients differ in how they spell it."""
    if type(value) is float and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value
