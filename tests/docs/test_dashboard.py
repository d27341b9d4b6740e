"""docs/dashboard.md says what the code says, and its commands work as they stand there."""

import json
import re
from pathlib import Path
from typing import get_args

from sentinel_gateway.api.dashboard.alerts import SILENCES
from sentinel_gateway.api.dashboard.audit import MOST as MOST_ENTRIES
from sentinel_gateway.api.dashboard.live import EVERY, LONGEST
from sentinel_gateway.api.dashboard.playground import MOST as MOST_MODELS
from sentinel_gateway.api.dashboard.sessions import IDLE, MOST, MOST_OF_ONE
from sentinel_gateway.api.dashboard.sessions import LONGEST as LONGEST_SESSION
from sentinel_gateway.api.management import MAX_BODY
from sentinel_gateway.api.traffic import RequestRow, Span
from sentinel_gateway.pipeline.remembered import MOST as REMEMBERED
from tests.cli.conftest import sentinel
from tests.docs.test_keys import ADMIN, GATEWAY, shell
from tests.process.conftest import serve

__all__ = ["sentinel", "serve", "shell"]

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "dashboard.md").read_text()
DECISION = (DOCS / "decisions" / "046-dashboard.md").read_text()
COMMANDS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)


def test_the_key_is_made(sentinel, tmp_path):
    line = COMMANDS[0].replace("'ops screen'", "ops-screen").split()[1:]
    assert sentinel(*line, SENTINEL_DATA_DIR=str(tmp_path / "data")).exit_code == 0


def test_what_programs_are_told(serve, shell):
    program = serve(SENTINEL_ADMIN_KEY=ADMIN)
    told = json.loads(shell(COMMANDS[1].replace(GATEWAY, program.base_url)))
    shown = json.loads(re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[0])
    assert told.keys() == shown.keys()
    assert shown["requests"][0].keys() <= RequestRow.model_fields.keys()
    told = json.loads(shell(COMMANDS[2].replace(GATEWAY, program.base_url)))
    assert len(told["data"]) == 96
    spans = ", ".join(f"`{span}`" for span in get_args(Span)[:-1])
    assert f"`span` is {spans} or `{get_args(Span)[-1]}`" in PAGE
    told = json.loads(shell(COMMANDS[3].replace(GATEWAY, program.base_url)))
    assert (told["by"], told["shares"]) == ("model", [])
    sources, files, draft = (
        json.loads(shell(f"curl {line}".replace(GATEWAY, program.base_url))) for line in COMMANDS[4].split("curl ")[1:]
    )
    assert {"name": "admin_key", "value": "***", "source": "environment"}.items() <= {
        key: value for one in sources["settings"] if one["name"] == "admin_key" for key, value in one.items()
    }.items()
    assert (files["ok"], files["changes"], draft["changes"][0]["name"]) == (True, [], "cache.ttl")
    assert files["mark"] != draft["mark"]
    told = json.loads(shell(COMMANDS[5].replace(GATEWAY, program.base_url)))
    assert (told["id"], told["known"]) == (shown["requests"][0]["id"], False)
    for path in re.findall(r"`GET (/dashboard/frame\S+)`", PAGE):
        assert program.request("GET", path).status == 200


def test_the_figures_are_the_code_s():
    assert (IDLE, LONGEST_SESSION, MOST, MOST_OF_ONE) == (3600.0, 86_400.0, 1000, 20)
    assert "an hour after the page was closed, after a day" in PAGE
    assert f"{MOST:,} are remembered, {MOST_OF_ONE} of one key" in DECISION
    assert (MOST_MODELS, MAX_BODY, [*SILENCES][-1]) == (4, 64 * 1024, "10080")
    assert "up to four models" in PAGE
    assert "64 KiB at most" in PAGE
    assert "silenced for an hour to a week" in PAGE
    assert (EVERY, LONGEST) == (1.0, 600.0)
    assert "ends after ten minutes" in DECISION
    assert f"the newest {MOST_ENTRIES:,} entries at most" in PAGE
    assert f"of the last {REMEMBERED} requests" in PAGE


def test_the_pictures_are_there():
    for name in re.findall(r"!\[[^\]]*\]\((images/\S+)\)", PAGE):
        assert (DOCS / name).read_bytes().startswith(b"\x89PNG"), name
