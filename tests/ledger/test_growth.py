"""B7: what a million requests take in the database, and what it takes to let them go."""

import math
import time

import pytest

from sentinel_gateway.ledger.sql import BATCH
from sentinel_gateway.ledger.tables import DAY
from tests.ledger.growth import fill
from tests.ledger.rows import START

ROW_BYTES = 400
BATCH_SECONDS = 0.05
TABLES = ("requests", "attempts")


def bytes_of(place) -> int:
    """Of all tables and their indexes."""
    if place.url is not None:
        place.ask("SELECT 1")
        return int(place.ask("SELECT sum(pg_total_relation_size(relid)) FROM pg_stat_user_tables WHERE relname <> 'keys'")[0][0])
    ((pages, size),) = place.ask("SELECT page_count, page_size FROM pragma_page_count(), pragma_page_size()")
    return pages * size


def rank(seconds: list[float], share: float) -> float:
    return sorted(seconds)[math.ceil(share * len(seconds)) - 1]


@pytest.mark.parametrize("requests", [4_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_a_row_is_small_and_all_tables_let_go_of_what_is_old_in_small_batches(place, database, requests):
    database.open()
    empty = bytes_of(place)
    count = fill(database, requests, START)
    young = fill(database, 1_000, START + 90 * DAY)
    size = (bytes_of(place) - empty) / (count + young)
    before = place.ask("SELECT sum(cost), sum(completion_tokens), count(*) FROM attempts")
    taken, seconds, spent = [], [], []
    while True:
        began, busy = time.perf_counter(), time.thread_time()
        took = database.prune(START + 60 * DAY)
        if not took:
            break
        taken.append(took)
        seconds.append(time.perf_counter() - began)
        spent.append(time.thread_time() - busy)
    times = ", ".join(f"p{100 * share:g} {1000 * rank(seconds, share):.1f} ms" for share in (0.5, 0.99, 1))
    kind = "SQLite" if place.url is None else "PostgreSQL"
    print(f"{kind}: {count} rows, {size:.0f} bytes each; gone in {len(taken)} batches of {max(taken)} at most, {times}")
    print(f"of that CPU of the thread p99 {1000 * rank(spent, 0.99):.1f} ms")
    assert size <= ROW_BYTES
    assert sum(taken) == count
    assert max(taken) <= BATCH
    assert sum(place.ask(f"SELECT count(*) FROM {table}")[0][0] for table in TABLES) == young
    # what went is still in the sums, to the last digit
    kept = place.ask("SELECT sum(cost), sum(completion_tokens), count(*) FROM attempts")[0]
    gone = place.ask("SELECT sum(cost), sum(completion_tokens), sum(count) FROM days WHERE kind = 'attempt'")[0]
    assert [tuple(int(one) + int(other) for one, other in zip(kept, gone, strict=True))] == [
        tuple(map(int, row)) for row in before
    ]
    if requests == 1_000_000:
        assert rank(seconds, 0.99) <= BATCH_SECONDS
