"""docs/keys.md: every command in it works as it stands there, and its tables name what the code names."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from sentinel_gateway.api.keys import CreateBody, LimitsBody
from sentinel_gateway.core.access import KeyScope, is_key_text
from tests.process.conftest import serve

__all__ = ["serve"]

PAGE = (Path(__file__).parents[2] / "docs" / "keys.md").read_text()
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
ADMIN = "sk-sn-admin-of-the-tests"
ID = "key_0123456789abcdef"
GATEWAY = "http://127.0.0.1:8080"


def blocks(section: str) -> list[str]:
    return re.findall(r"```sh\n(.*?)```", SECTIONS[section], re.DOTALL)


@pytest.fixture
def shell(tmp_path: Path) -> Any:
    """shell("sentinel ...") runs as it would in a terminal, in a data folder of the test's own; what it said."""
    program = tmp_path / "bin" / "sentinel"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m sentinel_gateway "$@"\n')
    program.chmod(0o700)
    kept = {name: os.environ[name] for name in ("PYTHONPATH", "COVERAGE_PROCESS_CONFIG") if name in os.environ}
    own = {"HOME": str(tmp_path), "SENTINEL_DATA_DIR": str(tmp_path / "data"), "SENTINEL_ADMIN_KEY": ADMIN}
    path = f"{program.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"

    def run(script: str, **more: str) -> str:
        result = subprocess.run(
            ["sh", "-ec", script],
            env=kept | own | {"PATH": path} | more,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


def test_making_one_says_what_is_shown(shell):
    first, second = blocks("Make one")
    (shown,) = re.findall(r"```\n(Key, shown.*?)```", SECTIONS["Make one"], re.DOTALL)
    said = shell(first)
    assert is_key_text(said.split("\n")[0].rpartition(" ")[2])
    assert re.sub(r"(sk-sn-|key_)\S+", r"\1...", said) == shown
    assert is_key_text(shell(second + 'printf %s "$KEY"'))


def test_a_program_is_served_with_it(shell, serve, tmp_path):
    script = "".join([blocks("Make one")[1], *blocks("Give it to a program")])
    gateway = serve(SENTINEL_DATA_DIR=str(tmp_path / "data"))
    said = json.loads(shell(script.replace(GATEWAY, gateway.base_url)))
    assert said["choices"][0]["message"]["role"] == "assistant"


def test_list_rotate_and_revoke(shell):
    (limited,) = blocks("Say what it may do")
    listed, rotated, revoked, found = blocks("List, rotate, revoke")
    id_ = re.search(r"key_\w+", shell(limited))[0]
    assert id_ in shell(listed)
    successor = shell(rotated.replace(ID, id_))
    text, new = re.search(r"sk-sn-\S+", successor)[0], re.search(r"key_\w+", successor)[0]
    shell(revoked.replace(ID, id_))
    assert new in shell(found, KEY=text)
    assert [line.split()[0] for line in shell(listed).splitlines() if "revoked" in line] == sorted([id_, new])


def test_the_curls_work(shell, serve, tmp_path):
    gateway = serve(SENTINEL_DATA_DIR=str(tmp_path / "data"), SENTINEL_ADMIN_KEY=ADMIN)
    script = blocks("Over HTTP")[0].replace(GATEWAY, gateway.base_url)
    made, listed, log = shell(script.replace("\ncurl", "\necho\ncurl")).splitlines()
    assert is_key_text(json.loads(made)["key"])
    assert [key["id"] for key in json.loads(listed)["data"]] == [json.loads(made)["id"]]
    assert [entry["action"] for entry in json.loads(log)["data"]] == ["key.create"]


def yaml(section: str) -> str:
    (block,) = re.findall(r"```yaml\n(.*?)```", SECTIONS[section], re.DOTALL)
    return block


def test_without_a_key_the_probes_answer_and_nothing_else(serve, tmp_path):
    (tmp_path / "sentinel.yaml").write_text(yaml("When one is needed"))
    gateway = serve()
    public = re.findall(r"`(/\w+)`", SECTIONS["When one is needed"])
    assert len(public) == 5
    assert {gateway.request("GET", path).status for path in public} == {200}
    assert {gateway.request("GET", path).status for path in ("/metrics", "/v1/models", "/nowhere")} == {401}


def test_tenants_of_a_group_answer_each_other(shell, serve, tmp_path):
    (tmp_path / "sentinel.yaml").write_text(yaml("Tenants"))
    make = "sentinel keys create --name x --tenant {} --json"
    keys = [json.loads(shell(make.format(tenant)))["key"] for tenant in ("acme", "partner", "other")]
    gateway = serve(SENTINEL_DATA_DIR=str(tmp_path / "data"))
    caches = [gateway.ask("Whose answer?", Authorization=f"Bearer {key}").headers["x-cache"] for key in keys]
    assert caches == ["miss", "exact", "miss"]


def test_others_are_served_when_there_is_a_key(shell, serve, tmp_path):
    (tmp_path / "sentinel.yaml").write_text(yaml("Serve others"))
    where = {"SENTINEL_DATA_DIR": str(tmp_path / "data")}
    with pytest.raises(AssertionError, match="there is no client key yet"):
        serve(**where)
    key = json.loads(shell("sentinel keys create --name first --json"))["key"]
    gateway = serve(**where)
    name = {"Host": "ai.example.com"}
    assert gateway.request("GET", "/v1/models", **name).status == 401
    known = gateway.request("GET", "/v1/models", Authorization=f"Bearer {key}", **name)
    assert (known.status, known.json["data"]) == (200, []), "the demo is off"
    assert gateway.request("GET", "/v1/models", Authorization=f"Bearer {key}", Host="other.example.com").status == 421


def test_what_can_be_asked_for_is_all_there():
    options = re.findall(r"--[a-z][a-z-]*", SECTIONS["Say what it may do"].partition("| option")[2])
    shown = subprocess.run(
        [sys.executable, "-m", "sentinel_gateway", "keys", "create", "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    asked = set(re.findall(r"--[a-z][a-z-]*", shown)) - {"--help", "--name", "--config", "--json"}
    assert set(options) - {"--help"} == asked
    assert {scope for scope in get_args(KeyScope) if f"`{scope}`" not in SECTIONS["Say what it may do"]} == set()
    fields = set(CreateBody.model_fields) | set(LimitsBody.model_fields)
    assert {field for field in fields if f"`{field}`" not in SECTIONS["Over HTTP"]} == set()
