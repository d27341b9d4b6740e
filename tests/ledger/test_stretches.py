"""Requests by stretches of time and one by one: each is counted once, told the same by both databases."""

import random

import pytest
from msgspec.structs import replace

from sentinel_gateway.core.stretches import Share, Stretch, by_name, filled
from sentinel_gateway.core.windows import MICROS
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.ledger.books import make_history
from sentinel_gateway.ledger.tables import DAY
from sentinel_gateway.ports.ledger import Asked, Told
from tests.ledger.rows import START, handled, spent

pytestmark = pytest.mark.anyio

HOUR = 3600
FIRST = START // DAY * DAY // MICROS
LAST = FIRST + 86_400


@pytest.fixture
def rows():
    """A day of requests of every kind, drawn by chance, and a call for each that was no hit."""
    chance = random.Random(11)
    found = []
    for number in range(500):
        at = (FIRST + chance.randrange(86_400)) * MICROS + chance.randrange(MICROS)
        outcome = chance.choice(["exact", "exact", "semantic", "miss", "bypass", "coalesced", "none"])
        status = chance.choice([200] * 5 + [502])
        hit = outcome in {"exact", "semantic"} and status == 200
        request = replace(
            handled(number, at=at, saved=1000 + number if hit else 0),
            outcome=outcome,
            status=status,
            error="" if status == 200 else "upstream_error",
            tenant=chance.choice(["acme", "other"]),
            prompt_tokens=10,
            completion_tokens=number % 7,
            attempts=0 if hit else 1,
        )
        found.append(request)
        if not hit:
            found.append(spent(number, at=at + 500, cost=50 + number))
    return found


@pytest.fixture
async def past(place, database, anyio_backend):
    past = make_history(place.folder, place.url, lambda: LAST + HOUR)
    yield past
    await past.close()


def requests(rows):
    return [row for row in rows if not hasattr(row, "intent")]


def expected(rows, seconds: int) -> list[Stretch]:
    """The same by hand."""
    found: dict[int, Stretch] = {}
    for row in rows:
        is_call = hasattr(row, "intent")
        start = (row.intent.started if is_call else row.at) // MICROS // seconds * seconds
        one = found.setdefault(start, Stretch(start))
        if is_call:
            one.add(Stretch(0, spent=row.spent.cost, tokens_used=row.spent.prompt_tokens + row.spent.completion_tokens))
        elif row.outcome != "none" or row.status != 200:
            outcome = row.outcome if row.status == 200 else "failed"
            one.count(outcome, 1)
            one.saved += row.saved
            one.tokens_saved += row.prompt_tokens + row.completion_tokens if outcome in {"exact", "semantic"} else 0
    return [one for one in sorted(found.values(), key=lambda one: one.start) if one != Stretch(one.start)]


@pytest.mark.parametrize("seconds", [60, 900, HOUR, 86_400])
async def test_each_request_is_in_one_stretch(database, past, rows, seconds):
    database.copy(rows)
    found = await past.stretches(FIRST, LAST, seconds=seconds)
    assert [one for one in found if one != Stretch(one.start)] == expected(rows, seconds)
    assert sum(one.total + one.other for one in found) == sum(
        row.outcome != "none" or row.status != 200 for row in requests(rows)
    )


async def test_days_have_what_retention_took(database, past, rows):
    database.copy(rows)
    while database.prune((FIRST + 12 * HOUR) * MICROS):
        pass
    assert await past.stretches(FIRST, LAST, seconds=86_400) == expected(rows, 86_400)


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("by", ["tenant", "key", "model"])
async def test_who_had_what_share_of_it(database, past, rows, by, pruned):
    database.copy(rows)
    while pruned and database.prune((FIRST + 12 * HOUR) * MICROS):
        pass
    by_hand: dict[str, Share] = {}
    for row in rows:
        if hasattr(row, "intent"):
            one = by_hand.setdefault(getattr(row.intent, by), Share(FIRST, getattr(row.intent, by)))
            one.add(Share(0, "", calls=1, tokens=row.spent.prompt_tokens + row.spent.completion_tokens, spent=row.spent.cost))
        elif row.status == 200 and row.outcome != "none":
            one = by_hand.setdefault(getattr(row, by), Share(FIRST, getattr(row, by)))
            one.add(Share(0, "", requests=1, hits=row.outcome in {"exact", "semantic"}, saved=row.saved))
    found = await past.shares(FIRST, LAST, by=by)
    assert by_name(found) == by_name(by_hand.values())
    of_one = await past.shares(FIRST, LAST, by=by, tenant="other")
    assert sum(one.hits for one in of_one) == sum(
        row.tenant == "other" and row.status == 200 and row.outcome in {"exact", "semantic"} for row in requests(rows)
    )


async def test_stretches_of_other_lengths_are_none(past):
    with pytest.raises(ValueError, match="60, 300, 900, 3600, 86400"):
        await past.stretches(FIRST, LAST, seconds=17)


async def test_requests_one_by_one_the_latest_first(database, past, rows):
    database.copy(rows)
    latest = sorted(requests(rows), key=lambda row: (row.at, row.id), reverse=True)
    costs = {row.intent.request: row.spent.cost for row in rows if hasattr(row, "intent")}
    asked = Asked(since=FIRST, until=LAST, limit=20)
    seen = [row for row in latest if row.outcome != "none"]
    assert await past.requests(asked) == [Told(row, costs.get(row.id, 0)) for row in seen[:20]]
    for narrowed, wanted in (
        ({"tenant": "acme"}, lambda row: row.tenant == "acme"),
        ({"outcome": "semantic"}, lambda row: row.outcome == "semantic"),
        ({"failed": True}, lambda row: row.status != 200),
    ):
        found = await past.requests(Asked(since=FIRST, until=LAST, limit=500, **narrowed))
        assert [one.request for one in found] == [row for row in seen if wanted(row)]
    [one] = await past.requests(Asked(since=FIRST, until=LAST, limit=5, id=seen[3].id))
    assert one.request == seen[3]
    assert await past.requests(Asked(since=FIRST, until=LAST, limit=5, id="unknown")) == []


async def test_nothing_yet(tmp_path):
    nowhere = make_history(tmp_path / "nowhere", None, lambda: LAST)
    assert await nowhere.stretches(FIRST, LAST, seconds=60) == []
    assert await nowhere.requests(Asked(since=FIRST, until=LAST, limit=1)) == []
    await nowhere.close()
    with pytest.raises(StoreDown):
        await nowhere.requests(Asked(since=FIRST, until=LAST, limit=1))


def test_where_nothing_came_a_line_falls_to_nothing():
    there = Stretch(120, exact=3)
    assert filled([there], 60, 230, 60) == [Stretch(60), there, Stretch(180)]
