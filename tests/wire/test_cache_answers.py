"""What callers are told of the cache: every outcome, read with another implementation of structured fields (RFC 8941, 9211)."""

import math
from typing import get_args

import http_sf
import msgspec
import pytest

from sentinel_gateway.api.wire.cache_headers import PRIVATE, Header, explain_header, hit_headers, miss_headers
from sentinel_gateway.core.budget import ErrorBudget
from sentinel_gateway.core.caching import Entry, Hit, Miss, NotStorable, Step, Store, Tier, Why, Wish
from sentinel_gateway.core.explanation import Candidate, Explanation
from sentinel_gateway.core.matching import Bar
from sentinel_gateway.pipeline.journey import Journey

NOW = 1_800_000_000.0
SEMANTIC = {b"x-cache-similarity", b"x-cache-confidence", b"x-cache-matched-id"}
ENTRY = Entry(key="k", body=b"}", model="groq/llama", created=NOW - 90.5, expires=NOW + 209.9)
MEMORY, DISK = Step("memory", "uri-miss"), Step("disk", "uri-miss")
BOTH: tuple[Tier, ...] = ("memory", "disk")
FORWARDS = {"bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"}
"""The closed list of RFC 9211."""


def journey(*steps: Step, kept: Store | NotStorable | None = None, **wish: bool) -> Journey:
    met = Journey(route="r", method="POST", request_id="r", sentinel_id="s", at=NOW, client="c")
    met.wish = Wish(**wish)
    met.miss = Miss(steps) if steps else None
    met.kept = kept
    met.target = "groq/llama"
    return met


def members(value: str | bytes) -> list[tuple[str, dict[str, object]]]:
    """Cache-Status as RFC 9211 reads it: who, and what they say."""
    raw = value.encode() if isinstance(value, str) else value
    parsed = http_sf.parse(raw, tltype="list")
    return [(str(name), {key: plain(said) for key, said in parameters.items()}) for name, parameters in parsed]


def plain(value: object) -> object:
    return str(value) if isinstance(value, http_sf.Token) else value


def value_of(headers: list[Header], name: bytes) -> bytes:
    (value,) = [value for other, value in headers if other == name]
    return value


@pytest.mark.parametrize("tier", ["memory", "disk", "redis"])
def test_a_hit(tier):
    headers = hit_headers(Hit(ENTRY, tier), NOW)
    assert value_of(headers, b"x-cache") == b"exact"
    assert value_of(headers, b"age") == b"90"
    assert members(value_of(headers, b"cache-status")) == [(f"sentinel-{tier}", {"hit": True, "ttl": 209})]


@pytest.mark.parametrize(("cosine", "shown"), [(1.0, b"1.000"), (0.9499999, b"0.949"), (0.95, b"0.950"), (0.98812, b"0.988")])
def test_a_hit_in_other_words_names_what_it_matched(cosine, shown):
    headers = hit_headers(Hit(msgspec.structs.replace(ENTRY, key="0123456789abcdef" * 4), "vector", cosine), NOW)
    assert value_of(headers, b"x-cache") == b"semantic"
    assert value_of(headers, b"x-cache-similarity") == value_of(headers, b"x-cache-confidence") == shown
    assert value_of(headers, b"x-cache-matched-id") == b"0123456789abcdef" * 2
    assert members(value_of(headers, b"cache-status")) == [("sentinel-vector", {"hit": True, "ttl": 209})]


def test_a_confidence_that_is_another_figure_is_told_beside_the_similarity():
    headers = hit_headers(Hit(ENTRY, "vector", 0.9, 0.9999), NOW)
    assert value_of(headers, b"x-cache-similarity") == b"0.900"
    assert value_of(headers, b"x-cache-confidence") == b"0.999"


@pytest.mark.parametrize(
    ("bar", "told"),
    [
        (Bar(0.8), "threshold 0.800 of similarity; near"),
        (Bar(0.95, None, ErrorBudget(0.01)), "threshold 0.950 of similarity; budget 0.01 of deployment; near"),
        (Bar(0.7, 0.9123, ErrorBudget(0.0005, "key")), "threshold 0.912 of probability; budget 0.0005 of key; near"),
        (Bar(0.7, math.inf, ErrorBudget(0.0, "namespace")), "threshold out of reach of probability; budget 0 of namespace; near"),
    ],
)
def test_an_explanation_tells_the_threshold_and_whose_budget_it_keeps(bar, told):
    met = journey()
    near = Candidate("k" * 64, 0.9, 0.8, ("below-threshold",))
    met.explanation = Explanation(bar, (near,))
    _, header = explain_header(met, "k", None, NOW)
    assert f"; {told} {'k' * 32} 0.900 confidence 0.800: below-threshold; ".encode() in header


def test_an_exact_hit_is_similar_to_nothing():
    assert {name for name, _ in hit_headers(Hit(ENTRY, "memory"), NOW)}.isdisjoint(SEMANTIC)


def test_an_entry_of_a_clock_ahead_of_ours_has_no_age():
    ahead = msgspec.structs.replace(ENTRY, created=NOW + 5)
    assert value_of(hit_headers(Hit(ahead, "disk"), NOW), b"age") == b"0"


OUTCOMES: dict[str, tuple[Journey, list[tuple[str, dict[str, object]]]]] = {
    "stored": (
        journey(DISK, MEMORY, kept=Store(60, BOTH)),
        [("sentinel-disk", {"fwd": "uri-miss", "stored": True}), ("sentinel-memory", {"fwd": "uri-miss", "stored": True})],
    ),
    "memory alone": (journey(MEMORY, kept=Store(60, ("memory",))), [("sentinel-memory", {"fwd": "uri-miss", "stored": True})]),
    "taken by memory, not by the disk": (
        journey(DISK, MEMORY, kept=Store(60, ("memory",))),
        [("sentinel-disk", {"fwd": "uri-miss"}), ("sentinel-memory", {"fwd": "uri-miss", "stored": True})],
    ),
    "taken by the disk, not by memory": (
        journey(DISK, MEMORY, kept=Store(60, ("disk",))),
        [("sentinel-disk", {"fwd": "uri-miss", "stored": True}), ("sentinel-memory", {"fwd": "uri-miss"})],
    ),
    "no-cache, and not taken by memory": (
        journey(Step("memory", "request"), kept=Store(60, ("disk",)), read=False),
        [("sentinel-memory", {"fwd": "request"})],
    ),
    "tier down, then taken by it": (
        journey(Step("disk", "miss", "tier-down"), MEMORY, kept=Store(60, BOTH)),
        [
            ("sentinel-disk", {"fwd": "miss", "stored": True, "detail": "tier-down"}),
            ("sentinel-memory", {"fwd": "uri-miss", "stored": True}),
        ],
    ),
    "nothing similar enough": (
        journey(Step("vector", "miss", "below-threshold"), DISK, MEMORY, kept=Store(60, BOTH)),
        [
            ("sentinel-vector", {"fwd": "miss", "detail": "below-threshold"}),
            ("sentinel-disk", {"fwd": "uri-miss", "stored": True}),
            ("sentinel-memory", {"fwd": "uri-miss", "stored": True}),
        ],
    ),
    "nothing similar enough, and not stored": (
        journey(Step("vector", "miss", "guard-numbers"), MEMORY, kept=NotStorable("empty")),
        [
            ("sentinel-vector", {"fwd": "miss", "detail": "guard-numbers"}),
            ("sentinel-memory", {"fwd": "uri-miss", "detail": "uncacheable-empty"}),
        ],
    ),
    "not known yet": (
        journey(DISK, MEMORY),
        [("sentinel-disk", {"fwd": "uri-miss"}), ("sentinel-memory", {"fwd": "uri-miss"})],
    ),
    "stale": (
        journey(Step("disk", "stale"), Step("memory", "stale"), kept=Store(1, BOTH)),
        [("sentinel-disk", {"fwd": "stale", "stored": True}), ("sentinel-memory", {"fwd": "stale", "stored": True})],
    ),
    "the caller's max-age": (
        journey(Step("disk", "request"), Step("memory", "uri-miss")),
        [("sentinel-disk", {"fwd": "request"}), ("sentinel-memory", {"fwd": "uri-miss"})],
    ),
    "no-cache": (journey(Step("memory", "request"), read=False), [("sentinel-memory", {"fwd": "request"})]),
    "bypass": (
        journey(Step("memory", "bypass"), kept=NotStorable("bypass"), bypass=True),
        [("sentinel-memory", {"fwd": "bypass", "detail": "uncacheable-bypass"})],
    ),
    "tier down": (
        journey(Step("disk", "miss", "tier-down"), MEMORY),
        [("sentinel-disk", {"fwd": "miss", "detail": "tier-down"}), ("sentinel-memory", {"fwd": "uri-miss"})],
    ),
    "tier down, and not stored": (
        journey(Step("disk", "miss", "tier-down"), MEMORY, kept=NotStorable("length")),
        [
            ("sentinel-disk", {"fwd": "miss", "detail": "tier-down"}),
            ("sentinel-memory", {"fwd": "uri-miss", "detail": "uncacheable-length"}),
        ],
    ),
    "before any look-up": (journey(), [("sentinel", {"fwd": "bypass"})]),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_every_miss_tells_its_reason(name):
    met, expected = OUTCOMES[name]
    assert members(value_of(miss_headers(met), b"cache-status")) == expected
    assert {said["fwd"] for _, said in expected} <= FORWARDS


@pytest.mark.parametrize("why", get_args(Why))
def test_what_was_not_stored_says_why(why):
    headers = miss_headers(journey(MEMORY, kept=NotStorable(why)))
    assert members(value_of(headers, b"cache-status")) == [
        ("sentinel-memory", {"fwd": "uri-miss", "detail": f"uncacheable-{why}"})
    ]


@pytest.mark.parametrize(("bypass", "said"), [(True, b"bypass"), (False, b"miss")])
def test_the_short_word_for_it(bypass, said):
    headers = miss_headers(journey(MEMORY, bypass=bypass))
    assert value_of(headers, b"x-cache") == said
    assert members(value_of(headers, b"cache-status")) == [("sentinel-memory", {"fwd": "uri-miss"})]
    assert b"age" not in dict(headers)


@pytest.mark.parametrize("headers", [hit_headers(Hit(ENTRY, "disk"), NOW), miss_headers(journey(MEMORY))])
def test_no_cache_in_front_may_keep_an_answer(headers):
    assert set(PRIVATE) <= set(headers)
    assert value_of(headers, b"cache-control") == b"private, no-store"
    assert value_of(headers, b"vary") == b"Accept-Encoding, Authorization"


KEY = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("kept", "hit", "said"),
    [
        (None, Hit(ENTRY, "disk"), b"disk hit, stored 90 s ago for another 210 s"),
        (Store(60.4, BOTH), None, b"stored for 60 s in memory and disk"),
        (Store(60.4, ("disk",)), None, b"stored for 60 s in disk"),
        (NotStorable("empty"), None, b"not stored: empty"),
        (None, None, b"stored once the stream's end is proven"),
    ],
)
def test_an_explanation(kept, hit, said):
    name, value = explain_header(journey(MEMORY, kept=kept), KEY, hit, NOW)
    assert (name, value) == (b"x-cache-explain", b"key=0123456789abcdef; target=groq/llama; " + said)


def test_an_explanation_shows_no_similarity_that_was_not_reached():
    met = journey(MEMORY)
    met.similarity = 0.9499
    _, value = explain_header(met, KEY, None, NOW)
    assert b"; nearest question 0.949; " in value


@pytest.mark.parametrize("model", ["a\r\nset-cookie: b", "a\nb", "a\0b", "a\x7fb", "é", "\u2028", "🙂", "a\tb"])
def test_a_models_name_is_no_way_into_the_headers(model):
    met = journey(MEMORY)
    met.target = f"groq/{model}"
    _, value = explain_header(met, KEY, None, NOW)
    assert value.startswith(b"key=0123456789abcdef; target=groq/")
    assert all(0x20 <= byte < 0x7F for byte in value)
    assert b"?" in value
