"""Every fault of a provider ends as it should, beside another target and alone; and the scorecard notices where it does not."""

import pytest

from bench.conduct import ATTEMPTS, SCENARIOS, report, score

pytestmark = pytest.mark.anyio


TAKE_TIME = {"429 with Retry-After", "429 without Retry-After", "timeout before headers", "slow first token", "stall"}
QUICK = [one for one in SCENARIOS if one.name not in TAKE_TIME]


@pytest.mark.parametrize("scenarios", [QUICK, pytest.param(SCENARIOS, marks=pytest.mark.long)], ids=["quick", "all"])
async def test_every_scenario_ends_as_it_should(tmp_path, scenarios):
    rows = await score(tmp_path, scenarios)
    assert len(rows) == 6 * len(scenarios)
    assert [row for row in rows if row.problem] == [], report(rows)
    assert all(1 <= len(row.trace) <= ATTEMPTS for row in rows), report(rows)
    beside = {row.scenario: row.trace for row in rows if not row.alone and row.form == "whole"}
    assert [attempt.split(" (")[0] for attempt in beside["503"]] == ["first: broken", "second: answered"]
    (withheld,) = [row.trace for row in rows if (row.scenario, row.form, row.alone) == ("cut mid-stream", "withheld", False)]
    assert withheld[0].endswith(" tokens)"), "what was said in vain is accounted for"
    assert withheld[1:] == ["second: answered"]


@pytest.mark.long
async def test_a_gateway_that_asks_once_fails(tmp_path):
    quick = [one for one in SCENARIOS if one.name in {"500", "503", "bad key", "connection reset", "content filter"}]
    rows = await score(tmp_path, quick, SENTINEL_ROUTING__MAX_ATTEMPTS="1")
    failed = {row.scenario for row in rows if row.problem}
    assert failed == {"500", "503", "bad key", "connection reset"}
    assert "FAILED: 502 " in report(rows)
