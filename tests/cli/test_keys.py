"""`sentinel keys`: made, shown once, listed, rotated, revoked; what is refused, and how."""

import asyncio
import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from sentinel_gateway.cli.key_desk import PAGE
from sentinel_gateway.core.access import is_key_text, key_digest
from sentinel_gateway.errors import InvalidKey, TooManyBadKeys
from sentinel_gateway.pipeline.authentication import Authenticator
from sentinel_gateway.pipeline.keyring import KeyRing
from sentinel_gateway.stores.lone_bulletin import LoneBulletin
from sentinel_gateway.stores.secret import gateway_secret
from tests.contract.keys.conftest import open_state
from tests.gateway import until

ID = re.compile(r"key_[0-9a-f]{16}")
SECRET = "0123456789abcdef" * 4
SOON = 5.0
"""Seconds in which a node knows of a change: in one, where nothing else holds the machine up."""


@pytest.fixture
def keys(sentinel, tmp_path):
    """keys("create", "--name", "x") as JSON; it must succeed."""

    def run(*args):
        result = sentinel("keys", *args, "--json", SENTINEL_DATA_DIR=str(tmp_path / "data"))
        assert (result.exit_code, result.stderr) == (0, ""), result
        return json.loads(result.stdout)

    return run


@pytest.fixture
def plain(sentinel, tmp_path):
    """As `keys`, for people, whatever comes of it."""
    return lambda *args: sentinel("keys", *args, SENTINEL_DATA_DIR=str(tmp_path / "data"))


def in_days(shown: float, days: float) -> bool:
    return abs(shown - (datetime.now(UTC) + timedelta(days=days)).timestamp()) < 60


def test_a_key_is_shown_once(plain, tmp_path):
    result = plain(
        "create", "--name", "mobile app", "--rpm", "600", "--user-tpm", "5", "--model", "gpt-*", "--expires", "2999-01-31"
    )
    [text] = re.findall(r"^Key, shown only this once: (\S+)$", result.stdout, re.MULTILINE)
    assert is_key_text(text)
    assert result.stdout.split("\n", 1)[1] == (
        f"id          {ID.search(result.stdout)[0]}\n"
        "name        mobile app\n"
        "tenant      default\n"
        "scopes      inference\n"
        "models      gpt-*\n"
        "expires     2999-01-31 00:00 UTC\n"
        "limits      requests_per_minute 600\n"
        "user limits tokens_per_minute 5\n"
    )
    assert text not in plain("list").stdout
    assert not any(text.encode() in path.read_bytes() for path in (tmp_path / "data").iterdir())


def test_a_key_for_a_file_is_shown_nowhere(keys, plain, tmp_path):
    file = tmp_path / "read-key"
    made = keys("create", "--name", "prometheus", "--scope", "read", "--to", str(file))
    assert "key" not in made
    assert is_key_text(file.read_text())
    assert file.stat().st_mode & 0o777 == 0o640
    told = plain("create", "--name", "another", "--to", str(tmp_path / "other"))
    assert f"The key is in {tmp_path / 'other'}, and nowhere else.\n" in told.stdout
    assert "sk-sn-" not in told.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"data", "other", "read-key"}, "no draft is left"


def test_a_file_that_holds_a_good_key_is_left_alone(keys, plain, tmp_path):
    file = tmp_path / "read-key"
    asked = ("create", "--name", "prometheus", "--scope", "read", "--to", str(file))
    made, text = keys(*asked), file.read_text()
    assert keys(*asked)["id"] == made["id"]
    assert f"No key was made: {made['id']} (prometheus) is there, and good." in plain(*asked).stdout
    assert file.read_text() == text
    keys("revoke", made["id"])
    assert keys(*asked)["id"] != made["id"]
    assert file.read_text() != text
    file.write_text("no key at all")
    keys(*asked)
    assert is_key_text(file.read_text())
    assert len(keys("list")["data"]) == 3


def test_a_file_that_cannot_be_written_makes_no_key(keys, plain, tmp_path):
    refused = plain("create", "--name", "x", "--to", str(tmp_path / "nowhere" / "key"))
    assert refused.exit_code == 2
    assert "the key can't be written there: No such file or directory" in refused.stderr
    assert keys("list")["data"] == []


def test_once_makes_one_of_a_name(keys):
    asked = ("create", "--name", "first", "--once")
    made = keys(*asked)
    assert is_key_text(made["key"])
    keys("create", "--name", "first one")
    again = keys(*asked)
    assert (again["id"], "key" in again) == (made["id"], False)
    assert keys(*asked, "--tenant", "acme")["id"] != made["id"]
    keys("revoke", made["id"])
    assert is_key_text(keys(*asked)["key"])


def test_everything_that_can_be_asked_for(keys):
    made = keys(
        *("create", "--name", "n", "--tenant", "acme", "--scope", "read", "--scope", "admin", "--model", "a", "--model", "b*"),
        *("--expires", "2h", "--trial", "--rpm", "1", "--tpm", "2", "--concurrency", "3"),
        *("--user-rpm", "4", "--user-tpm", "5", "--user-concurrency", "6"),
        *("--max-wrong-hit-rate", "0.005"),
        *("--budget-day", "2.5"),
    )
    assert is_key_text(made.pop("key"))
    assert in_days(made.pop("expires"), 2 / 24)
    assert in_days(made.pop("created"), 0)
    assert made == {
        "id": made["id"],
        "hint": made["hint"],
        "name": "n",
        "tenant": "acme",
        "scopes": ["admin", "read"],
        "models": ["a", "b*"],
        "trial": True,
        "limits": {"requests_per_minute": 1, "tokens_per_minute": 2, "concurrency": 3},
        "user_limits": {"requests_per_minute": 4, "tokens_per_minute": 5, "concurrency": 6},
        "max_wrong_hit_rate": 0.005,
        "budget": {"day": "2.5", "month": None},
        "revoked": None,
        "successor": None,
        "status": "active",
    }
    assert keys("list")["data"][0] | {"expires": None, "created": None} == made | {"expires": None, "created": None}


@pytest.mark.parametrize("share", ["half", "1.5", "-1", "nan"])
def test_a_share_that_is_none(plain, share):
    result = plain("create", "--name", "n", f"--max-wrong-hit-rate={share}")
    assert result.exit_code == 2
    assert "argument --max-wrong-hit-rate: " in result.stderr
    assert "from 0 to 1, such as 0.005" in result.stderr


def test_a_share_is_shown(plain):
    assert "wrong hits  0.005 at most\n" in plain("create", "--name", "n", "--max-wrong-hit-rate", "0.005").stdout


@pytest.mark.parametrize(
    ("when", "days"), [("90s", 90 / 86400), ("30m", 1 / 48), ("12h", 0.5), ("7d", 7), ("4w", 28), ("99999d", 99999)]
)
def test_times_from_now(keys, when, days):
    assert in_days(keys("create", "--name", "n", "--expires", when)["expires"], days)


@pytest.mark.parametrize(
    ("when", "moment"),
    [
        ("2999-01-31", datetime(2999, 1, 31, tzinfo=UTC)),
        ("2999-01-31T12:30", datetime(2999, 1, 31, 12, 30, tzinfo=UTC)),
        ("2999-01-31T12:30+02:00", datetime(2999, 1, 31, 10, 30, tzinfo=UTC)),
    ],
)
def test_dates(keys, when, moment):
    assert keys("create", "--name", "n", "--expires", when)["expires"] == moment.timestamp()


def test_a_list_is_a_table_in_the_order_of_names(keys, plain):
    assert plain("list").stdout == "No keys.\n"
    made = {
        name: keys("create", "--name", name, *more)
        for name, *more in (["zebra", "--tenant", "acme"], ["App"], ["apple", "--expires", "2999-01-31"])
    }
    keys("revoke", made["App"]["id"])
    head, *lines = plain("list").stdout.splitlines()
    assert head.split() == ["id", "name", "tenant", "scopes", "status", "expires", "hint"]
    assert [re.split(r"  +", line) for line in lines] == [
        [made["App"]["id"], "App", "default", "inference", "revoked", "never", made["App"]["hint"]],
        [made["apple"]["id"], "apple", "default", "inference", "active", "2999-01-31 00:00 UTC", made["apple"]["hint"]],
        [made["zebra"]["id"], "zebra", "acme", "inference", "active", "never", made["zebra"]["hint"]],
    ]
    assert [key["name"] for key in keys("list", "--search", "APP")["data"]] == ["App", "apple"]
    assert [key["name"] for key in keys("list", "--tenant", "acme")["data"]] == ["zebra"]
    assert keys("list", "--search", "%") == {"data": []}


def test_a_key_of_the_far_future_is_listed(keys, plain, tmp_path):
    keys("create", "--name", "n")

    async def create() -> None:
        state = await open_state(tmp_path / "data", gateway_secret(tmp_path / "data", None))
        await state.create(1, name="far", expires=1e18)
        await state.file.close()

    asyncio.run(create())
    assert "  after 9999  " in plain("list", "--search", "far").stdout


def test_a_list_of_many_pages_is_whole(keys, tmp_path):
    first = keys("create", "--name", "n")["id"]

    async def fill() -> set[str]:
        state = await open_state(tmp_path / "data", gateway_secret(tmp_path / "data", None))
        made = {(await state.create(number)).id for number in range(2 * PAGE)}
        await state.file.close()
        return made

    expected = asyncio.run(fill()) | {first}
    found = [key["id"] for key in keys("list")["data"]]
    assert len(found) == 2 * PAGE + 1
    assert set(found) == expected


def test_revoking(keys, plain):
    made = keys("create", "--name", "n")
    assert plain("revoke", made["id"]).stdout == f"Revoked {made['id']} (n). A running gateway refuses it within a second.\n"
    assert keys("list")["data"][0]["status"] == "revoked"
    assert keys("revoke", made["id"])["status"] == "revoked"


def test_revoking_a_key_that_was_found(keys, plain, monkeypatch):
    made, other = keys("create", "--name", "leaked"), keys("create", "--name", "other")
    read, write = os.pipe()
    os.write(write, made["key"].encode() + b"\n")
    os.close(write)
    with os.fdopen(read) as found:
        monkeypatch.setattr(sys, "stdin", found)
        assert keys("revoke", "-")["id"] == made["id"]
    for text in (made["key"][:-1], made["id"], "", "sk-proj-other"):
        read, write = os.pipe()
        os.write(write, text.encode())
        os.close(write)
        with os.fdopen(read) as found:
            monkeypatch.setattr(sys, "stdin", found)
            result = plain("revoke", "-")
            assert (result.exit_code, result.stdout) == (1, "")
            assert "not a whole one" in result.stderr
    assert {key["id"]: key["status"] for key in keys("list")["data"]} == {made["id"]: "revoked", other["id"]: "active"}


def test_rotating(keys, plain):
    made = keys("create", "--name", "n", "--rpm", "5", "--expires", "30d")
    new = keys("rotate", made["id"])
    assert is_key_text(new["key"])
    assert (new["name"], new["limits"], new["expires"]) == ("n", made["limits"], made["expires"])
    assert new["rotated"]["successor"] == new["id"]
    assert in_days(new["rotated"]["expires"], 1)
    result = plain("rotate", new["id"], "--overlap", "2h")
    assert re.search(rf"^{new['id']} lives on until \d{{4}}-\d\d-\d\d \d\d:\d\d UTC\.$", result.stdout, re.MULTILINE)
    [again] = [key for key in keys("list")["data"] if key["id"] == new["id"]]
    assert in_days(again["expires"], 2 / 24)


def test_what_is_refused(keys, plain, sentinel, tmp_path):
    made = keys("create", "--name", "n")
    keys("revoke", made["id"])
    assert plain("rotate", made["id"]) == (1, "", "sentinel keys: This key is revoked: create a new one.\n")
    assert plain("revoke", "key_0") == (1, "", "sentinel keys: There is no such key.\n")
    result = sentinel("keys", "rotate", made["id"], "--json", SENTINEL_DATA_DIR=str(tmp_path / "data"))
    assert (result.exit_code, result.stderr) == (1, "")
    assert json.loads(result.stdout) == {"ok": False, "code": "key_ended", "error": "This key is revoked: create a new one."}


@pytest.mark.parametrize(
    ("args", "fault"),
    [
        ([], "the following arguments are required: --name"),
        (["--name", ""], "argument --name: must have 1 to 100 printable characters, and no space at its ends"),
        (["--name", "a\nb"], "argument --name: must have 1 to 100 printable characters, and no space at its ends"),
        (
            ["--name", "n", "--tenant", ""],
            "argument --tenant: must have 1 to 1024 printable",
        ),
        (["--name", "n", "--scope", "root"], "argument --scope: must be some of inference, read, admin"),
        (
            ["--name", "n", "--model", "a*b"],
            "argument --model: must be names of 1 to 200 printable characters; a '*' may stand at the end only",
        ),
        (["--name", "n", "--expires", "2001-01-01"], "argument --expires: must be in the future"),
        (["--name", "n", "--expires", "0s"], "argument --expires: must be in the future"),
        (
            ["--name", "n", "--expires", "soon"],
            "argument --expires: 'soon' is neither a time nor a date: write 90s, 30m, 12h, 7d or 4w, or",
        ),
        (["--name", "n", "--rpm", "0"], "argument --rpm: must be from 1 to 1000000000"),
        (["--name", "n", "--tpm", "1000000001"], "argument --tpm: must be from 1 to 1000000000"),
        (["--name", "n", "--user-concurrency", "0"], "argument --user-concurrency: must be from 1 to 1000000000"),
        (["--name", "n", "--rpm", "-5"], "argument --rpm: '-5' is no whole number"),
        (["--name", "n", "--rpm", "1" * 5000], f"argument --rpm: '{'1' * 5000}' is no whole number"),
        (["--name", "n", "--rpm", "1.5"], "argument --rpm: '1.5' is no whole number"),
    ],
)
def test_what_cannot_be_made(plain, tmp_path, args, fault):
    result = plain("create", *args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"sentinel keys create: {fault}")
    assert result.stderr.endswith(" (see sentinel keys create --help)\n")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "data" / "sentinel.db").exists()


@pytest.mark.parametrize("overlap", ["1", "h", "1y", "-1h", "999999h"])
def test_an_overlap_that_is_no_time(plain, overlap):
    result = plain("rotate", "key_0", f"--overlap={overlap}")
    fault = f"argument --overlap: '{overlap}' is no time: write 90s, 30m, 12h, 7d or 4w"
    assert (result.exit_code, result.stderr) == (2, f"sentinel keys rotate: {fault} (see sentinel keys rotate --help)\n")


def test_without_a_command_it_shows_help(sentinel):
    result = sentinel("keys")
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", sentinel("keys", "--help").stdout)
    assert (
        sentinel("keys", "lst").stderr
        == "sentinel keys: unknown command 'lst'; did you mean 'list'? (see sentinel keys --help)\n"
    )


@pytest.mark.parametrize("command", ["create", "list", "revoke", "rotate"])
def test_help_is_plain_text_and_has_examples(sentinel, command):
    result = sentinel("keys", command, "--help")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"usage: sentinel keys {command} [-h]")
    assert result.stdout.isascii()
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert f"\n\nExamples:\n  sentinel keys {command}" in result.stdout
    assert "--config FILE" in result.stdout
    assert "--json" in result.stdout


def test_the_secret_that_is_configured_counts(sentinel, tmp_path):
    folder = {"SENTINEL_DATA_DIR": str(tmp_path / "data")}
    made = json.loads(sentinel("keys", "create", "--name", "n", "--json", SENTINEL_SECRET=SECRET, **folder).stdout)
    database = sqlite3.connect(tmp_path / "data" / "sentinel.db")
    assert database.execute("SELECT digest, id FROM keys").fetchall() == [(key_digest(SECRET.encode(), made["key"]), made["id"])]
    assert database.execute("SELECT actor, action FROM audit").fetchall() == [("cli", "key.create")]
    database.close()
    result = sentinel("keys", "list", **folder)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "its keys were made with another secret" in result.stderr
    result = sentinel("keys", "list", "--json", SENTINEL_SECRET="changeme", **folder)
    assert result.exit_code == 2
    assert json.loads(result.stdout)["faults"][0]["place"] == "env SENTINEL_SECRET"


def test_a_database_that_is_busy_is_told(plain, tmp_path):
    plain("create", "--name", "n")
    holder = sqlite3.connect(tmp_path / "data" / "sentinel.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    result = plain("create", "--name", "m", "--to", str(tmp_path / "read-key"))
    holder.execute("ROLLBACK")
    holder.close()
    assert (result.exit_code, result.stdout) == (1, "")
    # The second is what is said where the machine stood still meanwhile: five seconds are over, of which the lock may take three.
    assert re.search("database is locked|did not answer within 5 s", result.stderr), result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["data"], "no file for a key that was not made"


def test_help_of_a_key_needs_no_database(tmp_path):
    code = (
        "import sys, sentinel_gateway.cli as c\n"
        "try: c.main()\n"
        "finally: print({'sqlite3', 'asyncio', 'pydantic', 'msgspec'} & sys.modules.keys(), file=sys.stderr)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, "keys", "create", "--help"],
        cwd=tmp_path,
        env={"HOME": str(tmp_path)} | {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert result.stderr == "set()\n"


@pytest.mark.anyio
async def test_a_running_node_follows_within_a_second(tmp_path):
    folder = tmp_path / "data"
    secret = gateway_secret(folder, None)
    state = await open_state(folder, secret)
    ring = await KeyRing.open(state.keys, bulletin=LoneBulletin(), clock=time.monotonic, on_event=print)
    door = Authenticator(ring, pepper=secret, admin_hash="", clock=time.monotonic)

    def enters(text: str) -> bool:
        with suppress(InvalidKey, TooManyBadKeys):
            return bool(door.authenticate(f"Bearer {text}".encode(), None, address="::1"))
        return False

    async def run(*args: str) -> Any:
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "COVERAGE_PROCESS_CONFIG") if name in os.environ}
        env = kept | {"HOME": str(tmp_path), "SENTINEL_DATA_DIR": str(folder)}
        done = await anyio.run_process([sys.executable, "-m", "sentinel_gateway", "keys", *args, "--json"], env=env)
        return json.loads(done.stdout)

    made = await run("create", "--name", "n", "--expires", "2999-01-01")
    assert await until(lambda: enters(made["key"])) < SOON
    successor = await run("rotate", made["id"])
    assert await until(lambda: enters(successor["key"])) < SOON
    assert enters(made["key"])
    await run("revoke", made["id"])
    assert await until(lambda: not enters(made["key"])) < SOON
    assert enters(successor["key"])
    await ring.close()
    await state.file.close()


# --- PostgreSQL ---


@pytest.fixture
def shared(sentinel, tmp_path, postgres):
    """As `keys`, with a PostgreSQL, and one secret for all."""
    url = postgres.fresh()

    def run(*args, folder="data", **env):
        own = {"SENTINEL_DATA_DIR": str(tmp_path / folder), "SENTINEL_SECRET": SECRET, "SENTINEL_DATABASE_URL": url}
        return sentinel("keys", *args, "--json", **own | env)

    return run


def test_keys_of_the_folder_come_along(shared):
    made = json.loads(shared("create", "--name", "early", SENTINEL_DATABASE_URL="").stdout)
    for folder in ("data", "another"):
        [found] = json.loads(shared("list", folder=folder).stdout)["data"]
        assert (found["id"], found["name"], found["status"]) == (made["id"], "early", "active")
    shared("revoke", made["id"], folder="another")
    [found] = json.loads(shared("list").stdout)["data"]
    assert found["status"] == "revoked", "what is still good in the folder is not brought back"


def test_a_database_that_is_away_is_told(shared):
    result = shared("list", SENTINEL_DATABASE_URL="postgresql://sentinel:hunter2@127.0.0.1:1/none")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert (told["ok"], told["code"]) == (False, "keys_unavailable")
    assert "127.0.0.1" in told["error"]
    assert "hunter2" not in result.stdout + result.stderr
