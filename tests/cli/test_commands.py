"""`sentinel` itself: help, version, exit codes, and `check`."""

import json
import os
import re
import shlex
import signal
import socket
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


GATEWAY = ("fastapi", "uvicorn", "sentinel_gateway.app")
SETTINGS = ("pydantic", "yaml", "sentinel_gateway.settings")


@pytest.mark.parametrize(
    ("args", "unneeded"),
    [
        (["check"], GATEWAY),
        (["--help"], GATEWAY + SETTINGS),
        (["--version"], (*GATEWAY, *SETTINGS, "asyncio", "sqlite3", "msgspec")),
        (["serve", "--help"], GATEWAY + SETTINGS),
        (["eval", "--help"], (*GATEWAY, *SETTINGS, "asyncio", "msgspec", "numpy")),
        (["replay", "--help"], (*GATEWAY, *SETTINGS, "asyncio", "msgspec", "numpy")),
    ],
)
def test_a_command_loads_what_it_needs(tmp_path, args, unneeded):
    code = (
        "import sys, sentinel_gateway.cli as c\n"
        "try: c.main()\n"
        f"finally: print({set(unneeded)} & sys.modules.keys(), file=sys.stderr)\n"
    )
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


@pytest.mark.parametrize("command", [(), ("serve",), ("check",), ("doctor",), ("eval",), ("replay",)])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_is_plain_text_and_has_examples(sentinel, command, flag):
    result = sentinel(*command, flag)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(" ".join(["usage: sentinel", *command, "[-h]"]))
    assert result.stdout.isascii()
    assert "\x1b" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "-\n" not in result.stdout
    if command:
        assert re.search(rf"\n\nExamples:\n  sentinel {command[0]}(?: \S+)*\n", result.stdout)
        assert "\n  -c, --config FILE  The YAML file." in result.stdout


def test_the_help_of_a_command_is_all_that_it_takes(sentinel):
    assert sentinel("serve", "--help").stdout == (
        "usage: sentinel serve [-h] [-c FILE] [--host ADDRESS] [--port PORT]\n"
        "                      [--log-level LEVEL]\n"
        "\n"
        "Start the gateway.\n"
        "\n"
        "SIGTERM and Ctrl-C let running requests finish, a second one ends at once;\n"
        "SIGHUP reads the configuration again and keeps the old one if the new one is\n"
        "wrong.\n"
        "\n"
        "Examples:\n"
        "  sentinel serve\n"
        "  OPENAI_API_KEY=sk-... sentinel serve --port 9000\n"
        "  sentinel serve --config /etc/sentinel/sentinel.yaml\n"
        "\n"
        "options:\n"
        "  -h, --help         Show this message and exit.\n"
        "  -c, --config FILE  The YAML file. Default: $SENTINEL_CONFIG, else\n"
        "                     ./sentinel.yaml if there is one.\n"
        "  --host ADDRESS     Address to listen on; one beyond this machine needs a\n"
        "                     client key first.\n"
        "  --port PORT        Port to listen on; 0 takes any free one.\n"
        "  --log-level LEVEL  trace, debug, info, warn or error.\n"
    )


@pytest.mark.parametrize(("columns", "widest"), [("60", 60), ("90", 90), ("300", 100)])
def test_help_is_as_wide_as_the_terminal_and_never_too_wide(sentinel, columns, widest):
    lines = sentinel("serve", "--help", COLUMNS=columns).stdout.splitlines()
    assert widest - 20 < max(map(len, lines)) <= widest
    assert "  sentinel serve --config /etc/sentinel/sentinel.yaml" in lines


def test_without_a_command_it_shows_help(sentinel):
    result = sentinel()
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", sentinel("--help").stdout)
    for line in ("serve     Start the gateway.", "check     Validate the configuration without starting.", "doctor    Check the"):
        assert f"\n    {line}" in result.stderr


def test_the_version(sentinel):
    assert sentinel("--version") == (0, f"sentinel {sentinel_gateway.__version__}\n", "")


@pytest.mark.parametrize(
    ("args", "fault"),
    [
        (["chek"], "sentinel: unknown command 'chek'; did you mean 'check'? (see sentinel --help)"),
        (["xyz"], "sentinel: unknown command 'xyz' (see sentinel --help)"),
        (["--verison"], "sentinel: unknown option '--verison'; did you mean '--version'? (see sentinel --help)"),
        (["check", "--jsn"], "sentinel check: unknown option '--jsn'; did you mean '--json'? (see sentinel check --help)"),
        (["serve", "--prot=1"], "sentinel serve: unknown option '--prot'; did you mean '--port'? (see sentinel serve --help)"),
        (
            ["doctor", "--conf", "x"],
            "sentinel doctor: unknown option '--conf'; did you mean '--config'? (see sentinel doctor --help)",
        ),
        (["doctor", "-x"], "sentinel doctor: unknown option '-x' (see sentinel doctor --help)"),
        (["check", "extra"], "sentinel check: unexpected argument 'extra' (see sentinel check --help)"),
        (["serve", "--port"], "sentinel serve: argument --port: expected one argument (see sentinel serve --help)"),
        (["check", "--json=1"], "sentinel check: argument --json: ignored explicit argument '1' (see sentinel check --help)"),
    ],
)
def test_what_cannot_be_understood_is_one_line_with_a_hint(sentinel, args, fault):
    assert sentinel(*args) == (2, "", f"{fault}\n")


def test_values_may_stand_behind_an_equals_sign_or_follow(sentinel):
    for args in (["--config=a.yaml"], ["--config", "a.yaml"], ["-c", "a.yaml"], ["-ca.yaml"]):
        assert "there is no file a.yaml" in sentinel("check", *args).stderr


def test_a_reader_who_has_left_is_no_fault_of_ours(tmp_path):
    for command in (["--help"], ["check"]):
        read, write = os.pipe()
        os.close(read)
        with os.fdopen(write, "wb") as closed:
            result = subprocess.run(
                [sys.executable, "-m", "sentinel_gateway", *command],
                cwd=tmp_path,
                env={"HOME": str(tmp_path)},
                stdout=closed,
                stderr=subprocess.PIPE,
                check=False,
                timeout=60,
            )
        assert (result.returncode, result.stderr) == (1, b"")


def test_no_output_at_all_is_no_fault_either(tmp_path):
    script = f"exec {shlex.quote(sys.executable)} -m sentinel_gateway check >&-"
    result = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, env={"HOME": str(tmp_path)}, stderr=subprocess.PIPE, check=False, timeout=60
    )
    assert (result.returncode, result.stderr) == (0, b"")


def test_ctrl_c_ends_a_command_without_a_stack(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        env = {"HOME": str(tmp_path), "PORT": "0", "VLLM_BASE_URL": f"http://127.0.0.1:{silent.getsockname()[1]}/v1"}
        command = [sys.executable, "-m", "sentinel_gateway", "doctor"]
        before = signal.signal(
            signal.SIGINT, signal.default_int_handler
        )  # else a run in the background has it ignored, and its children
        try:
            process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        finally:
            signal.signal(signal.SIGINT, before)
        with process:
            asked, _ = silent.accept()
            with asked:
                assert asked.recv(1)  # connected and waiting: asyncio of Python 3.11 may write a stack of its own before that
                process.send_signal(signal.SIGINT)
                assert process.communicate(timeout=60) == (b"", b"")
    assert process.returncode == 130


def test_check_shows_what_is_on(sentinel, tmp_path):
    (tmp_path / "sentinel.yaml").write_text(LOCAL + "models: {fast: [local/a, groq/b]}\nserver: {host: '::1'}\n")
    result = sentinel("check", GROQ_API_KEY="gsk-canary", REDIS_DECODE_RESPONSES="x", SENTINEL_DATA_DIR="state")
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
        "            semantic     similarity 0.95, 0.7 at least, 100000 questions\n"
        f"state       {tmp_path}/state\n"
        "notes       REDIS_DECODE_RESPONSES is set, but this version has no use for it: it has no effect\n"
        "The configuration holds.\n"
    )


def test_check_json(sentinel, tmp_path):
    yaml = LOCAL + "models: {fast: [local/a]}\ncache: {disk: {enabled: false}, semantic: {enabled: false}}"
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
    assert "canary" not in result.stdout + result.stderr


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
    result = sentinel("serve", "--host", "*", "--port", "many", "--log-level", "loud", PORT="1")
    assert result.exit_code == 2
    places = [line.strip() for line in result.stderr.splitlines() if line.startswith("  flag")]
    assert places == ["flag --host", "flag --log-level", "flag --port"]
