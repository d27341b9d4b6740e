"""`sentinel` itself: help, version, exit codes, and `check`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import sentinel_gateway

LOCAL = "providers: {local: {dialect: openai, base_url: 'http://127.0.0.1:9001/v1', api_key: '${KEY:-sk-canary}'}}\n"


def run_module(*args, cwd, **env):
    return subprocess.run(
        [sys.executable, "-m", "sentinel_gateway", *args],
        cwd=cwd,
        env={"HOME": str(cwd), "PATH": os.environ["PATH"], **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_python_m_is_the_same_program(tmp_path):
    result = run_module("check", "--json", cwd=tmp_path, PORT="9000")
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["listen"] == "http://127.0.0.1:9000"
    assert run_module("check", cwd=tmp_path, PORT="x").returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_the_console_script_is_main(tmp_path):
    script = Path(sys.executable).with_name("sentinel")
    result = subprocess.run([script, "--version"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout == f"sentinel {sentinel_gateway.__version__}\n"


def test_check_and_help_do_not_load_the_gateway(tmp_path):
    code = (
        "import sys, sentinel_gateway.cli as c\n"
        "sys.argv = ['sentinel', *sys.argv[1:]]\n"
        "try: c.main()\n"
        "finally: print({'fastapi', 'uvicorn', 'sentinel_gateway.app'} & sys.modules.keys(), file=sys.stderr)\n"
    )
    for args in (["check"], ["--help"], ["serve", "--help"]):
        result = subprocess.run(
            [sys.executable, "-c", code, *args],
            cwd=tmp_path,
            env={"HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert result.stderr == "set()\n"


@pytest.mark.parametrize("command", [(), ("serve",), ("check",), ("doctor",)])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_is_plain_text_and_has_examples(sentinel, command, flag):
    result = sentinel(*command, flag)
    assert result.exit_code == 0
    assert result.output.isascii()
    assert "completion" not in result.output
    assert "\x1b" not in result.output
    if command:
        assert f"\n    sentinel {command[0]}" in result.output
        assert "--config FILE" in result.output


def test_without_a_command_it_shows_help(sentinel):
    assert "Commands:" in sentinel().output


def test_an_unknown_command_is_a_fault_with_a_hint(sentinel):
    result = sentinel("chek")
    assert result.exit_code == 2
    assert "Did you mean 'check'?" in result.output


def test_check_shows_what_is_on(sentinel, tmp_path):
    (tmp_path / "sentinel.yaml").write_text(LOCAL + "models: {fast: [local/a, groq/b]}\nserver: {host: '::1'}\n")
    result = sentinel("check", GROQ_API_KEY="gsk-canary", REDIS_URL="redis://x", SENTINEL_DATA_DIR="state")
    assert result.exit_code == 0
    assert result.stdout == (
        "files       sentinel.yaml\n"
        "listens on  http://[::1]:8080\n"
        "providers   local        http://127.0.0.1:9001/v1\n"
        "            groq         https://api.groq.com/openai/v1\n"
        "            demo         built in\n"
        "models      fast -> local/a, groq/b\n"
        "cache       memory       10000 answers, 256MiB, 300 s each at most\n"
        "            disk         1GiB\n"
        f"state       {tmp_path}/state\n"
        "notes       REDIS_URL is set, but this version has no Redis tier: it has no effect\n"
        "The configuration holds.\n"
    )


def test_check_json(sentinel, tmp_path):
    yaml = LOCAL + "models: {fast: [local/a]}\ncache: {disk: {enabled: false}}"
    (tmp_path / "other.yaml").write_text(yaml.replace("providers: {", "providers: {demo: {enabled: false}, "))
    result = sentinel("check", "--config", "other.yaml", "--json")
    assert json.loads(result.stdout) == {
        "ok": True,
        "files": ["other.yaml"],
        "listen": "http://127.0.0.1:8080",
        "providers": {"local": "http://127.0.0.1:9001/v1"},
        "models": {"fast": ["local/a"]},
        "cache": {"memory": "10000 answers, 256MiB, 300 s each at most"},
        "data_dir": f"{tmp_path}/.local/share/sentinel",
        "notes": [],
    }
    assert "canary" not in result.output


def test_check_reports_every_fault(sentinel, tmp_path):
    (tmp_path / "sentinel.yaml").write_text("server:\n  prot: 1\n")
    result = sentinel("check", PORT="x")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == (
        "The configuration has 2 faults:\n"
        "\n  env PORT\n    got 'x', but it must be a whole number\n"
        "\n  sentinel.yaml:2 server.prot\n    unknown setting 'prot'; did you mean 'port'?\n"
    )
    result = sentinel("check", "--json", PORT="x")
    assert result.exit_code == 2
    assert json.loads(result.stdout) == {
        "ok": False,
        "faults": [
            {"place": "env PORT", "fault": "got 'x', but it must be a whole number"},
            {"place": "sentinel.yaml:2 server.prot", "fault": "unknown setting 'prot'; did you mean 'port'?"},
        ],
    }


@pytest.mark.parametrize("command", ["check", "doctor", "serve"])
def test_a_wrong_configuration_ends_every_command_alike(sentinel, command):
    result = sentinel(command, "--config", "nowhere.yaml")
    assert result.exit_code == 2
    assert result.stderr == "The configuration has 1 fault:\n\n  flag --config\n    there is no file nowhere.yaml\n"


def test_serves_flags_are_settings(sentinel):
    result = sentinel("serve", "--host", "0.0.0.0", "--port", "many", "--log-level", "loud", PORT="1")
    assert result.exit_code == 2
    places = [line.strip() for line in result.stderr.splitlines() if line.startswith("  flag")]
    assert places == ["flag --host", "flag --log-level", "flag --port"]
