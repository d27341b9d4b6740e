"""docs/monitoring.md says what the code says, and its commands work as they stand there."""

import json
import re
from pathlib import Path

from sentinel_gateway.api.monitoring import MOST_HOURS
from sentinel_gateway.api.monitoring_hours import AT_HAND
from sentinel_gateway.core.health import DEGRADED, HEALTHY, LOOK_AHEAD, LOOK_BACK, WEIGHT
from sentinel_gateway.telemetry.recent.recorder import BATCH, LINGER, QUEUE
from sentinel_gateway.telemetry.recent.shapes import LONGEST_ERROR, MOST_ERRORS, MOST_MEASURED
from tests.cli.conftest import sentinel
from tests.docs.test_keys import GATEWAY, shell
from tests.process.conftest import serve

__all__ = ["sentinel", "serve", "shell"]

PAGE = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text()
COMMANDS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
MODEL = "demo"


def test_the_example_is_what_is_answered(serve, shell):
    program = serve()
    assert program.ask("Hello").status == 200
    [told] = json.loads(shell(COMMANDS[0].replace(GATEWAY, program.base_url)))
    [shown] = json.loads(re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[0])
    assert told == shown | {"last_updated": told["last_updated"]}


def test_every_path_answers(serve):
    program = serve()
    rows = re.findall(r"^\| (`/.*?) \|", PAGE, re.MULTILINE)
    paths = [path for row in rows for path in re.findall(r"`(/.*?)`", row)]
    assert len(paths) >= 9
    for path in paths:
        asked = f"/api/monitoring{path}".replace("{provider}", "demo").replace("{model}", MODEL)
        assert program.request("GET", asked).status == 200, path


def test_the_figures_are_the_code_s():
    assert (WEIGHT, HEALTHY, DEGRADED, LOOK_AHEAD, LOOK_BACK) == (0.05, 80.0, 50.0, 600.0, 900.0)
    assert f"Up to {AT_HAND} hours are at hand; up to {MOST_HOURS} are told" in PAGE
    assert f"of the newest {MOST_MEASURED:,} of each model" in PAGE
    assert f"the last {MOST_ERRORS} of a provider" in PAGE
    assert f"at most {LONGEST_ERROR} characters" in PAGE
    assert (f"a queue of {QUEUE:,} calls" in PAGE, f"up to {BATCH} calls at once" in PAGE, LINGER) == (True, True, 0.1)


def test_the_cleanup_is_understood(sentinel, tmp_path):
    words = COMMANDS[1].split()[1:]
    assert sentinel(*words, SENTINEL_DATA_DIR=str(tmp_path / "data")).exit_code == 0
