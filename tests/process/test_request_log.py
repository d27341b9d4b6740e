"""Seed 000's request log, as `sentinel serve` writes it: one line for each request of a model, and all of them after a stop."""

import re
from pathlib import Path

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \| ([A-Z_]+) *\| (\S+) *\| +(\d+) tokens \| \$(\d+\.\d{5})")
QUESTION = "What is the capital of France?"


def test_the_request_log_of_a_program_that_is_stopped(serve, tmp_path) -> None:
    program = serve(LOG_PATH="logs/requests.log")
    log = tmp_path / "logs" / "requests.log"
    answers = [program.ask(QUESTION), program.ask(QUESTION), program.ask(f"Please tell me: what {QUESTION[5:]}")]
    assert [answer.headers["x-cache"] for answer in answers] == ["miss", "exact", "semantic"]
    program.request("GET", "/health")
    open_files = [file.readlink() for file in Path(f"/proc/{program.process.pid}/fd").iterdir()]
    assert open_files.count(log) == 1
    log.rename(log.with_suffix(".1"))
    program.ask("No cache", **{"x-bypass-cache": "true"})
    assert program.ask(QUESTION, model="demo-fail-503").status >= 500
    program.stop()
    text = log.with_suffix(".1").read_text() + log.read_text()
    lines = [LINE.fullmatch(line) for line in text.splitlines()]
    assert all(lines), text
    told = [line.groups() for line in lines]
    assert [outcome for outcome, *_ in told] == ["MISS", "EXACT_HIT", "SEMANTIC_HIT", "BYPASS", "ERROR"]
    assert [model for _, model, *_ in told] == ["demo"] * 4 + ["demo-fail-503"]
    usage = answers[0].json["usage"]["total_tokens"]
    assert [int(tokens) for *_, tokens, _ in told[:3]] == [usage, 0, 0]
    assert float(told[0][3]) == round(float(answers[0].headers["x-sentinel-cost-usd"]), 5)
    assert "France" not in text
    assert not re.search("request_log_(failed|lines_lost)", program.lines.read_text())
