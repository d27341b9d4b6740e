"""The past by stretches of time: every call is in one window, told the same by both databases, and read once."""

import asyncio
import random
from collections import Counter
from contextlib import suppress

import pytest
from msgspec.structs import replace

from sentinel_gateway.core.windows import BOUNDS, MICROS, OTHER, Window, bucket_of, percentile, total
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.ledger import questions
from sentinel_gateway.ledger.books import make_history
from sentinel_gateway.ledger.tables import DAY
from sentinel_gateway.ports.ledger import Asked, KeyUse, Spent, Wanted
from tests.gateway import until
from tests.ledger.rows import START, handled, spent

pytestmark = pytest.mark.anyio

NOW = START // MICROS
HOUR = 3600
FIRST = START // DAY * DAY // MICROS
"""The beginning of the day that the rows are of, in Unix seconds."""


def call(
    number: int, *, at: int, ending: str = "answered", duration: int = 1_000_000, target: str = "small", provider: str = "mock"
):
    row = spent(number, at=at * MICROS, cost=100)
    intent = replace(row.intent, provider=provider, target=target, model=target)
    took = row.spent if ending == "answered" else Spent(prompt_tokens=8, completion_tokens=3) if ending == "left" else Spent()
    return replace(row, intent=intent, ending=ending, spent=took, duration=duration, first_token=duration // 4)


@pytest.fixture
def calls():
    """A day of calls of every kind, drawn by chance; no two of them alike."""
    chance = random.Random(9)
    return [
        call(
            number,
            at=FIRST + chance.randrange(86_400),
            ending=chance.choice(["answered"] * 6 + ["limited", "broken", "left", "refused", "orphan"]),
            duration=int(chance.lognormvariate(13.5, 1)),
            target=chance.choice(["small", "large"]),
            provider=chance.choice(["mock", "other"]),
        )
        for number in range(700)
    ]


@pytest.fixture
async def past(place, database, anyio_backend):
    """It is a day and an hour later."""
    past = make_history(place.folder, place.url, lambda: FIRST + 86_400 + HOUR)
    yield past
    await past.close()


def expected(calls, seconds: int) -> dict[tuple, Window]:
    """The same by hand."""
    found: dict[tuple, Window] = {}
    for row in calls:
        key = (row.intent.started // MICROS // seconds * seconds, row.intent.provider, row.intent.target)
        window, took, answered = found.setdefault(key, Window(*key)), row.spent, row.ending == "answered"
        buckets = {bucket_of(row.duration): 1} if answered else {}
        tokens = (took.prompt_tokens, took.cached_tokens, took.completion_tokens, took.reasoning_tokens, took.cost)
        latency = row.duration if answered else 0
        spoken = took.completion_tokens if answered else 0
        window.add(Window(0, "", "", 1, *tokens, latency, row.first_token, 1, {row.ending: 1}, buckets, spoken))
    return dict(sorted(found.items()))


@pytest.mark.parametrize("seconds", [300, HOUR, 86_400])
async def test_each_call_is_in_one_window(database, past, calls, seconds):
    database.copy(calls)
    found = await past.windows(FIRST, FIRST + 86_400, seconds=seconds)
    assert found == list(expected(calls, seconds).values())


async def test_hours_of_one_provider_between_two_moments(database, past, calls):
    database.copy(calls)
    found = await past.hourly(FIRST + 3 * HOUR, FIRST + 9 * HOUR, "other")
    assert found == [w for w in expected(calls, HOUR).values() if 3 <= (w.start - FIRST) // HOUR < 9 and w.provider == "other"]
    assert await past.hourly(FIRST, FIRST + 86_400, "nobody") == []


async def test_days_have_what_retention_took_and_hours_do_not(database, past, calls):
    database.copy(calls)
    while database.prune((FIRST + 12 * HOUR) * MICROS):
        pass
    whole = total(await past.windows(FIRST, FIRST + 86_400, seconds=86_400))
    by_hand = total(expected(calls, 86_400).values())
    assert (whole.requests, whole.cost, whole.endings) == (by_hand.requests, by_hand.cost, by_hand.endings)
    assert 0 < whole.timed < whole.successes == by_hand.successes
    assert {window.start for window in await past.hourly(FIRST, FIRST + 86_400)} == set(
        range(FIRST + 12 * HOUR, FIRST + 86_400, HOUR)
    )


async def test_nothing_yet_comes_to_nothing(tmp_path, place, past):
    if place.url is None:
        (place.folder / "ledger.db").touch()  # it is being made
    assert await past.hourly(0, NOW) == []
    nowhere = make_history(tmp_path / "nowhere", None, lambda: NOW)
    assert await nowhere.hourly(0, NOW) == []
    await nowhere.close()
    assert not (tmp_path / "nowhere").exists()


async def test_what_was_read_is_believed_for_a_tenth_of_its_age(place, database):
    now = FIRST + 86_400
    past = make_history(place.folder, place.url, lambda: now)
    database.copy([call(1, at=FIRST + 5), call(2, at=FIRST + 82_800)])

    async def seen() -> list[int]:
        return [window.requests for window in await past.hourly(FIRST, FIRST + 86_400)]

    assert await seen() == [1, 1]
    database.copy([call(3, at=FIRST + 6), call(4, at=FIRST + 82_801)])
    assert await seen() == [1, 2], "the last hour has just ended: whatever comes late to it is seen at once"
    now += HOUR
    assert await seen() == [1, 2]
    now += 86_400 // 10
    assert await seen() == [2, 2]
    await past.close()


class Work:
    """What the thread has worked: `each` second for a question."""

    def __init__(self, each: float) -> None:
        self.each = each
        self._looks = 0

    def __call__(self) -> float:
        self._looks += 1
        return self._looks // 2 * self.each


ASKED = {
    "windows": lambda past, now: past.hourly(FIRST, now + 1),
    "days": lambda past, now: past.windows(FIRST, now + 1, seconds=86_400),
    "stretches": lambda past, now: past.stretches(FIRST, now + 1, seconds=60),
    "shares": lambda past, now: past.shares(FIRST, now + 1, by="key"),
    "calls": lambda past, now: past.calls(Wanted(since=now - HOUR, until=now + 1, dearest=True, limit=9)),
    "requests": lambda past, now: past.requests(Asked(since=now - HOUR, until=now + 1, limit=9)),
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
@pytest.mark.parametrize(("work", "rest"), [(0.05, 0), (0.6, 20), (3, 60), (50, 60)])
async def test_what_took_long_to_read_is_believed_for_a_while_though_it_is_under_way(
    place, database, ask, work: float, rest: int
):
    """It is one thread for all who look, on the core of those who ask models."""
    begun = now = FIRST + 600
    past = make_history(place.folder, place.url, lambda: now, worked=Work(work))
    rows = [[call(number, at=FIRST + number), handled(number, at=(FIRST + number) * MICROS)] for number in range(3)]
    database.copy(rows[0])
    before = await ask(past, now)
    assert before
    database.copy(rows[1])
    now += max(0, rest - 1)
    assert (await ask(past, now) == before) is (rest > 0)
    now = begun + rest + 1
    after = await ask(past, now)
    assert after != before
    database.copy(rows[2])
    assert (await ask(past, now) == after) is (rest > 0), "from then on for as long again"
    await past.close()


class Toil:
    """What the thread has worked: so many seconds between any two looks at it."""

    def __init__(self, each: float) -> None:
        self.each = each
        self._total = 0.0

    def __call__(self) -> float:
        self._total += self.each
        return self._total


async def test_an_hour_that_is_long_is_read_once_for_all_who_ask(place, database):
    """Five minutes, hours and days are told by the same rows: of an earlier hour, of the one under way, and of one to come."""
    now = FIRST + 5 * HOUR + 900
    past = make_history(place.folder, place.url, lambda: now, worked=Toil(0.6))
    calls = [call(number, at=FIRST + 4 * HOUR + 7 * number, target=f"m{number % 3}") for number in range(600)]
    calls += [call(700, at=FIRST + 6 * HOUR), call(701, at=FIRST + 23 * HOUR)]
    asked = [handled(number, at=row.intent.started) for number, row in enumerate(calls)]
    late = [call(800, at=FIRST + 5 * HOUR + 1), handled(800, at=(FIRST + 5 * HOUR + 1) * MICROS)]
    database.copy([*calls, *asked])

    async def told(seconds: int) -> list[Window]:
        return await past.windows(FIRST, FIRST + 86_400, seconds=seconds)

    async def requests(by: str) -> int:
        return sum(share.requests for share in await past.shares(FIRST, FIRST + 86_400, by=by))

    assert await told(HOUR) == list(expected(calls, HOUR).values()), "and it took long"
    now += 70
    assert (await told(HOUR), await requests("key")) == (list(expected(calls, HOUR).values()), len(calls))
    database.copy(late)
    for seconds in (300, 86_400):
        assert await told(seconds) == list(expected(calls, seconds).values()), "another question, answered by what was read"
    assert await requests("tenant") == len(calls)
    now += 130
    for seconds in (300, HOUR, 86_400):
        assert await told(seconds) == list(expected([*calls, late[0]], seconds).values())
    assert (await requests("key"), await requests("tenant")) == (len(calls) + 1, len(calls) + 1)
    minutes = {one.start for one in await past.stretches(FIRST, FIRST + 86_400, seconds=60)}
    assert minutes == {row.intent.started // MICROS // 60 * 60 for row in [*calls, late[0]]}, "which are finer than what is kept"
    now = FIRST + 6 * HOUR - 2
    assert await requests("key") == len(calls) + 1
    now += 4
    for seconds in (HOUR, 86_400, 300):
        assert await told(seconds) == list(expected([*calls, late[0]], seconds).values()), "another hour is under way"
    await past.close()


async def test_what_is_over_is_weighed_by_itself(place, database):
    """An hour under way is not held to have taken what the hours before it took."""
    now = FIRST + 5 * HOUR + 600
    past = make_history(place.folder, place.url, lambda: now, worked=iter([0, 50, 50, 50.01, 50.01, 50.02]).__next__)
    database.copy([call(1, at=FIRST), call(2, at=FIRST + 5 * HOUR)])
    assert [window.requests for window in await past.hourly(FIRST, now + 1)] == [1, 1]
    database.copy([call(3, at=FIRST + 1), call(4, at=FIRST + 5 * HOUR + 1)])
    assert [window.requests for window in await past.hourly(FIRST, now + 1)] == [1, 2]
    await past.close()


async def test_another_question_is_another_one(place, database):
    now = FIRST + 600
    past = make_history(place.folder, place.url, lambda: now, worked=Work(1))
    database.copy([call(1, at=FIRST), call(2, at=FIRST + 1)])
    wanted = Wanted(since=FIRST, until=FIRST + 60, limit=1)
    assert len(await past.calls(wanted)) == 1
    assert len(await past.calls(replace(wanted, limit=2))) == 2
    assert await past.calls(replace(wanted, tenant="nobody")) == []
    assert [row.intent.request for row in await past.calls(replace(wanted, request=f"{1:032x}"))] == [f"{1:032x}"]
    await past.close()


async def test_one_that_is_looked_for_is_there_as_soon_as_the_ledger_has_it(place, database):
    """However long it took to see that it was not."""
    now = FIRST + 600
    past = make_history(place.folder, place.url, lambda: now, worked=Work(50))
    database.copy([call(1, at=FIRST), handled(1, at=FIRST * MICROS)])
    one = f"{2:032x}"
    wanted, asked = Wanted(since=FIRST, until=now, request=one, limit=9), Asked(since=FIRST, until=now, id=one, limit=9)
    assert (await past.calls(wanted), await past.requests(asked)) == ([], [])
    database.copy([call(2, at=FIRST), handled(2, at=FIRST * MICROS)])
    assert [row.intent.request for row in await past.calls(wanted)] == [one]
    assert [told.request.id for told in await past.requests(asked)] == [one]
    await past.close()


async def test_memory_is_bounded(place, database):
    past = make_history(place.folder, place.url, lambda: FIRST + 2 * 86_400, most_kept=10)
    database.copy([call(number, at=FIRST + number * HOUR) for number in range(24)])
    assert len(await past.hourly(FIRST, FIRST + 86_400)) == 24
    assert repr(past) == "<History 10 windows in memory>"
    assert len(await past.hourly(FIRST, FIRST + 86_400)) == 24
    await past.close()


async def test_hours_of_which_there_is_nothing_to_tell_take_room_as_well(place, database):
    past = make_history(place.folder, place.url, lambda: FIRST + 2 * 86_400, most_kept=10)
    database.copy([call(1, at=FIRST)])
    assert len(await past.hourly(FIRST, FIRST + 86_400)) == 1
    assert repr(past) == "<History 10 windows in memory>"
    await past.close()


async def test_of_very_many_models_the_most_used_are_told_apart(database, past):
    most = questions.MOST_SERIES
    rows = [call(number, at=FIRST + number % 7000, target=f"m{number:04}") for number in range(most + 50)]
    database.copy([*rows, *(call(1000 + number, at=FIRST + 8000, target="m0300") for number in range(3))])
    found = await past.windows(FIRST, FIRST + 86_400, seconds=86_400)
    by_model = Counter({window.model: window.requests for window in found})
    assert len(by_model) == most + 1
    assert (by_model["m0300"], by_model[OTHER]) == (4, 50)
    assert sum(by_model.values()) == most + 53


async def test_keys_by_day(database, past):
    rows = [replace(handled(number, at=(FIRST + number * 40_000) * MICROS), key="key_a") for number in range(4)]
    rows[1] = replace(rows[1], status=429, error="insufficient_quota")
    database.copy([*rows, handled(9, at=FIRST * MICROS)])
    days = [
        KeyUse(FIRST, "key_a", 3, 1, FIRST, FIRST + 80_000.0),
        KeyUse(FIRST + 86_400, "key_a", 1, 0, FIRST + 120_000.0, FIRST + 120_000.0),
    ]
    assert await past.key_days(FIRST, FIRST + 2 * 86_400, ["key_a", "key_b"]) == days


async def test_limits_of_ours_are_told_from_those_of_providers(database, past):
    ours = replace(handled(0, at=FIRST * MICROS), key="key_a", outcome="miss", status=429, error="rate_limit_exceeded")
    theirs = [
        replace(ours, id="1", attempts=2, upstream=90_000),
        replace(ours, id="2", outcome="coalesced", upstream=90_000),
        replace(ours, id="3", upstream=7),  # it was known to be met
        replace(ours, id="4", status=403, error="insufficient_quota"),
    ]
    database.copy([ours, *theirs])
    [day] = await past.key_days(FIRST, FIRST + 86_400, ["key_a"])
    assert (day.requests, day.limited) == (5, 1)


async def test_a_database_that_is_away_is_told(tmp_path):
    past = make_history(tmp_path, "postgresql://nobody@127.0.0.1:1/none", lambda: NOW)
    with pytest.raises(StoreDown):
        await past.hourly(NOW - HOUR, NOW)
    await past.close()


MANY = """
WITH RECURSIVE counted(more) AS (SELECT 1 UNION ALL SELECT more + 1 FROM counted WHERE more < 30000)
INSERT INTO attempts
SELECT at + more, id, more, tenant, key, route, model, provider, target, stream, ending, error, prompt_tokens, cached_tokens,
  cache_write_tokens, completion_tokens, reasoning_tokens, cost, priced, basis, reserved, duration, first_token
FROM attempts, counted
"""
"""Each row thirty thousand times."""


async def test_closing_ends_what_is_being_read(place, database, past):
    database.copy([call(number, at=FIRST + number) for number in range(10)])
    with database.writing() as connection:
        connection.exec_driver_sql(MANY)
    reading = asyncio.create_task(past.hourly(FIRST, FIRST + HOUR))
    await asyncio.sleep(0.1)
    await past.close()
    with pytest.raises(StoreDown, match=r"interrupted|cancel|closed"):
        await reading
    with pytest.raises(StoreDown, match="closed"):
        await past.hourly(FIRST, FIRST + HOUR)


async def test_what_nobody_waits_for_any_more_is_ended(place, database):
    """Else all others wait for it, and in the end for nothing as well."""
    database.copy([call(number, at=FIRST + number) for number in range(10)])
    with database.writing() as connection:
        connection.exec_driver_sql(MANY)
    past = make_history(place.folder, place.url, lambda: FIRST + 86_400, patience=0.1)

    async def answered():
        async with asyncio.timeout(30):
            while True:
                with suppress(StoreDown):
                    return await past.calls(Wanted(since=FIRST, until=FIRST + 1, limit=1))

    await answered()  # it is connected
    with pytest.raises(StoreDown, match="not read within"):
        await past.windows(FIRST, FIRST + HOUR, seconds=300)
    await answered()
    assert repr(past) == "<History 0 windows in memory>", "it was read to its end"
    await past.close()


async def test_what_its_asker_gives_up_is_ended(place, database):
    """As above, long before anybody has waited too long."""
    database.copy([call(number, at=FIRST + number) for number in range(10)])
    with database.writing() as connection:
        connection.exec_driver_sql(MANY)
    past = make_history(place.folder, place.url, lambda: FIRST + 86_400, patience=60.0)
    await past.calls(Wanted(since=FIRST, until=FIRST + 1, limit=1))  # it is connected
    reading = asyncio.create_task(past.windows(FIRST, FIRST + HOUR, seconds=300))
    await until(lambda: past._asking is not None)  # noqa: SLF001 - nothing else tells that it is being read
    await asyncio.sleep(0.1)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await past.calls(Wanted(since=FIRST, until=FIRST + 1, limit=1))
    assert repr(past) == "<History 0 windows in memory>", "it was read to its end"
    await past.close()


def test_percentiles_are_within_a_tenth():
    chance = random.Random(1)
    drawn = sorted(int(chance.lognormvariate(13, 0.8)) for _ in range(20_000))
    buckets = Counter(map(bucket_of, drawn))
    for share in (0.05, 0.5, 0.95, 0.99, 0.999):
        assert percentile(buckets, share) * 1000 == pytest.approx(drawn[int(share * len(drawn))], rel=0.1)
    for micros in (*drawn[::500], *BOUNDS[1:], *(bound + 1 for bound in BOUNDS[:-1])):  # all calls take the same
        for share in (0.01, 0.5, 0.99, 1.0):
            assert percentile({bucket_of(micros): 100}, share) * 1000 == pytest.approx(micros, rel=0.1)
    assert percentile({}, 0.5) == 0.0
    assert percentile({len(BOUNDS): 1}, 0.5) == BOUNDS[-1] / 1000
