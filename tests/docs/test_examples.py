"""The programs in examples/, run against a gateway as they are. Those in JavaScript are run by tests/sdks."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.conftest import Program

EXAMPLES = Path(__file__).parents[2] / "examples"
MISS_EXACT_SEMANTIC = ["miss", "exact", "semantic"]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory) -> Iterator[Program]:
    program = Program(tmp_path_factory.mktemp("examples"), {"SENTINEL_ADMIN_KEY": "sk-sn-admin-of-the-tests"})
    yield program
    program.stop()


@pytest.fixture
def run(gateway):
    """run("python/ask.py") on a cache that knows nothing; what it says."""
    cleared = gateway.request("POST", "/admin/cache/clear", authorization="Bearer sk-sn-admin-of-the-tests")
    assert cleared.status == 200

    def run(example: str, *arguments: str) -> str:
        command = [sys.executable, EXAMPLES / example] if example.endswith(".py") else [EXAMPLES / example]
        environ = {"PATH": os.environ["PATH"], "GATEWAY": gateway.base_url}
        done = subprocess.run([*command, *arguments], env=environ, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return run


def test_every_example_is_listed_and_only_they():
    listed = re.findall(r"^\| \[(.*?)\]\((.*?)\)", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    assert all(name == link for name, link in listed)
    assert {name for name, _ in listed} == {
        str(path.relative_to(EXAMPLES)) for path in EXAMPLES.glob("*/*.*") if path.suffix != ".json"
    }


def test_openai_s_client_says_where_answers_came_from(run):
    assert [line.split()[0] for line in run("python/ask.py").splitlines()] == MISS_EXACT_SEMANTIC


def test_the_first_minute_with_curl(run):
    said = run("curl/first_minute.sh")
    assert re.findall(r"^x-cache: (\w+)$", said, re.MULTILINE) == MISS_EXACT_SEMANTIC
    assert json.loads(said.splitlines()[-1])["cache_hits"] >= 2


def test_each_header_does_what_its_remark_says(run):
    said = run("curl/steering.sh")
    assert re.findall(r"(\d{3} (?:-|[a-z]{4,}))$", said, re.MULTILINE) == [
        *("504 -", "200 miss", "200 miss", "200 exact"),
        *("200 miss", "200 bypass", "200 miss", "200 exact"),
    ]
    assert "x-cache-explain: key=" in said


def test_a_stream_ends_in_its_tokens(run):
    assert re.search(r"^You asked: Tell me of the Danube.*\n\d+ tokens\n$", run("python/stream.py", "--wait"), re.DOTALL)


def test_a_batch_asks_the_provider_for_each_question_once(run):
    *lines, summary = run("python/batch.py").splitlines()
    assert [line.split()[0] for line in lines] == ["provider", "provider", "cache", "cache"]
    assert summary == "4 questions, 2 calls of a provider"


def test_feedback_takes_the_answer_away(run):
    first, reworded, told, again = run("python/feedback.py").splitlines()
    assert [line.split()[0] for line in (first, reworded, again)] == ["miss", "semantic", "miss"]
    assert told.endswith("True")
