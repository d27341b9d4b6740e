"""D6: damaged bytes never end the program, and none of them is answered with a fault of ours.

TEST_FUZZ_CASES sets how many a long run sends, a part of them to each program; a failure names its case, which the
number makes again.
"""

import os
import re
from collections import Counter

import pytest

from tests.server import damage

SOME = 2_000
ALL = int(os.environ.get("TEST_FUZZ_CASES", "200_000"))
A_PART = 20_000
A_ROUND = 1_000
DEADLINES = {f"SENTINEL_SERVER__{name}": "0.3" for name in ("HEADER_TIMEOUT", "BODY_TIMEOUT", "WRITE_TIMEOUT", "KEEP_ALIVE")}


@pytest.mark.anyio
@pytest.mark.parametrize(
    "cases",
    [
        range(SOME),
        *[pytest.param(range(first, min(first + A_PART, ALL)), marks=pytest.mark.long) for first in range(0, ALL, A_PART)],
    ],
    ids=lambda cases: f"{cases.start}-{cases.stop}",
)
async def test_damaged_requests_never_end_it(serve, cases):
    program = serve(**DEADLINES, LOG_LEVEL="warn")
    statuses: Counter[int] = Counter()
    for at in range(0, len(cases), A_ROUND):
        for found in await damage.ask(program.port, cases[at : at + A_ROUND]):
            statuses.update(found)
        assert program.process.poll() is None, f"it ended after {cases[at]}"
    print(len(cases), "damaged requests were answered", dict(statuses))
    assert max(statuses) < 500, statuses
    assert {200, 400, 404, 408} <= statuses.keys(), f"the damage did too little: {statuses}"
    assert statuses.total() > len(cases) * 0.8
    metrics = program.request("GET", "/metrics").body.decode()
    assert re.search(r'^requests_total{method="POST",route="/v1/chat/completions",status="200"} ', metrics, re.MULTILINE)
    assert re.search(r"^sentinel_in_flight 0.0$", metrics, re.MULTILINE)
    program.stop()
    assert program.process.returncode == 0
    assert program.lines.read_text() == "", "nothing was worth a warning"
    assert "Traceback" not in program.errors.read_text()
