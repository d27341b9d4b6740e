"""What docs/cache.md and docs/semantic.md show of stored answers and of decisions is what a gateway says."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import pytest

from sentinel_gateway.api.cache_bodies import EntriesQuery
from sentinel_gateway.core.browsing import MOST_PINNED, State
from sentinel_gateway.pipeline.decisions import KEPT, Outcome
from tests.process.conftest import serve

__all__ = ["serve"]

DOCS = Path(__file__).parents[2] / "docs"
CACHE, SEMANTIC = (
    dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", (DOCS / name).read_text(), re.MULTILINE | re.DOTALL))
    for name in ("cache.md", "semantic.md")
)
STORED = CACHE["Look at what is stored"]
ADMIN = "sk-sn-admin-of-the-tests"
FRANCE, REWORDED, CITY = (
    "What is the capital of France?",
    "What's the capital of France?",
    "Which city is the capital of France?",
)


def blocks(section: str, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", section, re.DOTALL)


def shape(value):
    """The members of an answer, to any depth."""
    if isinstance(value, dict):
        return {name: shape(member) for name, member in value.items()}
    return [shape(value[0])] if isinstance(value, list) and value else None


@pytest.fixture
def say(serve):
    """say(command) is what a command answers, at a gateway that has answered a question or two."""
    program = serve(SENTINEL_ADMIN_KEY=ADMIN)
    answers = [program.ask(text, **{"x-cache-tags": "news"}) for text in (FRANCE, REWORDED, CITY)]
    made = sum(answer.headers["x-cache"] == "miss" for answer in answers)
    key = {"authorization": f"Bearer {ADMIN}"}
    end = time.monotonic() + 60.0
    while len(program.request("GET", "/admin/cache/entries", **key).json["data"]) < made:  # they are written behind the answers
        assert time.monotonic() < end, "what was answered is not stored"
        time.sleep(0.02)
    environ = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    environ |= {"SENTINEL_ADMIN_KEY": ADMIN}

    def say(command):
        here = command.replace("http://127.0.0.1:8080", program.base_url)
        return subprocess.run(["sh", "-c", here], env=environ, capture_output=True, text=True, timeout=60, check=True).stdout

    say.base_url = program.base_url
    return say


def test_a_page_is_as_shown(say):
    (listing, _), (shown,) = blocks(STORED, "sh"), blocks(STORED, "json")
    told = json.loads(say(listing))
    assert shape(told) == shape(json.loads(shown))
    assert {told["tier"], told["texts"]} == {"disk", "shown"}


def test_every_parameter_and_state_is_explained():
    table = STORED.partition("| parameter |")[2].partition("\n\n")[0]
    firsts = " ".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(\w+)`", firsts)) == set(EntriesQuery.model_fields)
    assert all(f"`{state}`" in table for state in get_args(State))
    assert f"{MOST_PINNED:,} entries" in STORED


def test_a_preview_is_as_shown(say):
    preview = blocks(CACHE["Clear it"], "sh")[1]
    told, shown = json.loads(say(preview)), json.loads(blocks(CACHE["Clear it"], "json")[1])
    assert told.keys() == shown.keys()
    assert told["message"].rstrip("0123456789") == shown["message"].rstrip("0123456789")
    assert {entry["question"] for entry in told["sample"]} <= {FRANCE, REWORDED, CITY}


def test_the_command_line_does_what_is_shown(say):
    script = blocks(STORED, "sh")[1]
    for line in script.splitlines():
        words = shlex.split(line)
        assert words[:2] == [".venv/bin/sentinel", "cache"]
        said = say(shlex.join([sys.executable, "-m", "sentinel_gateway", *words[1:], "--url", say.base_url]))
        assert said.strip()


def test_decisions_are_told_as_shown(say):
    section = SEMANTIC["What was decided of late"]
    (command,), (shown,) = blocks(section, "sh"), blocks(section, "json")
    told, example = json.loads(say(command)), json.loads(shown)
    (one,) = [found for found in told["data"] if found["asked"] == CITY]
    assert one.keys() == example["data"][0].keys()
    variable = {"id", "at", "entry", "similarity"}
    assert {name: value for name, value in one.items() if name not in variable} == {
        name: value for name, value in example["data"][0].items() if name not in variable
    }
    assert round(one["similarity"], 4) == example["data"][0]["similarity"]
    assert f"The last {KEPT} requests" in section
    assert all(f"`{outcome}`" in section for outcome in get_args(Outcome))


def test_a_threshold_is_tried_as_shown(say):
    (command,) = blocks(SEMANTIC["Try another threshold"], "sh")
    told = json.loads(say(command))
    assert (told["max_wrong_hit_rate"], told["threshold"], told["window_days"]) == (0.02, 0.9, 7)
    assert {"requests", "hits", "wrong", "wrong_hits"} == told["then"].keys() == told["now"].keys()
