"""`sentinel eval` and `sentinel replay`: what they print, for people and for programs, and how they end."""

import gzip
import json
import os
import pty
import subprocess
import sys

import pytest

PAIRS = (
    "text_a\ttext_b\tlabel\n"
    "What is the capital of France?\tWhat's the capital of France?\t1\n"
    "one field\n"
    "What is 2+2?\tWhat is 2+3?\t0\n"
)
ASK = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "<b>What</b> is the capital of France?"}]}


@pytest.fixture
def pairs(tmp_path):
    (tmp_path / "pairs.tsv").write_text(PAIRS)
    return "pairs.tsv"


@pytest.fixture
def log(tmp_path):
    lines = [json.dumps(ASK), json.dumps({"body": ASK | {"stream": True}}), "oops"]
    (tmp_path / "log.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    return "log.jsonl.gz"


def test_eval_for_people_for_programs_and_as_a_page(sentinel, tmp_path, pairs):
    result = sentinel("eval", pairs, "--baseline", "cosine:0.85", "--baseline=cosine:0.5", "--html", "report.html", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    (found,) = json.loads(result.stdout)["files"]
    assert (found["kind"], found["rows"], found["may_serve"]) == ("pairs", 2, 1)
    assert found["bad"] == [{"line": 3, "fault": "has 1 fields, but the header line has 3"}]
    assert [rule["name"] for rule in found["rules"]] == ["Sentinel", "cosine 0.85", "cosine 0.5"]
    assert [rule["at_setting"]["wrong_hits"] for rule in found["rules"]] == [0, 1, 1]
    page = (tmp_path / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert page.count("<polyline") == 2, "both cosines rank alike: one line"
    assert "Line 3 has 1 fields" in page


def test_replay_for_people_for_programs_and_as_a_page(sentinel, tmp_path, log):
    result = sentinel("replay", log, "--html", "report.html")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "2 requests: $0.00031 and 11 s of waiting. The cache would have answered 1 (50.0%)" in " ".join(result.stdout.split())
    assert "1 line could not be used. Line 3 is not JSON" in result.stdout
    assert "<polyline" in (tmp_path / "report.html").read_text()
    result = sentinel("replay", log, "--json", "--limit", "1")
    found = json.loads(result.stdout)["log"]
    assert (found["account"]["requests"], found["account"]["exact"]["hits"], found["models"]) == (1, 0, ["gpt-4o-mini"])
    assert found["notes"] == ["only the first 1 requests were replayed"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl.gz", "report.html"], "nothing else is kept"


def test_a_similarity_is_cut_as_answers_tell_it(sentinel, tmp_path):
    """0.94053: rounded up, what just misses a threshold would look as if it had reached it."""
    asked = ("What is the capital of France?", "Which city is the capital of France?")
    bodies = [ASK | {"messages": [{"role": "user", "content": text}]} for text in asked]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, bodies)))
    result = sentinel("replay", "log.jsonl")
    assert "similarity 0.940, nearly" in result.stdout


@pytest.mark.parametrize(
    ("args", "fault"),
    [
        (["eval", "nowhere.tsv"], "nowhere.tsv can't be opened: No such file or directory"),
        (["replay", "nowhere"], "nowhere can't be opened: No such file or directory"),
        (["eval", "empty"], "empty has no line that can be used: its first line must name the columns"),
        (["replay", "empty"], "empty has no request in it: each line must be the JSON body of an OpenAI chat request"),
        (["replay", "pairs.tsv"], "pairs.tsv has no request in it; line 2 is no chat request"),
        (["eval", "pairs.tsv", "--html", "no/where.html"], "no/where.html can't be written: No such file or directory"),
    ],
)
def test_what_cannot_be_used_ends_with_two_and_says_why(sentinel, tmp_path, pairs, args, fault):
    (tmp_path / "empty").touch()
    result = sentinel(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"sentinel: {fault}")
    assert result.stderr.count("\n") == 1


def test_faults_are_json_where_that_is_asked_for(sentinel):
    result = sentinel("eval", "nowhere", "--json")
    assert (result.exit_code, result.stderr) == (2, "")
    assert json.loads(result.stdout) == {"ok": False, "error": "nowhere can't be opened: No such file or directory"}
    for command in ("eval", "replay"):
        result = sentinel(command, "nowhere", "--json", "--config", "absent.yaml")
        assert (result.exit_code, json.loads(result.stdout)["faults"][0]["place"]) == (2, "flag --config")


@pytest.mark.parametrize(
    ("args", "fault"),
    [
        (["eval"], "the following arguments are required: FILE"),
        (["eval", "x", "--baseline", "0.85"], "argument --baseline: '0.85' is no baseline: write cosine:0.85"),
        (["eval", "x", "--baseline", "cosine:2"], "argument --baseline: 'cosine:2' is no baseline"),
        (["eval", "x", "--baseline", "cosine:nan"], "argument --baseline: 'cosine:nan' is no baseline"),
        (["replay", "x", "--limit", "0"], "argument --limit: '0' is no whole number above 0"),
        (["replay", "x", "--limit", "many"], "argument --limit: 'many' is no whole number above 0"),
        (["replay", "a", "b"], "unexpected argument 'b'"),
    ],
)
def test_a_wrong_line_is_one_sentence(sentinel, args, fault):
    result = sentinel(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"sentinel {args[0]}: {fault}")


def test_the_settings_in_force_decide(sentinel, tmp_path, pairs):
    (tmp_path / "strict.yaml").write_text("cache: {semantic: {threshold: 1.0}}")
    found = json.loads(sentinel("eval", pairs, "--json", "-c", "strict.yaml").stdout)["files"][0]["rules"][0]
    assert (found["setting"], found["at_setting"]["hits"]) == ("similarity 1, guards", 0)


OFFLINE = """
import sys
def watch(event, args):
    if event in {"socket.connect", "socket.getaddrinfo", "socket.sendto"}: raise SystemExit(f"{event} {args}")
sys.addaudithook(watch)
from sentinel_gateway.cli import main
sys.exit(main())
"""


def test_nothing_is_sent_anywhere_and_a_terminal_sees_how_far_it_is(tmp_path, log):
    (tmp_path / "sentinel.yaml").write_text("redis: {host: 127.0.0.1, port: 1}\nqdrant: {url: 'http://127.0.0.1:1'}\n")
    terminal, inside = pty.openpty()
    env = {"HOME": str(tmp_path), "OPENAI_API_KEY": "sk-made-up", "PATH": os.environ["PATH"]}
    env |= {name: os.environ[name] for name in ("PYTHONPATH", "COVERAGE_PROCESS_CONFIG") if name in os.environ}
    command = [sys.executable, "-c", OFFLINE, "replay", log]
    result = subprocess.run(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=inside, check=False, timeout=60)
    os.close(inside)
    seen = os.read(terminal, 10_000).decode()
    os.close(terminal)
    assert (result.returncode, b"The cache would have answered 1" in result.stdout) == (0, True), seen
    assert seen.startswith("\r\x1b[K[")
    assert "% 1 requests" in seen
    assert seen.endswith("\r\x1b[K"), "the line is left empty"


def test_what_a_file_says_is_nothing_that_a_terminal_would_obey(tmp_path):
    file = tmp_path / "pairs.tsv"
    file.write_text("\t".join(["text_a", "text_b", "label", *["a\x1b]0;gone\x07"] * 2]) + "\n1\t2\t1\t4\t5\n")
    ran = subprocess.run(
        [sys.executable, "-m", "sentinel_gateway", "eval", file], capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode == 2
    assert "\x1b" not in ran.stderr + ran.stdout
    assert "gone" in ran.stderr + ran.stdout
