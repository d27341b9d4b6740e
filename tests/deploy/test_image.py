"""Dockerfile: linted, and its steps replayed in a root of their own; what comes of them serves as nobody, and can't be changed.

No engine builds it here. The base is Debian's Python 3.11 instead of the image that FROM names; all else is done as it stands.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import disk_usage
from tempfile import mkdtemp
from typing import Any

import pytest

from sentinel_gateway.settings.environment import known_names
from tests.deploy.dockerfile import Step, steps
from tests.process.conftest import DEADLINE, Program
from tests.servers import free_port

ROOT = Path(__file__).parents[2]
STEPS = steps(ROOT / "Dockerfile")
REPLAY = Path(__file__).with_name("replay.sh")
BASE = 150_000_000
"""Bytes of python:3.11-slim unpacked, rounded up: Debian 13's slim (80 MB), Python and what it needs (50 MB)."""
LIMIT = 450_000_000
MEMORY, ROOM = Path("/dev/shm"), 4_000_000_000
"""Where a machine has that much room in memory, what is built there need not go to a disk."""
PATH = "/usr/local/bin:/usr/sbin:/usr/bin"
OTHERS = {"PATH", "PYTHONDONTWRITEBYTECODE", "HOME", "TMPDIR"}
"""Variables that are not Sentinel's."""


def test_hadolint_finds_no_fault():
    hadolint = Path(sys.executable).with_name("hadolint")
    result = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")


def of(word: str, stage: int = 1) -> list[Step]:
    return [step for step in STEPS if (step.word, step.stage) == (word, stage)]


def test_the_base_is_pinned_by_tag_and_digest():
    [base] = of("ARG", -1)
    assert re.fullmatch(r"python:3\.11\.\d+-slim-trixie@sha256:[0-9a-f]{64}", base.pairs["PYTHON_IMAGE"])
    assert all(step.text.startswith("${PYTHON_IMAGE}") for step in STEPS if step.word == "FROM")


def test_its_variables_are_settings():
    [given] = of("ENV")
    assert given.pairs.keys() <= set(known_names()) | OTHERS


def test_the_build_sees_what_it_takes_and_no_secret():
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    taken = {source for step in of("COPY", 0) for source in step.text.split()[:-1]}
    assert taken == allowed
    assert all((ROOT / source).exists() for source in taken)


def test_the_extras_are_locked():
    [line] = re.findall(r"^IMAGE_EXTRAS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    [default] = [step.pairs["EXTRAS"] for step in of("ARG", 0)]
    assert set(default.split()) <= set(line.split())
    lock = (ROOT / "requirements" / "image.lock").read_text()
    assert all(
        f"\n{package}==" in lock for package in ("apprise", "psycopg", "qdrant-client", "redis", "sentry-sdk", "zstandard")
    )


def script(stage: int) -> str:
    """The steps of a stage as a shell has them; COPY takes from /context, or from what the stage before has left in /left."""
    lines = []
    for step in [one for one in STEPS if one.stage == stage]:
        if step.word in {"ENV", "ARG"}:
            lines += [f'export {name}="{value}"' for name, value in step.pairs.items()]
        elif step.word == "WORKDIR":
            lines.append(f"mkdir -p {step.text} && cd {step.text}")
        elif step.word == "COPY":
            *sources, target = step.text.removeprefix("--from=build ").split()
            place = "/left" if "--from" in step.text else "/context/"
            to = f"{target}{Path(sources[0]).name}" if target.endswith("/") and len(sources) == 1 else target
            lines += [f"mkdir -p $(dirname {to})", f"cp -a {' '.join(place + source for source in sources)} {to}"]
        elif step.word == "RUN":
            lines.append(step.text)
    return "\n".join(lines)


class Image:
    """What the steps have left: a root, without the base."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "image"

    def replay(self, root: Path, text: str, *cache: Path) -> None:
        """Steps as root, with this machine's way to PyPI."""
        passed = {name: value for name, value in os.environ.items() if name.lower().startswith(("pip_", "ssl_", "uv_"))}
        here = {"PATH": PATH, "HOME": "/build", "UV_CACHE_DIR": "/cache"}
        command = ["unshare", "--mount", "bash", REPLAY, root, text, *cache]
        result = subprocess.run(command, env=passed | here, capture_output=True, text=True, check=False, timeout=300)
        assert result.returncode == 0, result.stdout + result.stderr

    def command(self, text: str) -> list[str | Path]:
        """Of a container: its user, its environment, nothing to write to but its volumes."""
        environ = "\n".join(line for line in script(1).splitlines() if line.startswith("export "))
        return ["unshare", "--mount", "bash", REPLAY, "--read-only", self.root, f"{environ}\ncd /app\n{text}"]

    def run(self, text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(text), env={"PATH": PATH}, capture_output=True, text=True, check=False, timeout=60)

    def size(self) -> int:
        files = [path for place in ("opt", "app", "data") for path in (self.root / place).rglob("*")]
        return sum(path.lstat().st_size for path in files if not path.is_symlink() and path.is_file())


def context(folder: Path) -> None:
    """What `docker build` would be sent."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    allowed = [line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for name in filter(None, listed.split("\0")):
        if (name in allowed or name.split("/")[0] in allowed) and (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


@pytest.fixture(scope="module")
def image(absent: Any) -> Iterator[Image]:
    python = Path("/usr/bin/python3.11")
    needed = (["unshare", "--mount", "true"], [python, "-c", "import ensurepip"])
    if os.geteuid() != 0 or not python.exists() or any(subprocess.run(words, check=False).returncode for words in needed):
        absent("root that may mount, and Debian's Python 3.11 with its venv module")
    folder = Path(mkdtemp(prefix="sentinel-image-", dir=MEMORY if MEMORY.is_dir() and disk_usage(MEMORY).free > ROOM else None))
    try:
        folder.chmod(0o755)
        built = Image(folder)
        subprocess.run([python, "-m", "venv", folder / "build.local"], check=True)
        (folder / "image.sealed").mkdir()
        context(folder / "build" / "context")
        cache = Path(os.environ.get("UV_CACHE_DIR") or Path.home() / ".cache" / "uv")
        built.replay(folder / "build", script(0), *([cache] if cache.exists() else []))
        (folder / "image" / "opt").mkdir(parents=True)
        shutil.move(folder / "build" / "opt" / "sentinel", folder / "image" / "left" / "opt" / "sentinel")
        built.replay(built.root, script(1))
        shutil.rmtree(built.root / "left")
        yield built
    finally:
        shutil.rmtree(folder)


def test_it_is_small(image):
    size = image.size()
    print(f"{size / 1e6:.0f} MB beside a base of {BASE / 1e6:.0f} MB at most")
    assert size + BASE < LIMIT


def test_nothing_but_what_is_locked_is_in_it(image):
    lock = (ROOT / "requirements" / "image.lock").read_text()
    locked = {name.replace("-", "_") for name in re.findall(r"^([a-z0-9][a-z0-9._-]*)==", lock, re.MULTILINE)}
    names = {path.name.split("-")[0].lower() for path in image.root.glob("opt/sentinel/lib/*/site-packages/*.dist-info")}
    assert names - locked == {"sentinel_gateway"}


def test_it_can_not_be_changed_from_within(image):
    who = image.run(
        "id -u; id -g; touch /opt/sentinel/x /app/x /usr/x 2>&1 || true; touch /data/x /app/logs/x /var/tmp/x; rm /data/x"
    )
    assert who.returncode == 0, who.stderr
    assert who.stdout.splitlines()[:2] == ["10001", "10001"]
    assert who.stdout.count("Read-only file system") == 3


class Container(Program):
    """`sentinel serve` in the image, as ENTRYPOINT and CMD have it."""

    def __init__(self, image: Image) -> None:
        home = image.folder
        [entry], [words] = of("ENTRYPOINT"), of("CMD")
        port = free_port()
        given = (
            f"export PORT={port} SENTINEL_PROVIDERS__DEMO__ENABLED=true SENTINEL_CACHE__SEMANTIC__EXPLORATION=0 LOG_LEVEL=error"
        )
        self.errors, self.lines = home / "stderr", home / "stdout"
        with self.errors.open("wb") as errors, self.lines.open("wb") as lines:
            command = image.command(f"{given}\nexec {shlex.join(entry.command + words.command)}")
            self.process = subprocess.Popen(command, env={"PATH": PATH}, stdout=lines, stderr=errors)
        self.base_url = self.greeting(r"answers on (http://\S+) ")
        self.host, self.port = "127.0.0.1", port


def test_it_serves_as_nobody_with_its_model(image):
    refused = image.run("sentinel serve")
    assert refused.returncode == 2
    assert "make one with 'sentinel keys create --name NAME'" in refused.stderr
    key = image.run("sentinel keys create --name first --to /app/keys/first && cat /app/keys/first").stdout.splitlines()[-1]
    container = Container(image)
    try:
        bearer = {"authorization": f"Bearer {key}"}
        told = [
            container.ask(text, **bearer)
            for text in ("What is the capital of France?", "Please tell me: what is the capital of France?")
        ]
        assert [answer.headers["x-cache"] for answer in told] == ["miss", "semantic"], [answer.body for answer in told]
        assert Path(f"/proc/{container.process.pid}/status").read_text().count("\nUid:\t10001\t10001") == 1
        container.signal(signal.SIGTERM)
        assert container.process.wait(DEADLINE) == 0
    finally:
        container.stop()
    assert (image.root / "app" / "logs" / "requests.log").read_text().count("SEMANTIC_HIT") == 1
