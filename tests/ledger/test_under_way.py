"""An hour that is long to read is read once for all who ask, and what is told stays true meanwhile."""

import pytest

from sentinel_gateway.core.windows import MICROS, total
from sentinel_gateway.ledger.books import make_history
from tests.ledger.rows import handled
from tests.ledger.test_windows import FIRST, HOUR, Toil, call

pytestmark = pytest.mark.anyio


async def test_what_retention_takes_of_the_hour_is_told_once(place, database):
    """Retention may be of minutes, and days are told with what it took."""
    now = FIRST + 5 * HOUR + 1800
    past = make_history(place.folder, place.url, lambda: now, worked=Toil(0.6))
    calls = [call(number, at=FIRST + 5 * HOUR + number) for number in range(1000)]
    database.copy([*calls, *(handled(number, at=row.intent.started) for number, row in enumerate(calls))])

    async def told() -> tuple[int, int]:
        """Calls, and requests, of the day."""
        windows = await past.windows(FIRST, FIRST + 86_400, seconds=86_400)
        return total(windows).requests, sum(share.requests for share in await past.shares(FIRST, FIRST + 86_400, by="key"))

    await past.windows(FIRST, FIRST + 86_400, seconds=HOUR)
    now += 61
    assert await told() == (1000, 1000)
    for _ in range(3):
        now += 61
        await past.windows(FIRST, FIRST + 86_400, seconds=300)
        while database.prune((now - 1500) * MICROS):
            pass
        assert await told() == (1000, 1000)
    await past.close()


async def test_the_hour_before_is_read_once_as_well(place, database):
    """It is long in the next hour's first quarter, too: no sum is kept of it before that is over."""
    now = FIRST + 6 * HOUR + 100
    past = make_history(place.folder, place.url, lambda: now, worked=Toil(0.6))
    calls = [call(number, at=FIRST + 5 * HOUR + 7 * number) for number in range(500)]
    database.copy([*calls, call(500, at=FIRST + 6 * HOUR + 1)])

    async def told(seconds: int) -> int:
        return total(await past.windows(FIRST, FIRST + 86_400, seconds=seconds)).requests

    assert await told(HOUR) == 501, "and it took long"
    now += 61
    assert await told(HOUR) == 501
    database.copy([call(600, at=FIRST + 5 * HOUR + 1), call(601, at=FIRST + 6 * HOUR + 1)])
    assert (await told(300), await told(86_400)) == (501, 501), "other questions, answered by what was read"
    now += 130
    assert (await told(300), await told(HOUR), await told(86_400)) == (503, 503, 503)
    await past.close()
