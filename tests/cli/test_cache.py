"""`sentinel cache`: a running gateway asked over HTTP, as its operator."""

import json
import re
import time

import pytest

from tests.process.conftest import serve
from tests.servers import free_port

__all__ = ["serve"]

ADMIN = "sk-sn-admin-of-the-tests"
FRANCE = "What is the capital of France?"
SOUP = "How long does an onion soup have to cook?"


@pytest.fixture
def program(serve):
    """A gateway that has answered two questions."""
    program = serve(SENTINEL_ADMIN_KEY=ADMIN)
    program.ask(FRANCE, **{"x-cache-tags": "geo"})
    program.ask(SOUP)
    return program


@pytest.fixture
def cache(program, sentinel):
    """cache("list") asks it."""

    def cache(command, *args, key=ADMIN):
        return sentinel("cache", command, *args, "--url", program.base_url, **({"SENTINEL_ADMIN_KEY": key} if key else {}))

    end = time.monotonic() + 90
    while len(json.loads(cache("list", "--json").stdout)) < 2:
        assert time.monotonic() < end
    return cache


def ids(result) -> list[str]:
    return re.findall(r"^([0-9a-f]{64})  ", result.stdout, re.MULTILINE)


def test_what_is_stored_is_listed_shown_and_changed(cache):
    listed = cache("list", "--words", "capital france")
    assert (listed.exit_code, listed.stderr) == (0, "")
    assert FRANCE in listed.stdout
    (entry,) = ids(listed)
    assert ids(cache("list", "--tag", "geo")) == [entry]
    assert len(ids(cache("list"))) == 2
    assert cache("list", "--words", "zebra").stdout == "Nothing that fits.\n"
    assert "There are more" in cache("list", "--limit", "1").stdout
    shown = cache("show", entry).stdout
    assert FRANCE in shown
    assert re.search(r"^tags +geo$", shown, re.MULTILINE)
    assert re.search(r"^pinned +True$", cache("pin", entry).stdout, re.MULTILINE)
    assert ids(cache("list", "--state", "pinned")) == [entry]
    assert "pinned" in cache("list", "--state", "pinned").stdout
    assert json.loads(cache("unpin", entry, "--ttl", "2h", "--json").stdout)["expires"] - time.time() == pytest.approx(
        7200, abs=60
    )
    assert cache("expire", entry).exit_code == 0
    assert ids(cache("list", "--state", "expired")) == [entry]
    assert json.loads(cache("remove", entry, "--json").stdout) == {"id": entry, "removed": True}
    gone = cache("show", entry)
    assert (gone.exit_code, gone.stdout) == (1, "")
    assert "No stored answer has this id" in gone.stderr


def test_a_clear_is_seen_before_it_is_done(cache):
    preview = cache("clear", "--tag", "geo", "--dry-run")
    assert preview.stdout.startswith("Nothing was cleared. A clear would remove 1.\n")
    assert len(ids(preview)) == 1
    assert len(ids(cache("list"))) == 2
    assert cache("clear", "--older-than", "7d").stdout == "Matching entries cleared.\n0 cleared.\n"
    assert cache("clear", "--tag", "geo").stdout == "Matching entries cleared.\n1 cleared.\n"
    assert cache("clear").stdout == "Cache cleared.\n1 cleared.\n"


def test_statistics(cache):
    assert re.search(r"^misses +2$", cache("stats").stdout, re.MULTILINE)
    assert json.loads(cache("stats", "--json").stdout)["services"]["disk"] == "up"


def test_what_the_gateway_refuses_is_said(cache):
    wrong = cache("list", key=f"{ADMIN}x")
    assert (wrong.exit_code, wrong.stdout) == (1, "")
    assert wrong.stderr.startswith("sentinel: ")
    assert ADMIN not in wrong.stderr
    assert "SENTINEL_ADMIN_KEY" in cache("list", key=None).stderr
    assert "sort" in cache("list", "--sort", "backwards").stderr


def test_no_gateway_is_said_so(sentinel):
    result = sentinel("cache", "stats", "--url", f"http://127.0.0.1:{free_port()}", SENTINEL_ADMIN_KEY=ADMIN)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no gateway answers at http://127.0.0.1:" in result.stderr
    assert "--url" in result.stderr


@pytest.mark.parametrize(
    "args", [("cache",), ("cache", "list", "--limit", "0"), ("cache", "list", "--older-than", "soon"), ("cache", "show")], ids=str
)
def test_what_cannot_be_understood(sentinel, args):
    assert sentinel(*args).exit_code == 2
