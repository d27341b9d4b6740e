"""Nothing in the repository is unfinished, skipped or bound to one machine; locks and wheel hold what they should."""

import configparser
import hashlib
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.shape import hygiene

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = {path.stem: path.read_text() for path in (ROOT / "requirements").glob("*.lock")}
EXTRAS = PROJECT["project"]["optional-dependencies"]
OWN_EXAMPLES = {"tests/shape/test_hygiene.py", "tests/shape/hygiene.py"}
"""These hold what they look for."""

MADE_UP = {"tests/providers/self_signed.pem": ["a private key"]}
"""Of a certificate that nobody trusts but the tests."""

MAX_DEPENDENCIES = 18


def group(name: str) -> list[str]:
    """A dependency group with what it includes."""
    entries = PROJECT["dependency-groups"][name]
    included = [line for entry in entries if isinstance(entry, dict) for line in group(entry["include-group"])]
    return included + [entry for entry in entries if isinstance(entry, str)]


def files(*which: str) -> dict[str, bytes]:
    """Content by path: what is in git (`--cached`), what would go there if it were added (`--others`)."""
    command = ["git", "ls-files", "--exclude-standard", "-z", *which]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    names = sorted(filter(None, listed.stdout.split("\0")))
    return {name: (ROOT / name).read_bytes() for name in names if (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    return {
        name: content.decode()
        for name, content in files("--cached").items()
        if b"\0" not in content and name not in OWN_EXAMPLES and not name.endswith(".lock")
    }


def test_no_file_names_a_folder_of_this_machine(texts):
    assert {name: found for name, text in texts.items() if (found := hygiene.machine_paths(text))} == {}


def test_no_secret_is_committed(texts):
    """S4. Each kind has a shape of its own; what tests make up has none of them."""
    assert {name: found for name, text in texts.items() if (found := hygiene.secrets(text))} == MADE_UP


@pytest.mark.parametrize(
    "secret",
    [
        "-----BEGIN " + "RSA PRIVATE KEY-----",
        "AKIA" + "Q" * 16,
        "sk-ant-api03-" + "x" * 80,
        "ghp_" + "a1" * 18,
        "AIza" + "b" * 35,
        "gsk_" + "c2" * 26,
        "hf_" + "d3" * 17,
        "sk-proj-" + "e" * 40 + "T3BlbkFJ" + "f" * 20,
        "pypi-AgEI" + "g" * 50,
        "xoxb-123456789012-" + "h" * 20,
        "sk-sn-" + "i" * 40,
    ],
)
def test_a_secret_is_noticed_wherever_it_stands(secret):
    assert len(hygiene.secrets(f"before\nKEY={secret}\nafter")) == 1
    assert hygiene.secrets(f"KEY={secret[:-2]}") == []


def test_git_leaves_alone_what_holds_secrets():
    """Asked of git itself; what it ignores anyway, wherever a developer says so, is none of ours."""
    command = ["git", "-c", "core.excludesFile=", "check-ignore", "--no-index", ".env", "deploy/.env", ".env.example"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.stdout.split() == [".env", "deploy/.env"]


def test_nothing_is_left_for_later(texts):
    assert {name: found for name, text in texts.items() if (found := hygiene.unfinished(text))} == {}


def test_no_test_is_kept_from_running_or_failing(texts):
    tests = {name: text for name, text in texts.items() if name.startswith("tests/") and name.endswith(".py")}
    tests.pop("tests/conftest.py", None)  # its fixture `absent` skips, and fails in CI
    assert {name: found for name, text in tests.items() if (found := hygiene.skipped(text))} == {}


@pytest.mark.parametrize(
    ("check", "line"),
    [
        (hygiene.machine_paths, "see /work/notes.txt"),
        (hygiene.machine_paths, "DATA = '/tmp'"),
        (hygiene.machine_paths, "path: /home/jane/data"),
        (hygiene.unfinished, "x = 1  # TODO: the rest"),
        (hygiene.unfinished, "FIXME"),
        (hygiene.skipped, "@pytest.mark.skipif(sys.platform == 'win32')"),
        (hygiene.skipped, "    pytest.skip('no Redis')"),
        (hygiene.skipped, "numpy = pytest.importorskip('numpy')"),
        (hygiene.skipped, "@pytest.mark.xfail"),
    ],
)
def test_a_line_out_of_place_is_noticed(check, line):
    assert check(f"before\n{line}\nafter") == [line.strip()]


@pytest.mark.parametrize(
    ("check", "line"),
    [
        (hygiene.machine_paths, "GET /v1/models, https://example.com/home/x and ./tmp/file, $HOME/root, a/work/b, /home/me/data"),
        (hygiene.unfinished, "todo lists, fixme"),
        (hygiene.skipped, "skip_covered = true; text.skip"),
    ],
)
def test_a_line_in_place_passes(check, line):
    assert check(line) == []


@pytest.mark.parametrize(
    ("lock", "requirements"),
    [
        ("runtime", PROJECT["project"]["dependencies"] + EXTRAS["redis"]),
        ("dspy", PROJECT["project"]["dependencies"] + [*EXTRAS["redis"], *EXTRAS["dspy"]]),
        (
            "image",
            PROJECT["project"]["dependencies"] + [line for name, lines in EXTRAS.items() if name != "dspy" for line in lines],
        ),
        ("build", group("build")),
        ("supply", [line for line in (ROOT / "requirements" / "supply.in").read_text().splitlines() if not line.startswith("#")]),
        ("dev", PROJECT["project"]["dependencies"] + group("dev")),
    ],
)
def test_lock_is_in_step(lock, requirements):
    assert hygiene.out_of_step(requirements, LOCKS[lock]) == []
    assert hygiene.unhashed(LOCKS[lock]) == []
    if lock not in {"dspy", "supply"}:  # each is installed apart; the newest openai can't be beside dspy
        assert hygiene.pins(LOCKS[lock]).items() <= hygiene.pins(LOCKS["dev"]).items(), "one environment serves them all"


LOCK = """\
# made by uv
aiohttp==3.14.5 \\
    --hash=sha256:00
    # via sentinel-gateway (pyproject.toml)
idna==3.20 ; python_version < '4' \\
    --hash=sha256:01
    # via
    #   -c requirements/dev.lock
    #   yarl
pyyaml==6.0.3
    # via
    #   sentinel-gateway (pyproject.toml:dev)
    #   other
"""


@pytest.mark.parametrize(
    ("requirements", "faults"),
    [
        (["aiohttp>=3.14,<4", "PyYAML>=6"], []),
        (["aiohttp>=3.14,<4", "pyyaml", "uvloop"], ["uvloop is not locked"]),
        (["aiohttp>=3.14,<4"], ["pyyaml is locked, nobody asks for it"]),
        (["aiohttp>=3.15", "pyyaml"], ["aiohttp is locked at 3.14.5, wanted >=3.15"]),
    ],
)
def test_a_lock_out_of_step_is_noticed(requirements, faults):
    assert hygiene.out_of_step(requirements, LOCK) == faults


def test_a_lock_is_read_right():
    assert hygiene.pins(LOCK) == {"aiohttp": "3.14.5", "idna": "3.20", "pyyaml": "6.0.3"}
    assert hygiene.asked_for(LOCK) == {"aiohttp", "pyyaml"}
    assert hygiene.unhashed(LOCK) == ["pyyaml"]


def test_direct_dependencies_stay_few():
    assert len(PROJECT["project"]["dependencies"]) <= MAX_DEPENDENCIES


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> list[Path]:
    """The wheel, built twice."""
    built = []
    for attempt in ("first", "second"):
        folder = tmp_path_factory.mktemp(attempt)
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
        subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        built += folder.glob("*.whl")
    return built


def test_wheel_holds_the_package_and_nothing_else(wheels):
    prefix = "src/"
    committed = {name.removeprefix(prefix): content for name, content in files("--cached", "--others", prefix).items()}
    with zipfile.ZipFile(wheels[0]) as wheel:
        packed = {name: wheel.read(name) for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed.keys() == committed.keys()
    assert packed == committed
    assert "sentinel_gateway/py.typed" in packed


def test_wheel_brings_one_command_and_no_startup_hook(wheels):
    with zipfile.ZipFile(wheels[0]) as wheel:
        assert not [name for name in wheel.namelist() if name.endswith(".pth")]
        entry_points = configparser.ConfigParser()
        (name,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
        entry_points.read_string(wheel.read(name).decode())
    assert {section: dict(entry_points[section]) for section in entry_points.sections()} == {
        "console_scripts": {"sentinel": "sentinel_gateway.cli:main"}
    }


def test_two_builds_are_the_same_to_the_bit(wheels):
    first, second = (hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in wheels)
    assert first == second
