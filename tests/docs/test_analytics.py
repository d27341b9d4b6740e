"""docs/analytics.md says what the code says, and its commands work."""

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import get_args

from sentinel_gateway.core.analytics import FIGURES, STAGES
from sentinel_gateway.core.anomalies import Kind
from tests.process.conftest import serve

__all__ = ["serve"]

PAGE = (Path(__file__).parents[2] / "docs" / "analytics.md").read_text()
COMMANDS = re.findall(r"```sh\n(curl .*?)```", PAGE, re.DOTALL)


def test_names_are_those_of_the_code():
    kinds = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert kinds == ["type", *get_args(Kind)]
    for stage in STAGES:
        assert f"`{stage}`" in PAGE
    named = re.search(r"^Metrics: (.*)\.$", PAGE, re.MULTILINE)
    assert named is not None
    assert re.findall(r"`(\w+)`", named[1]) == list(FIGURES)


def test_its_commands_answer(serve):
    program = serve()
    assert program.ask("Hello").status == 200
    assert len(COMMANDS) == 4
    told = []
    for command in COMMANDS:
        words = shlex.split(command.replace("http://127.0.0.1:8080", program.base_url))
        result = subprocess.run([*words, "-sS", "--fail-with-body"], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        told.append(json.loads(result.stdout))
    assert all("timestamp" in one for one in told)


def test_the_example_has_the_members_of_an_answer(serve):
    (example,) = (json.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))
    program = serve()
    answer = json.loads(subprocess.check_output(["curl", "-sS", f"{program.base_url}/api/monitoring/anomalies"]))
    assert set(example) == set(answer)
