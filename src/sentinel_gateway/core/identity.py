"""When are two requests the same, and when do they differ in nothing but the wording of a question?

The exact key is everything that can change the answer, and nothing else. The scope is the same without the text of the last user
message: within a scope, and nowhere else, texts are compared by meaning. An unknown field takes part in both, so a provider's
new parameter can never be answered from an entry made without it. The lists of what is left out, and of which spelled-out values
equal absence, are closed (docs/decisions/003).
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec

from sentinel_gateway.core.bound import Bound
from sentinel_gateway.core.chat import Fields
from sentinel_gateway.core.guards import is_foreign

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

SCOPE_VERSION: Final = b"sentinel:scope:v1"
"""As `VERSION`, for scopes."""

NOT_IN_SCOPE: Final = ("seed", "max_tokens", "max_completion_tokens")
"""They don't change what is asked. Whether a stored answer fits the caller's limit is judged when it is found."""

TEMPERATURES: Final = ((0.3, "low"), (0.7, "middle"))
"""Up to so much; above the last it is `high`. No temperature at all is a class of its own."""

WORDS: Final = ("text", "refusal")
"""Types of content that are nothing but words."""

MAX_CHARACTERS: Final = 1024
"""The embedder reads 128 tokens, which are rarely so many characters: longer questions are matched exactly only."""

Unfit = Literal["choices", "logprobs", "media", "last-turn", "long", "language", Bound]
"""Why a request is compared with no other wording; completes `uncacheable-<why>`."""


class Question(msgspec.Struct, frozen=True):
    """What a request asks, and the digest of all else in it that can change the answer: 64 hex digits."""

    scope: str
    text: str


_encode = msgspec.json.Encoder(order="sorted").encode


def exact_key(fields: Fields, *, face: str, targets: Sequence[str], tenant: str, namespace: str) -> str:
    """The key of the exact tiers: 64 hex digits of SHA-256.

    `targets` are the `provider/model` names the request is routed to, in order.
    """
    digest = hashlib.sha256(_preamble(VERSION, face, tenant, namespace, tuple(targets)))
    digest.update(_encode(canonical(fields)))
    return digest.hexdigest()


def question(fields: Fields, *, face: str, targets: Sequence[str], tenant: str, namespace: str) -> Question | Unfit:
    """What is compared by meaning, and within what; or why this request has no such thing. Arguments as for `exact_key`."""
    kept = canonical(fields)
    *earlier, last = kept["messages"]
    text = _spoken(last) if _is_bare(last) else ""
    unfit = _unfit(kept) or unfit_text(text)
    if unfit is not None:
        return unfit
    for name in NOT_IN_SCOPE:
        kept.pop(name, None)
    if "temperature" in kept:
        kept["temperature"] = _temperature_class(kept["temperature"])
    kept["messages"] = [*earlier, last | {"content": None}]
    digest = hashlib.sha256(_preamble(SCOPE_VERSION, face, tenant, namespace, tuple(targets)))
    digest.update(_encode(kept))
    return Question(digest.hexdigest(), text)


@lru_cache(maxsize=1024)
def _preamble(version: bytes, face: str, tenant: str, namespace: str, targets: tuple[str, ...]) -> bytes:
    """All but the body. Each part has its length before it, so that none can be built that runs into its neighbour."""
    parts = [version, *(part.encode() for part in (face, tenant, namespace, *targets))]
    return b"".join(b"%d:%b," % (len(part), part) for part in parts)


def canonical(fields: Fields) -> Fields:
    """The fields that can change the answer, with everything that equals absence gone."""
    kept: Fields = {}
    for name, value in fields.items():
        if value is None or name in LEFT_OUT or (name in SAME_AS_ABSENT and _is_default(name, value)):
            continue
        kept[name] = _plain(value) if type(value) is float else value
    if "max_tokens" in kept:
        limit = kept.pop("max_tokens")
        if kept.setdefault("max_completion_tokens", limit) != limit:
            kept["max_tokens"] = limit
    return kept


def _is_default(name: str, value: Any) -> bool:
    default = SAME_AS_ABSENT[name]
    return bool(value == default) and isinstance(value, bool) == isinstance(default, bool)


def _plain(value: float) -> float:
    """1.0 and 1 are the same number; JSON clients differ in how they spell it."""
    return int(value) if value.is_integer() and abs(value) < EXACT else value


def _temperature_class(temperature: float) -> str:
    return next((name for most, name in TEMPERATURES if temperature <= most), "high")


def _unfit(kept: Fields) -> Unfit | None:
    if "n" in kept:
        return "choices"
    if "logprobs" in kept or "top_logprobs" in kept:
        return "logprobs"
    if "audio" in kept or kept.get("modalities", ["text"]) != ["text"] or not all(map(_is_words, kept["messages"])):
        return "media"
    return None


def _is_words(message: Fields) -> bool:
    content = message.get("content")
    return not isinstance(content, list) or all(part.get("type") in WORDS for part in content)


def last_words(fields: Fields) -> str:
    """What the user says in the last message, in one string; empty if it is none of a user's, or says more than text.

    Members that stand beside a text make it no other text.
    """
    return _spoken(fields["messages"][-1])


def _spoken(message: Fields) -> str:
    if message.get("role") != "user":
        return ""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = [part.get("text") if part.get("type") == "text" else None for part in content]
    said = [text for text in texts if isinstance(text, str) and text]
    return "\n".join(said) if len(said) == len(texts) else ""


def _is_bare(message: Fields) -> bool:
    """Is it nothing but its texts? Another member of a part is no part of what is compared, and would be of no scope either."""
    content = message.get("content")
    return not isinstance(content, list) or all(part.keys() == {"type", "text"} for part in content)


def unfit_text(text: str) -> Unfit | None:
    """Why this text is compared with no other; None if it may be."""
    if not text.strip():
        return "last-turn"
    if len(text) > MAX_CHARACTERS:
        return "long"
    return "language" if is_foreign(text) else None
