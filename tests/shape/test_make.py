"""Every make target is listed, resolves, and fails with one clear sentence where it can't do its work."""

import os
import re
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sentinel_gateway.telemetry.catalogue import SEED_001, SEED_002
from tests.servers import free_port

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
PROMISED = {
    *("help", "build", "run", "test", "check", "fmt", "test-health", "test-predict", "test-metrics", "test-costs"),
    *("docker-build", "docker-compose-up", "docker-compose-logs", "docker-compose-down"),
    *("k8s-deploy", "k8s-status", "k8s-logs", "k8s-port-forward"),
}
"""Seed 001's names."""

METRICS = tuple(family.name for family in (*SEED_002, *SEED_001))


def make(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """A make of its own, also when the suite itself was started by make."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "PORT", "PYTHON"))}
    return subprocess.run(["make", *arguments], cwd=cwd, env=inherited, capture_output=True, text=True, check=False)


def targets() -> set[str]:
    (line,) = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    return set(line.split())


def test_help_is_the_default_and_lists_each_target():
    listed = re.findall(r"^  make (\S+) +\S", make().stdout, re.MULTILINE)
    assert set(listed) == targets() >= PROMISED
    assert len(listed) == len(targets())


@pytest.mark.parametrize("target", sorted(targets()))
def test_each_make_target_resolves(target):
    assert make("--dry-run", target).returncode == 0


@pytest.fixture
def bare_checkout(tmp_path) -> Path:
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    return tmp_path


@pytest.mark.parametrize(
    ("python", "sentence"),
    [
        ("exit 1", "Sentinel needs Python 3.11 or newer, and './python' is not"),
        ('case "$2" in *version_info*) exit 0;; esac; exit 1', "'./python' can't make virtual environments"),
    ],
    ids=["too-old", "no-venv"],
)
@pytest.mark.parametrize("target", ["run", "test"])
def test_an_unfit_python_is_refused_in_one_sentence(bare_checkout, target, python, sentence):
    fake = bare_checkout / "python"
    fake.write_text(f"#!/bin/sh\n{python}\n")
    fake.chmod(0o755)
    result = make("PYTHON=./python", target, cwd=bare_checkout)
    first, *rest = result.stderr.splitlines()
    assert result.returncode == 2
    assert first.startswith(sentence)
    assert all(line.startswith("make") for line in rest)
    assert not (bare_checkout / ".venv").exists()


def test_a_missing_python_is_refused_in_one_sentence(bare_checkout):
    result = make("PYTHON=./nowhere", "run", cwd=bare_checkout)
    assert result.stderr.startswith("Sentinel needs Python 3.11 or newer, and './nowhere' is not")


def test_a_search_says_how_to_have_it_again():
    result = make("--old-file", ".venv/dev.stamp", "search", "SEEDS=2", "ONLY=tests/core/test_breaker.py")
    assert result.returncode == 0, result.stdout
    told = re.findall(r"^make search SEED=(\d+) ONLY='tests/core/test_breaker.py'$", result.stdout, re.MULTILINE)
    assert len(set(told)) == result.stdout.count("\n1 passed") == 2


@pytest.mark.parametrize("target", ["test-health", "test-predict", "test-metrics", "test-costs"])
def test_no_gateway_is_said_so(target):
    port = free_port()
    result = make(target, f"PORT={port}")
    assert result.returncode == 2
    assert f"No gateway answers at http://127.0.0.1:{port}/" in result.stderr
    assert "Traceback" not in result.stderr


class Pages(BaseHTTPRequestHandler):
    """Serves `server.pages`: path -> (status, text)."""

    def do_GET(self) -> None:
        status, text = self.server.pages[self.path]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def pages():
    """A server with a settable table of pages; its port and the table."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        server.pages = {}
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port, server.pages
        server.shutdown()
        thread.join()


def test_health_is_printed(pages):
    port, table = pages
    table["/health"] = (200, '{"status": "healthy"}')
    result = make("test-health", f"PORT={port}")
    assert (result.returncode, result.stdout) == (0, '{"status": "healthy"}')


def test_bad_health_fails_and_is_printed(pages):
    port, table = pages
    table["/health"] = (503, '{"status": "unhealthy"}')
    result = make("test-health", f"PORT={port}")
    assert result.returncode == 2
    assert f'http://127.0.0.1:{port}/health answered 503: {{"status": "unhealthy"}}' in result.stderr


def exposition(names: tuple[str, ...]) -> str:
    return "".join(f"# HELP {name} what it is\n# TYPE {name} gauge\n{name} 0\n" for name in names)


def test_metrics_are_complete(pages):
    port, table = pages
    table["/metrics"] = (200, exposition(METRICS))
    result = make("test-metrics", f"PORT={port}")
    assert result.returncode == 0, result.stderr
    assert f"http://127.0.0.1:{port}/metrics serves all 13 metrics." in result.stdout


@pytest.mark.parametrize("missing", METRICS)
def test_a_missing_metric_is_named(pages, missing):
    port, table = pages
    table["/metrics"] = (200, exposition(tuple(f"{name}_more" if name == missing else name for name in METRICS)))
    result = make("test-metrics", f"PORT={port}")
    assert result.returncode == 2
    assert f"missing  {missing}\n" in result.stdout
    assert "lacks 1 of 13 metrics" in result.stderr
