"""docs/logs.md names every field of a line and says of the request log what the code does."""

import re
from pathlib import Path

import msgspec

from sentinel_gateway.core.record import Record
from sentinel_gateway.telemetry import background, lines, request_log

PAGE = (Path(__file__).parents[2] / "docs" / "logs.md").read_text()


def record(**fields):
    return Record(**{"at": 0.0, "request_id": "a", "sentinel_id": "b", "route": "/", "method": "POST"} | fields)


def test_every_field_of_a_request_is_named_in_its_order():
    table = PAGE.partition("| field | |")[2].partition("\n\n")[0]
    named = [name for row in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)]
    assert named == list(msgspec.json.decode(lines.json_line(record())))


def test_levels_and_limits_are_those_of_the_code():
    levels = re.search(r"`LOG_LEVEL` is (.*?)\.", PAGE)
    assert re.findall(r"`(\w+)`", levels[1]) == [level.replace("warning", "warn") for level in lines.LEVELS]
    assert f"{lines.MAX_TEXT} characters" in PAGE
    assert PAGE.count(f"{background.CAPACITY:,}") == 2
    assert 1 / request_log.RETRY == 2


def test_outcomes_and_lines_are_those_of_the_code():
    for outcome in (*request_log.OUTCOMES.values(), "ERROR"):
        assert f"`{outcome}`" in PAGE
    shown = re.findall(r"^\d{4}-.*\n", PAGE, re.MULTILINE)
    seed = {"at": 1_771_668_000.0, "model": "llama-3.3-70b-versatile", "prompt_tokens": 423}
    first, second = record(outcome="miss", cost=250_000, **seed), record(outcome="exact", seconds=1.0, **seed)
    assert shown == [request_log.request_line(line).decode() for line in (first, second)]
