"""When are two requests the same? The exact key: everything that can change the answer, and nothing else.

An unknown field takes part, so a provider's new parameter can never be answered from an entry made without it.
The list of what is left out, and of which spelled-out values equal absence, is closed (docs/decisions/003).
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
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

EXACT: Final = 2**53
"""Up to here a float holds every whole number."""

_encode = msgspec.json.Encoder(order="sorted").encode


def exact_key(fields: Fields, *, face: str, targets: Sequence[str], tenant: str, namespace: str) -> str:
    """The key of the exact tiers: 64 hex digits of SHA-256.

    `targets` are the `provider/model` names the request is routed to, in order.
    """
    digest = hashlib.sha256(_preamble(face, tenant, namespace, tuple(targets)))
    digest.update(_encode(canonical(fields)))
    return digest.hexdigest()


@lru_cache(maxsize=1024)
def _preamble(face: str, tenant: str, namespace: str, targets: tuple[str, ...]) -> bytes:
    """All but the body. Each part has its length before it, so that none can be built that runs into its neighbour."""
    parts = [VERSION, *(part.encode() for part in (face, tenant, namespace, *targets))]
    return b"".join(b"%d:%b," % (len(part), part) for part in parts)


def canonical(fields: Fields) -> Fields:
    """The fields that can change the answer, with everything that equals absence gone."""
    kept: Fields = {}
    for name, value in fields.items():
        if value is None or name in LEFT_OUT or (name in SAME_AS_ABSENT and _is_default(name, value)):
            continue
        kept[name] = _plain(value) if type(value) is float else value
    limit = kept.pop("max_tokens", None)
    if limit is not None and kept.setdefault("max_completion_tokens", limit) != limit:
        kept["max_tokens"] = limit
    return kept


def _is_default(name: str, value: Any) -> bool:
    default = SAME_AS_ABSENT[name]
    return bool(value == default) and isinstance(value, bool) == isinstance(default, bool)


def _plain(value: float) -> float:
    """1.0 and 1 are the same number; JSON clients differ in how they spell it."""
    return int(value) if value.is_integer() and abs(value) < EXACT else value
