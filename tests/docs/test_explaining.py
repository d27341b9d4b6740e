"""docs/semantic.md on why, and on questions that are bound: its examples are what the gateway says."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import get_args

from sentinel_gateway.core.bound import Bound, BoundRules, Treatment, bounds
from tests.process.conftest import serve

__all__ = ["serve"]

PAGE = (Path(__file__).parents[2] / "docs" / "semantic.md").read_text()
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
ADMIN = "sk-sn-admin-of-the-tests"
ASKED = ("How many eggs are in 2 cakes?", "How many eggs are in 3 cakes?")


def test_two_texts_are_compared_as_shown(serve):
    (block,) = re.findall(r"```sh\n(.*?)```", SECTIONS["Why?"], re.DOTALL)
    (shown,) = re.findall(r"```json\n(.*?)```", SECTIONS["Why?"], re.DOTALL)
    script = block.replace("http://127.0.0.1:8080", serve(SENTINEL_ADMIN_KEY=ADMIN).base_url)
    environ = {"PATH": os.environ["PATH"], "SENTINEL_ADMIN_KEY": ADMIN}
    said = subprocess.run(["sh", "-c", script], env=environ, capture_output=True, text=True, timeout=30, check=True).stdout
    told = json.loads(said) | {name: round(json.loads(said)[name], 4) for name in ("similarity", "confidence")}
    assert told == json.loads(shown)


def test_the_header_is_built_as_shown(serve):
    (shown,) = re.findall(r"```\nx-cache-explain: (.*?)\n```", SECTIONS["Why?"], re.DOTALL)
    program = serve()
    for text in ASKED:
        told = program.ask(text, **{"x-cache-explain": "true"}).headers["x-cache-explain"]
    parts = [re.sub(r"\b[0-9a-f]{4,}\b|\d", "#", part) for part in told.split("; ")]
    example = [re.sub(r"\b[0-9a-f]{4}\.\.\.[0-9a-f]+\b|\b[0-9a-f]{16}\b|\d", "#", part) for part in shown.split("; ")]
    assert [part.split()[0].partition("=")[0] for part in parts] == [
        part.split()[0].partition("=")[0] for part in (*example[:6], *example[7:])
    ]
    assert parts[3:5] == example[3:5]
    assert re.fullmatch(r"near # #\.### confidence #\.###: [\w-]+(, [\w-]+)*", parts[5])
    assert re.fullmatch(r"near # #\.### confidence #\.###: [\w-]+(, [\w-]+)*", example[5])


def test_what_is_bound_is_described():
    section = SECTIONS["Questions that are bound"]
    assert {why for why in get_args(Bound) if f"| `{why}` |" not in section} == set()
    assert re.findall(r"^\| `(\w+)`[^|]*\| ", section.partition("| value |")[2], re.MULTILINE) == list(get_args(Treatment))
    assert f"time: {BoundRules().time}, personal: {BoundRules().personal}, ttl: {BoundRules().brief:g}" in section
    quoted = re.findall(r'"(What\'s [^"]*|Where is [^"]*)"', section)
    assert len(quoted) >= 2
    assert all(map(bounds, quoted))
    assert not bounds("How do I track my order?")
    assert not bounds("Is the bridge open?")
