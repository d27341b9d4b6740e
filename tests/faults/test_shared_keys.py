"""A7 on PostgreSQL: nodes with nothing in common but a database and a Redis know the same keys, and lose none when it is away."""

import asyncio
import hashlib
import hmac
import json
import os
import subprocess
import sys
from functools import partial
from typing import Any

import pytest

from tests.faults.conftest import ADMIN, SECRET, Node
from tests.process.conftest import DEADLINE
from tests.still import awake

pytestmark = pytest.mark.anyio

OPERATOR = {"authorization": f"Bearer {ADMIN}"}
SOON = 5.0
"""Seconds within which a change of keys is known on all nodes: within one, where nothing else holds the machine up."""
HITS = 50
GOOD, WRONG, SPENT = {200}, {401, 429}, {429}
"""A wrong key's 429: there have been many from one address, which is refused like any of them."""
UNSURE = {503}
"""For a moment after a machine stood still, a node can't say whether a key is a new one."""


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


async def make(node: Node, **more: Any) -> tuple[str, dict[str, str]]:
    made = await call(node, "/admin/keys", {"name": "test"} | more)
    return made["id"], {"authorization": f"Bearer {made['key']}"}


async def allow(node: Node, id_: str, usd: str) -> None:
    """So much a day."""
    asked = partial(node.request, "PUT", f"/admin/keys/{id_}/budget", {"day": usd}, **OPERATOR)
    assert (await asyncio.to_thread(asked)).status == 200


async def becomes(node: Node, status: set[int], key: dict[str, str], seconds: float = SOON) -> float:
    """How long it took until a key got this, while the machine ran."""
    with awake() as clock:
        begun = clock()
        while (await node.asks("hello?", **key)).status not in status:
            assert clock() - begun < seconds, f"not {status} within {seconds:g} s"
        return clock() - begun


def sentinel(home: Any, url: str, *arguments: str) -> Any:
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "COVERAGE_PROCESS_CONFIG") if name in os.environ}
    own = {"HOME": str(home), "SENTINEL_SECRET": SECRET, "SENTINEL_DATABASE_URL": url}
    command = [sys.executable, "-m", "sentinel_gateway", "keys", *arguments, "--json"]
    done = subprocess.run(command, env=kept | own, cwd=home, capture_output=True, check=True, timeout=60)
    return json.loads(done.stdout)


async def test_what_one_node_makes_and_revokes_is_so_on_the_other(both):
    """And so is a budget that it lowers: below what is spent already, it refuses answers from the cache as well."""
    one, two = both
    id_, key = await make(one, budget={"day": "1"})
    await becomes(two, GOOD, key)
    assert (await two.asks("hello?", **key)).headers["x-cache"] == "exact"
    await allow(one, id_, "0.000000001")
    await becomes(two, SPENT, key)
    for node in both:
        assert (await node.asks("hello?", **key)).json["error"]["code"] == "insufficient_quota"
    await allow(one, id_, "1")
    await becomes(two, GOOD, key)
    await call(one, f"/admin/keys/{id_}/revoke")
    await becomes(two, WRONG, key)
    for node in both:
        for _ in range(HITS):
            assert (await node.asks("hello?", **key)).status in WRONG | UNSURE


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


async def test_what_the_database_holds_gives_no_key_away(both, postgres, url):
    """A1. Whoever has a copy of it, and a million guesses with the true key among them, finds none right without our secret."""
    one, two = both
    id_, key = await make(one)
    await becomes(two, GOOD, key)
    await call(one, f"/admin/keys/{id_}/revoke")
    copy, text = await asyncio.to_thread(postgres.dump, url), key["authorization"].removeprefix("Bearer ")
    assert id_ in copy
    assert text[-4:] in copy, "its last signs are shown in lists"
    assert text[5:-4] not in copy
    assert SECRET not in copy
    assert ADMIN not in copy
    for made in (hashlib.sha256, hashlib.sha1, hashlib.md5, hashlib.blake2b):
        assert made(text.encode()).hexdigest() not in copy
    for pepper in ("", "sentinel", text):
        assert hmac.new(pepper.encode(), text.encode(), "sha256").hexdigest() not in copy


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
