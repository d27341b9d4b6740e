"""U3: a gateway that others can reach does not start without keys, nor with a secret that was never one."""

import fcntl
import os
import re
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
    return subprocess.run(line, env=environment, cwd=home, text=True, capture_output=True, timeout=60, check=False)


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


# --- the matrix: each would be dangerous, and is refused with the remedy, before anything listens ---

REACHED = "server: {host: 0.0.0.0}\n"
LITERAL = "providers: {vllm: {base_url: 'http://127.0.0.1:1/v1', api_key: a-key-that-everybody-can-read}}\n"
DEVELOPMENT = dict(re.findall(r"^(\w+)=(.+)$", (Path(__file__).parents[2] / ".env.development").read_text(), re.MULTILINE))
MATRIX = {
    "a wide bind without a key": ({"HOST": "0.0.0.0"}, "", 0o600, "make one with 'sentinel keys create --name NAME'"),
    "the same in the file": ({}, REACHED, 0o600, "make one with 'sentinel keys create --name NAME'"),
    "IPv6 for all": ({"HOST": "::"}, "", 0o600, "or bind 127.0.0.1"),
    "keys switched off for others": ({"HOST": "0.0.0.0"}, "keys: {required: false}\n", 0o600, "leave it out, or bind 127.0.0.1"),
    "an empty admin key": ({"SENTINEL_ADMIN_KEY": " "}, "", 0o600, "at least 16 characters"),
    "an empty admin key in the file": ({}, "admin_key: ''\n", 0o600, "at least 16 characters"),
    "a short admin key": ({"SENTINEL_ADMIN_KEY": "admin"}, "", 0o600, "at least 16 characters"),
    "an admin key of habit for others": (
        {"HOST": "0.0.0.0", "SENTINEL_ADMIN_KEY": "Password-12345678"},
        "",
        0o600,
        "was never drawn by chance",
    ),
    "an admin key of one character for others": (
        {"HOST": "0.0.0.0", "SENTINEL_ADMIN_KEY": "0" * 32},
        "",
        0o600,
        "openssl rand -hex 32",
    ),
    "the admin key of .env.development for others": (
        {"HOST": "0.0.0.0", "SENTINEL_ADMIN_KEY": DEVELOPMENT["SENTINEL_ADMIN_KEY"]},
        "",
        0o600,
        "was never drawn by chance",
    ),
    "a secret of blanks": ({"SENTINEL_SECRET": " " * 40}, "", 0o600, "openssl rand -hex 32"),
    "an empty secret in the file": ({}, "secret: ''\n", 0o600, "openssl rand -hex 32"),
    "a secret that is a word": ({"SENTINEL_SECRET": "changeme" * 4}, "", 0o600, "openssl rand -hex 32"),
    "a key that everybody can read": ({}, LITERAL, 0o644, "chmod 600 sentinel.yaml"),
    "an admin key that everybody can read": ({}, "admin_key: 0123456789abcdef\n", 0o644, "chmod 600 sentinel.yaml"),
    "every page, with its visitor's cookies": (
        {},
        "server: {cors: {origins: ['*'], credentials: true}}\n",
        0o600,
        "name the origins, or drop credentials",
    ),
    "two nodes that can't prove what they share": (
        {"SENTINEL_REPLICAS": "2", "REDIS_URL": "redis://h"},
        "",
        0o600,
        "SENTINEL_SECRET",
    ),
    "nodes that know different keys": (
        {"SENTINEL_REPLICAS": "2", "REDIS_URL": "redis://h", "SENTINEL_SECRET": "8d1b7a40f3c95e2266a0d4b97c18ef53"},
        "keys: {required: true}\n",
        0o600,
        "set SENTINEL_DATABASE_URL",
    ),
    "a webhook whose signature proves nothing": (
        {},
        "alerts: {channels: {ops: {webhook: 'https://example.com/a', secret: ''}}}\n",
        0o600,
        "openssl rand -base64 32",
    ),
}


@pytest.mark.parametrize("danger", MATRIX)
def test_what_would_be_dangerous_does_not_start(tmp_path, danger):
    environ, config, mode, remedy = MATRIX[danger]
    file = tmp_path / "sentinel.yaml"
    file.touch(mode=0o600)
    file.write_text(config)
    file.chmod(mode)
    refused = command(tmp_path, "serve", **environ)
    assert refused.returncode == 2, refused.stderr
    assert remedy in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "answers on" not in refused.stderr
