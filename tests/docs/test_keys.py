"""docs/keys.md: every command in it works as it stands there, and its tables name what the code names."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import anyio
import pytest
import uvicorn

from sentinel_gateway.api.guard import Guard, Policy
from sentinel_gateway.api.keys import CreateBody, KeyAdmin, LimitsBody
from sentinel_gateway.api.management import build_management
from sentinel_gateway.core.access import KeyScope, is_key_text
from sentinel_gateway.core.issuance import Minter
from sentinel_gateway.pipeline.authentication import Authenticator
from sentinel_gateway.pipeline.keyring import KeyRing
from sentinel_gateway.stores.admin_key import digest_of
from sentinel_gateway.stores.secret import gateway_secret
from tests.contract.keys.conftest import open_state
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


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[str]:
    """The routes of the page, served; their base URL."""
    secret = gateway_secret(tmp_path / "data", None)
    listening, stop = threading.Event(), threading.Event()
    address: list[str] = []

    async def run() -> None:
        state = await open_state(tmp_path / "data", secret)
        ring = await KeyRing.open(state.keys, clock=lambda: 1e9, on_event=print)
        door = Authenticator(ring, pepper=secret, admin_hash=digest_of(ADMIN), clock=lambda: 1e9)

        def who(request: Any) -> Any:
            return door.authenticate(request.headers.get("authorization", "").encode(), None, address="::1")

        admin = KeyAdmin(state.keys, state.log, ring, Minter(secret), who=who, clock=lambda: 1e9)
        app = build_management([admin.routes()], Guard(door, ring, Policy(required=True)))
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off"))
        async with anyio.create_task_group() as group:
            group.start_soon(server.serve)
            while not server.started:  # noqa: ASYNC110 - it has no event for that
                await anyio.sleep(0.01)
            address.append(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}")
            listening.set()
            await anyio.to_thread.run_sync(stop.wait)
            server.should_exit = True
        await ring.close()
        await state.file.close()

    thread = threading.Thread(target=anyio.run, args=(run,))
    thread.start()
    assert listening.wait(20)
    yield address[0]
    stop.set()
    thread.join(20)


def test_the_curls_work(shell, gateway):
    script = blocks("Over HTTP")[0].replace(GATEWAY, gateway)
    made, listed, log = shell(script.replace("\ncurl", "\necho\ncurl")).splitlines()
    assert is_key_text(json.loads(made)["key"])
    assert [key["id"] for key in json.loads(listed)["data"]] == [json.loads(made)["id"]]
    assert [entry["action"] for entry in json.loads(log)["data"]] == ["key.create"]


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
