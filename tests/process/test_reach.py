"""U3: a gateway that others can reach does not start without keys, nor with a secret that was never one."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

GUESSED = ["short", "changeme" * 4, "0" * 64, "password-password-password-password"]


def command(home: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    line = [sys.executable, "-m", "sentinel_gateway", *words]
    environment = kept | {"HOME": str(home), "PORT": "0"} | environ
    return subprocess.run(line, env=environment, cwd=home, text=True, capture_output=True, timeout=30, check=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_wide_bind_needs_a_key_and_says_how(tmp_path, host):
    refused = command(tmp_path, "serve", HOST=host)
    assert refused.returncode == 2
    assert "there is no client key yet: make one with 'sentinel keys create --name NAME', or bind 127.0.0.1" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_with_a_key_it_serves_others_and_asks_them(serve, tmp_path):
    made = command(tmp_path, "keys", "create", "--name", "first")
    key = next(word for word in made.stdout.split() if word.startswith("sk-sn-"))
    program = serve(HOST="0.0.0.0", SENTINEL_PROVIDERS__DEMO__ENABLED="true")
    assert program.ask("who?").status == 401
    assert program.ask("who?", authorization=f"Bearer {key}").status == 200
    for path, status in (("/metrics", 401), ("/livez", 200), ("/ready", 200), ("/v1/models", 401)):
        assert program.request("GET", path).status == status
    program.signal(signal.SIGTERM)
    assert program.wait() == 0


def test_keys_that_cannot_be_read_are_not_called_absent(tmp_path):
    data = tmp_path / "data"
    command(tmp_path, "keys", "create", "--name", "first", SENTINEL_DATA_DIR=str(data))
    with (data / "sentinel.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = command(tmp_path, "serve", HOST="0.0.0.0", SENTINEL_DATA_DIR=str(data))
    assert refused.returncode == 2
    assert "the client keys can't be read now" in refused.stderr
    assert "another process has been writing to it for too long" in refused.stderr
    assert "start again when they can be, or bind 127.0.0.1" in refused.stderr
    assert "no client key" not in refused.stderr


def test_keys_can_not_be_switched_off_for_others(tmp_path):
    refused = command(tmp_path, "serve", HOST="0.0.0.0", SENTINEL_KEYS__REQUIRED="false")
    assert refused.returncode == 2
    assert "leave it out, or bind 127.0.0.1" in refused.stderr


@pytest.mark.parametrize("secret", GUESSED)
def test_a_guessed_secret_is_refused_with_the_fix(tmp_path, secret):
    refused = command(tmp_path, "serve", SENTINEL_SECRET=secret)
    assert refused.returncode == 2
    assert "openssl rand -hex 32" in refused.stderr
    assert secret not in refused.stderr


@pytest.mark.parametrize("key", ["x", "admin"])
def test_a_guessed_admin_key_is_refused(tmp_path, key):
    refused = command(tmp_path, "serve", SENTINEL_ADMIN_KEY=key)
    assert refused.returncode == 2
    assert "at least 16 characters" in refused.stderr


def test_a_secret_that_others_can_read_is_refused(serve, tmp_path):
    serve(SENTINEL_DATA_DIR=str(tmp_path / "data")).stop()
    (tmp_path / "data" / "secret").chmod(0o644)
    refused = command(tmp_path, "serve", SENTINEL_DATA_DIR=str(tmp_path / "data"))
    assert refused.returncode == 2
    assert "chmod 600" in refused.stderr


def test_an_admin_key_that_nobody_can_have_is_refused(tmp_path):
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data" / "admin-key.sha256").touch()
    refused = command(tmp_path, "serve", SENTINEL_DATA_DIR=str(tmp_path / "data"))
    assert refused.returncode == 2
    assert "delete it, and the next start makes a new admin key and shows it" in refused.stderr
