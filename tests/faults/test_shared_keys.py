"""A7 on PostgreSQL: nodes with nothing in common but a database and a Redis know the same keys, and lose none when it is away."""

import asyncio
import json
import os
import subprocess
import sys
import time
from functools import partial
from typing import Any

import pytest

from tests.faults.conftest import ADMIN, SECRET, Node
from tests.process.conftest import DEADLINE

pytestmark = pytest.mark.anyio

OPERATOR = {"authorization": f"Bearer {ADMIN}"}
SOON = 1.0
"""Seconds within which a change of keys has to be known on all nodes."""
HITS = 50
GOOD, WRONG = {200}, {401, 429}
"""429: there have been many wrong keys from one address, which is refused like any of them."""


@pytest.fixture
def url(postgres) -> str:
    return postgres.fresh()


@pytest.fixture
async def both(nodes, url):
    """Two nodes, each with a folder of its own, that ask for keys from the start."""
    return await nodes(SENTINEL_DATABASE_URL=url, SENTINEL_KEYS__REQUIRED="true")


async def call(node: Node, path: str, body: Any = None) -> Any:
    answer = await asyncio.to_thread(partial(node.request, "POST", path, body, **OPERATOR))
    assert answer.status in {200, 201}, answer
    return answer.json


async def make(node: Node) -> tuple[str, dict[str, str]]:
    made = await call(node, "/admin/keys", {"name": "test"})
    return made["id"], {"authorization": f"Bearer {made['key']}"}


async def becomes(node: Node, status: set[int], key: dict[str, str], seconds: float = SOON) -> float:
    """How long it took until a key got this."""
    begun = time.monotonic()
    while (await node.asks("hello?", **key)).status not in status:
        assert time.monotonic() - begun < seconds, f"not {status} within {seconds:g} s"
    return time.monotonic() - begun


def sentinel(home: Any, url: str, *arguments: str) -> Any:
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "COVERAGE_PROCESS_CONFIG") if name in os.environ}
    own = {"HOME": str(home), "SENTINEL_SECRET": SECRET, "SENTINEL_DATABASE_URL": url}
    command = [sys.executable, "-m", "sentinel_gateway", "keys", *arguments, "--json"]
    done = subprocess.run(command, env=kept | own, cwd=home, capture_output=True, check=True, timeout=60)
    return json.loads(done.stdout)


async def test_what_one_node_makes_and_revokes_is_so_on_the_other(both):
    one, two = both
    id_, key = await make(one)
    await becomes(two, GOOD, key)
    assert (await two.asks("hello?", **key)).headers["x-cache"] == "exact"
    await call(one, f"/admin/keys/{id_}/revoke")
    await becomes(two, WRONG, key)
    for node in both:
        for _ in range(HITS):
            assert (await node.asks("hello?", **key)).status in WRONG


async def test_what_is_done_on_the_command_line_of_another_machine(both, url, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    run = partial(asyncio.to_thread, sentinel, elsewhere, url)
    made = await run("create", "--name", "from afar")
    key = {"authorization": f"Bearer {made['key']}"}
    for node in both:
        await becomes(node, GOOD, key)
    await run("revoke", made["id"])
    for node in both:
        await becomes(node, WRONG, key)
    log = json.loads((await both[1].gets("/admin/audit")).body)["data"]
    assert [(entry["action"], entry["actor"]) for entry in log] == [("key.revoke", "cli"), ("key.create", "cli")]


async def test_while_the_database_is_away_known_keys_work_and_no_other_is_called_wrong(both, postgres):
    one, two = both
    id_, key = await make(one)
    await becomes(two, GOOD, key)
    postgres.stop()
    try:
        await two.told("keys_down")
        assert (await two.asks("hello?", **key)).status == 200
        stranger = {"authorization": "Bearer sk-sn-" + "x" * 49}
        await becomes(two, {503}, stranger, DEADLINE)  # 2 s after the last answer of the database
        refused = await two.asks("hello?", **stranger)
        assert refused.json["error"]["code"] == "keys_unavailable"
        assert int(refused.headers["retry-after"]) >= 1
        change = await asyncio.to_thread(partial(one.request, "POST", f"/admin/keys/{id_}/revoke", None, **OPERATOR))
        assert change.status == 503
        assert (await two.asks("hello?", **key)).status == 200
    finally:
        postgres.start()
    await two.told("keys_up")
    await becomes(two, WRONG, stranger, DEADLINE)
    await call(one, f"/admin/keys/{id_}/revoke")
    await becomes(two, WRONG, key)


async def test_a_node_that_starts_while_the_database_is_away_lets_nobody_in_until_it_is_back(both, start, url, postgres):
    """One that others can reach."""
    _, key = await make(both[0])
    postgres.stop()
    try:
        late = await start("late", SENTINEL_DATABASE_URL=url, HOST="0.0.0.0")
        for headers in ({}, key, {"authorization": "Bearer sk-sn-" + "x" * 49}):
            assert (await late.asks("hello?", **headers)).status in {401, 503}
        assert (await late.asks("hello?", **key)).status == 503
    finally:
        postgres.start()
    await becomes(late, GOOD, key, DEADLINE)
