"""deploy/systemd: systemd itself finds nothing wrong with the unit, and calls it safe; what it says agrees with the program."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sentinel_gateway.cli.edge import WRONG_CONFIGURATION
from sentinel_gateway.settings.load import load
from sentinel_gateway.settings.model import Server

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
UNIT = FOLDER / "sentinel.service"
PROGRAM = "/opt/sentinel/bin/sentinel"
EXPOSURE = 20
"""The most that systemd may reckon, of 100; a service that says nothing has 96."""
HARDENING = {
    "CapabilityBoundingSet": "",
    "LimitCORE": "0",
    "MemoryMax": "80%",
    "MemoryDenyWriteExecute": "yes",
    "NoNewPrivileges": "yes",
    "PrivateTmp": "yes",
    "ProtectHome": "yes",
    "ProtectSystem": "strict",
    "StateDirectory": "sentinel",
    "UMask": "0077",
    "User": "sentinel",
}


def settings_of(unit: str) -> list[tuple[str, str]]:
    """Each setting, in order: some stand more than once."""
    return [(name, value) for name, value in re.findall(r"^(\w+)=(.*)$", unit, re.MULTILINE)]


SETTINGS = settings_of(UNIT.read_text())


@pytest.fixture(scope="module")
def analyze(absent) -> str:
    return shutil.which("systemd-analyze") or absent("systemd-analyze (make test-deps installs it)")


@pytest.fixture
def unit(tmp_path) -> Path:
    """The unit with a program that is on this machine."""
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text().replace(PROGRAM, shutil.which("true")))
    return path


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_systemd_finds_nothing_wrong(analyze, unit):
    judged = run(analyze, "verify", "--recursive-errors=no", unit)
    assert (judged.returncode, judged.stderr) == (0, "")


def test_a_setting_that_systemd_does_not_know_is_found(analyze, unit):
    unit.write_text(unit.read_text().replace("ProtectHome=", "ProtectHomes="))
    assert "ProtectHomes" in run(analyze, "verify", "--recursive-errors=no", unit).stderr


def test_systemd_calls_it_safe(analyze, unit):
    judged = run(analyze, "security", "--offline=true", f"--threshold={EXPOSURE}", unit)
    print(judged.stdout.splitlines()[-1] if judged.stdout else judged.stderr)
    assert judged.returncode == 0, judged.stdout + judged.stderr


def test_it_is_hardened():
    """Also where systemd is not there to say so."""
    assert HARDENING.items() <= dict(SETTINGS).items()


def test_its_figures_are_the_programs():
    told, server = dict(SETTINGS), Server()
    assert int(told["TimeoutStopSec"]) > server.drain_notice + server.drain_timeout
    assert int(told["RestartPreventExitStatus"]) == WRONG_CONFIGURATION
    assert "ExecStartPre" not in told, "its exit status prevents no restart"
    assert int(told["LimitNOFILE"]) > 2 * server.max_connections
    assert told["KillSignal"] == "SIGTERM"
    assert told["ExecReload"] == "/bin/kill -HUP $MAINPID"


def test_its_variables_are_the_programs(tmp_path):
    given = dict(value.split("=", 1) for name, value in SETTINGS if name == "Environment")
    assert given.keys() == {"SENTINEL_CONFIG", "SENTINEL_DATA_DIR"}
    config = tmp_path / "sentinel.yaml"
    config.touch(mode=0o600)
    loaded = load(given | {"HOME": str(tmp_path), "SENTINEL_CONFIG": str(config)}, cwd=tmp_path)
    assert str(loaded.settings.data_dir) == f"/var/lib/{dict(SETTINGS)['StateDirectory']}"


def test_the_user_is_made():
    (line,) = [line for line in (FOLDER / "sentinel.sysusers").read_text().splitlines() if not line.startswith("#")]
    assert line.split()[:2] == ["u", dict(SETTINGS)["User"]]
