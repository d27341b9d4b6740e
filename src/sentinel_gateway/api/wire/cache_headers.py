"""The cache in headers: what callers ask for (RFC 9111 and contract section 4), what they are told (RFC 9211). Pure.

What they ask of streams (`x-recovery`) is read with it.
"""

import math
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final

from sentinel_gateway.api.asgi import Header, Lines
from sentinel_gateway.core.caching import ANY_AGE, YEAR, Hit, Miss, NotStorable, Step, Store, Tier, Why, Wish
from sentinel_gateway.core.explanation import Explanation
from sentinel_gateway.errors import InvalidHeader
from sentinel_gateway.pipeline.journey import Journey

MAX_TAGS: Final = 16
MAX_DIRECTIVES: Final = 64
"""In Cache-Control: a head has room for thousands, each of which would be looked at."""
_NAME: Final = re.compile(r"[\w.:/-]{1,128}", re.ASCII)
_UNPRINTABLE: Final = re.compile(r"[^ -~]")
_SECONDS: Final = re.compile(r"[0-9]{1,10}")
_SIMILARITY: Final = re.compile(r"0(\.[0-9]{1,6})?|1(\.0{1,6})?")
STATUSES: Final = 256
"""Misses whose headers are remembered: most are told in the same words."""
_TRUTHS: Final = {"true": True, "1": True, "false": False, "0": False}
_RECOVERIES: Final = {"buffered": True, "none": False}

ASKING: Final = frozenset(
    {
        b"x-bypass-cache",
        b"x-cache-ttl",
        b"x-cache-namespace",
        b"x-cache-tags",
        b"x-similarity-threshold",
        b"x-cache-explain",
        b"cache-control",
        b"x-recovery",
    }
)


def read_wish(headers: Mapping[bytes, bytes]) -> Wish:
    """What the caller asks for; raises `InvalidHeader` naming the header and what would be right."""
    directives = _directives(headers)
    bypass = _truth(headers, b"x-bypass-cache")
    return Wish(
        read=not (bypass or "no-cache" in directives),
        write=not (bypass or "no-store" in directives),
        bypass=bypass,
        only_if_cached="only-if-cached" in directives,
        max_age=_age(directives, "max-age"),
        min_fresh=_age(directives, "min-fresh"),
        max_stale=ANY_AGE if directives.get("max-stale") == "" else _age(directives, "max-stale"),
        stale_if_error=_age(directives, "stale-if-error"),
        ttl=_ttl(headers),
        namespace=_name(headers, b"x-cache-namespace"),
        tags=_tags(headers),
        explain=_truth(headers, b"x-cache-explain"),
        similarity_threshold=_threshold(headers),
        buffered=_buffered(headers),
    )


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = headers.get(name)
    return None if value is None else value.decode("latin-1").strip()


def _bad(name: bytes | str, expected: str) -> InvalidHeader:
    label = name if isinstance(name, str) else name.decode()
    return InvalidHeader(f"The header '{label}' is malformed: expected {expected}.", param=label)


def _truth(headers: Mapping[bytes, bytes], name: bytes) -> bool:
    text = _text(headers, name)
    if text is None:
        return False
    if text.lower() not in _TRUTHS:
        raise _bad(name, "true or false")
    return _TRUTHS[text.lower()]


def _ttl(headers: Mapping[bytes, bytes]) -> float | None:
    text = _text(headers, b"x-cache-ttl")
    if text is None:
        return None
    if not _SECONDS.fullmatch(text) or int(text) > YEAR:
        raise _bad(b"x-cache-ttl", f"whole seconds from 0 (don't store) to {int(YEAR)} (a year)")
    return float(text)


def _name(headers: Mapping[bytes, bytes], name: bytes) -> str:
    text = _text(headers, name)
    if text is None:
        return ""
    if not _NAME.fullmatch(text):
        raise _bad(name, "1 to 128 letters, digits or any of _ . : / -")
    return text


def _tags(headers: Mapping[bytes, bytes]) -> tuple[str, ...]:
    text = _text(headers, b"x-cache-tags")
    if text is None:
        return ()
    tags = [tag.strip() for tag in text.split(",")]
    if len(tags) > MAX_TAGS or not all(_NAME.fullmatch(tag) for tag in tags):
        raise _bad(
            b"x-cache-tags", f"at most {MAX_TAGS} tags, comma separated, each of 1 to 128 letters, digits or any of _ . : / -"
        )
    return tuple(dict.fromkeys(tags))


def _threshold(headers: Mapping[bytes, bytes]) -> float | None:
    text = _text(headers, b"x-similarity-threshold")
    if text is None:
        return None
    if not _SIMILARITY.fullmatch(text):
        raise _bad(b"x-similarity-threshold", "a number from 0 to 1, such as 0.95")
    return float(text)


def _buffered(headers: Mapping[bytes, bytes]) -> bool:
    text = _text(headers, b"x-recovery")
    if text is None:
        return False
    if text.lower() not in _RECOVERIES:
        raise _bad(b"x-recovery", "buffered (a stream comes once its end is proven) or none")
    return _RECOVERIES[text.lower()]


def _directives(headers: Mapping[bytes, bytes]) -> dict[str, str]:
    """Cache-Control's directives; unknown ones are left alone, as RFC 9111 asks."""
    text = _text(headers, b"cache-control")
    if not text:
        return {}
    if text.count(",") >= MAX_DIRECTIVES:
        raise _bad("Cache-Control", f"at most {MAX_DIRECTIVES} directives, comma separated")
    pairs = (directive.strip().partition("=") for directive in text.split(","))
    return {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}


def _age(directives: Mapping[str, str], name: str) -> float | None:
    text = directives.get(name)
    if text is None:
        return None
    if not _SECONDS.fullmatch(text):
        raise _bad("Cache-Control", f"{name}=SECONDS in whole seconds")
    return float(text)


PRIVATE: Final = Lines(b"cache-control: private, no-store\r\nvary: Accept-Encoding, Authorization\r\n")
"""No front cache may keep an answer, and none may hand it to somebody else's key."""

_TOLD: Final = b"cache-status: sentinel-%b;hit;ttl=%d\r\nage: %d\r\n" + PRIVATE.raw
_EXACT: Final = b"x-cache: exact\r\n" + _TOLD
_STALE: Final = b"x-cache: exact\r\nx-cache-stale: true\r\n" + _TOLD
_SEMANTIC: Final = b"x-cache: semantic\r\nx-cache-similarity: %b\r\nx-cache-confidence: %b\r\nx-cache-matched-id: %b\r\n" + _TOLD
_PASSED: Final = b"x-cache: %b\r\ncache-status: %b\r\n" + PRIVATE.raw


def hit_headers(hit: Hit, now: float) -> Lines:
    """Headers of an answer from the cache."""
    entry = hit.entry
    told = hit.tier.encode(), entry.expires - now, max(0.0, now - entry.created)
    if hit.stale:
        tier, ttl, age = told
        return Lines(_STALE % (tier, math.floor(ttl), age))
    if hit.similarity is None:
        return Lines(_EXACT % told)
    sure = hit.similarity if hit.confidence is None else hit.confidence
    return Lines(_SEMANTIC % (_similarity(hit.similarity), _similarity(sure), _shown_id(entry.key), *told))


def _similarity(cosine: float) -> bytes:
    """Cut, never rounded up: what is shown as 0.95 was at least that."""
    return b"%.3f" % (math.floor(cosine * 1000) / 1000)


def _shown_id(key: str) -> bytes:
    return key[:32].encode()


def miss_headers(journey: Journey) -> Lines:
    """Headers of an answer from a provider: why each tier passed, and what became of the answer if that is known yet."""
    kept = journey.kept
    tiers = kept.tiers if isinstance(kept, Store) else ()
    why = kept.why if isinstance(kept, NotStorable) else None
    return _passed(journey.miss, tiers, why, collapsed=journey.outcome == "coalesced", bypass=journey.wish.bypass)


@lru_cache(STATUSES)
def _passed(miss: Miss | None, tiers: tuple[Tier, ...], why: Why | None, *, collapsed: bool, bypass: bool) -> Lines:
    status = "sentinel;fwd=bypass" if miss is None else _members(miss.steps, tiers, why, collapsed=collapsed)
    return Lines(_PASSED % (b"bypass" if bypass else b"miss", status.encode()))


def _members(steps: tuple[Step, ...], tiers: tuple[Tier, ...], why: Why | None, *, collapsed: bool) -> str:
    """RFC 9211: one member a tier, the one nearest to the provider first."""
    members = []
    for step in steps:
        detail = step.detail or (f"uncacheable-{why}" if why else None)
        stored = ";stored" if step.tier in tiers else ""
        members.append(
            f"sentinel-{step.tier};fwd={step.forward}{';collapsed' if collapsed else ''}{stored}"
            f"{f';detail={_quoted(detail)}' if detail else ''}"
        )
    return ", ".join(members)


def _quoted(text: str) -> str:
    return f'"{text}"'


def explain_header(journey: Journey, key: str, hit: Hit | None, now: float) -> Header:
    """`x-cache-explain`, for a caller who asked: key, route, what was near and the verdict in one line. No question's text."""
    parts = [f"key={key[:16]}", f"target={journey.target}"]
    if journey.similarity:
        parts.append(f"nearest question {_similarity(journey.similarity).decode()}")
    if journey.explanation is not None:
        parts += _neighbours(journey.explanation)
    if journey.miss is not None and (other_words := journey.miss.steps[0]).tier == "vector":
        parts.append(f"other words: {other_words.detail or other_words.forward}")
    if hit is not None:
        parts.append(f"{hit.tier} hit, stored {now - hit.entry.created:.0f} s ago for another {hit.entry.expires - now:.0f} s")
    elif isinstance(journey.kept, Store):
        parts.append(f"stored for {journey.kept.ttl:.0f} s in {' and '.join(journey.kept.tiers)}")
    elif isinstance(journey.kept, NotStorable):
        parts.append(f"not stored: {journey.kept.why}")
    else:
        parts.append("stored once the stream's end is proven")
    return b"x-cache-explain", _UNPRINTABLE.sub("?", "; ".join(parts)).encode()  # a model's name is the caller's word


def _neighbours(explanation: Explanation) -> Iterator[str]:
    """The threshold, and of each candidate its id, its similarity and what speaks against it: about a kilobyte at the most."""
    least, budget = explanation.threshold, explanation.bar.budget
    shown = _similarity(least).decode() if math.isfinite(least) else "out of reach"
    yield f"threshold {shown} of {explanation.basis}"
    if budget is not None:
        yield f"budget {budget.rate:g} of {budget.by}"
    for found in explanation.candidates:
        figures = f"{_shown_id(found.key).decode()} {_similarity(found.similarity).decode()}"
        yield f"near {figures} confidence {_similarity(found.confidence).decode()}: {', '.join(found.objections) or 'fits'}"
