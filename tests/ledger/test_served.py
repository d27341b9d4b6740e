"""Requests by 5 minutes, told the same by both databases: which failed, which the cache decided, and which it answered."""

import random
from collections import Counter

import pytest
from msgspec.structs import replace

from sentinel_gateway.core.alerting.figures import BIN, Served
from sentinel_gateway.core.windows import MICROS
from sentinel_gateway.ledger.books import make_history
from sentinel_gateway.ledger.tables import DAY
from tests.ledger.rows import START, handled

pytestmark = pytest.mark.anyio

FIRST = START // DAY * DAY // MICROS
KINDS = [
    # outcome, status, error: how it counts
    ("exact", 200, "", ("decided", "hits")),
    ("semantic", 200, "", ("decided", "hits")),
    ("miss", 200, "", ("decided",)),
    ("miss", 502, "upstream_error", ("failed",)),
    ("coalesced", 200, "", ()),
    ("bypass", 200, "", ()),
    ("none", 401, "invalid_api_key", ()),
    ("none", 429, "rate_limit_exceeded", ()),
    ("none", 503, "server_is_overloaded", ("failed",)),
    ("miss", 504, "cache_miss", ()),
    ("miss", 499, "client_left", ()),
]


@pytest.fixture
async def past(place, database, anyio_backend):
    """It is a day and an hour later."""
    past = make_history(place.folder, place.url, lambda: FIRST + 86_400 + 3600)
    yield past
    await past.close()


async def test_each_request_is_in_one_stretch_and_counts_as_what_it_was(database, past):
    chance = random.Random(4)
    expected: dict[int, Counter[str]] = {}
    rows = []
    for number in range(600):
        outcome, status, error, counts = chance.choice(KINDS)
        at = FIRST + chance.randrange(86_400)
        rows.append(replace(handled(number, at=at * MICROS), outcome=outcome, status=status, error=error))
        expected.setdefault(at // BIN * BIN, Counter()).update(["requests", *counts])
    database.copy(rows)
    names = "requests", "failed", "decided", "hits"
    assert await past.served(FIRST, FIRST + 86_400) == [
        Served(start, *(counts[name] for name in names)) for start, counts in sorted(expected.items())
    ]


async def test_only_what_is_asked_for(database, past):
    database.copy([handled(number, at=(FIRST + number * BIN) * MICROS) for number in range(20)])
    found = await past.served(FIRST + 3 * BIN, FIRST + 5 * BIN)
    assert [one.start for one in found] == [FIRST + 3 * BIN, FIRST + 4 * BIN]


async def test_before_there_is_anything_there_is_nothing(past):
    assert await past.served(FIRST, FIRST + 3600) == []
