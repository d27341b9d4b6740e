"""Random damage to good requests: every byte that comes back is sound HTTP, nothing is our fault, and the server goes on."""

import asyncio
from collections import Counter

import pytest

from tests.server import damage
from tests.server.conftest import SHORT, Running, until

CASES = 3000


@pytest.mark.anyio
async def test_damaged_requests(start, caplog: pytest.LogCaptureFixture):
    server: Running = start(SHORT)
    statuses: Counter[int] = Counter()
    for number, found in enumerate(await damage.ask(server.port, range(CASES))):
        assert set(found[:-1]) <= {200, 413}, f"case {number}: a refusal is the last answer: {found}"
        assert set(found) <= {200, 400, 405, 408, 413, 431}, f"case {number}: {found}"
        statuses.update(found)
    assert {200, 400, 408, 413} <= statuses.keys(), f"the damage did too little: {statuses}"
    assert statuses.total() > CASES * 0.8
    assert server.ask(damage.LAST)[0].status == 200
    await asyncio.to_thread(until, lambda: server.gauge.open == 0)
    assert [record.getMessage() for record in caplog.records if record.levelname not in {"DEBUG", "INFO"}] == []
