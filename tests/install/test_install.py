"""What a newcomer does: install the wheel, or the source archive, into an empty environment, and follow the README."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.docs.test_readme import BLOCKS, CURLS, PROMISED, SAVED

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
PORT = 8080
"""The README's."""
DEADLINE = 60.0


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", folder], cwd=ROOT, capture_output=True, check=True)
    return folder


@pytest.fixture(scope="module", params=["*.whl", "*.tar.gz"], ids=["wheel", "source"])
def home(request, built: Path, tmp_path_factory, absent) -> Path:
    """A folder with nothing but `.venv`, into which that was installed by the system's Python."""
    home = tmp_path_factory.mktemp("home")
    (package,) = built.glob(request.param)
    system = shutil.which(f"python3.{sys.version_info.minor}", path="/usr/bin:/usr/local/bin") or sys.executable
    subprocess.run([system, "-m", "venv", home / ".venv"], check=True)
    began = time.monotonic()
    installed = subprocess.run(
        [home / ".venv" / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", package],
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    if "No matching distribution" in installed.stderr or "Could not find a version" in installed.stderr:
        absent(f"an index of packages: {installed.stderr.strip().splitlines()[-1]}")
    assert installed.returncode == 0, installed.stderr
    print(f"{package.name}: installed in {time.monotonic() - began:.0f} s")
    return home


def shell(line: str, home: Path) -> str:
    """As a newcomer types it, in that folder."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(home)}
    ran = subprocess.run(["sh", "-c", line], cwd=home, env=environ, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@contextmanager
def serving(home: Path) -> Iterator[None]:
    """`sentinel serve`, on the port that the README says."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", PORT))  # else something else would answer
    errors = home / "stderr"
    with errors.open("wb") as told:
        process = subprocess.Popen(
            [home / ".venv" / "bin" / "sentinel", "serve"],
            cwd=home,
            env={"PATH": os.environ["PATH"], "HOME": str(home)},
            stdout=subprocess.DEVNULL,
            stderr=told,
        )
    try:
        end = time.monotonic() + DEADLINE
        while f"answers on http://127.0.0.1:{PORT}" not in errors.read_text():
            assert process.poll() is None, errors.read_text()
            assert time.monotonic() < end, "it never listened"
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0


def test_the_first_minute_word_for_word(home: Path) -> None:
    question, reworded = CURLS
    with serving(home):
        for line, expected in zip((question, question, reworded), PROMISED, strict=True):
            answer = shell(line, home)
            for header in expected:
                name, _, value = header.partition(": ")
                found = re.search(rf"^{name}: (.*)\r?$", answer, re.MULTILINE)
                assert found, f"{name} is missing"
                assert name == "age" or found[1].strip() == value
        (saved,) = SAVED
        (shown,) = [text for kind, text in BLOCKS if kind == "json" and "hit_rate_percent" in text]
        assert shell(saved, home).strip() == shown.strip()
        assert "<title>" in shell("curl -s http://127.0.0.1:8080/dashboard", home)
        (create,) = [text for kind, text in BLOCKS if kind == "sh" and "keys create" in text]
        key = re.search(r"sk-sn-\S+", shell(create, home))[0]
        models = f"curl -s -o out -w '%{{http_code}}' http://127.0.0.1:{PORT}/v1/models"
        end = time.monotonic() + DEADLINE
        while shell(models, home) != "401":
            assert time.monotonic() < end, "it stayed open"
            time.sleep(0.1)
        assert shell(f"{models} -H 'Authorization: Bearer {key}'", home) == "200"


def test_it_brings_what_it_says_and_starts_nothing_by_itself(home: Path) -> None:
    """S2, of what pip made of it: one command of ours, and no start-up hook of anybody's."""
    (packages,) = (home / ".venv" / "lib").glob("python3.*/site-packages")
    hooks = {path.name for path in packages.glob("*.pth")} - {"distutils-precedence.pth"}  # of setuptools, where venv brings it
    assert hooks == set()
    assert (home / ".venv" / "bin" / "sentinel").exists()
    assert re.fullmatch(r"sentinel \S+\n", shell(".venv/bin/sentinel --version", home)), "the command works without a gateway"
