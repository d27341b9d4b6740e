"""docs/scaling.md says what the code says; its nginx is run by tests/faults/test_kill.py, its outages by tests/faults."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sentinel_gateway.settings.load import load
from sentinel_gateway.stores._redis import RedisLimits
from tests.process.conftest import serve

__all__ = ["serve"]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "scaling.md").read_text()
SECRET = "0b9d44f6a1c37e8852f0d6b3e97a214c6d83f5b0972ea4c1d58f60b3a7e9142d"
EVENTS = set(re.findall(r"`((?:redis|limits|bulletin|store|vectors|qdrant)_\w+)`", PAGE))


def test_the_variables_are_a_configuration(tmp_path):
    exported = dict(re.findall(r"^export (\w+)=(\S+)", PAGE, re.MULTILINE))
    nodes, reach = {"REDIS_URL", "SENTINEL_SECRET", "SENTINEL_REPLICAS"}, {"HOST", "SENTINEL_ADMIN_KEY"}
    assert exported.keys() == nodes | reach | {"SENTINEL_DATABASE_URL"}
    exported["SENTINEL_ADMIN_KEY"] = "c1b7d0a6e25f4893"
    loaded = load({"HOME": "/h"} | exported | {"SENTINEL_SECRET": SECRET}, cwd=tmp_path)
    assert loaded.settings.replicas == 2
    assert loaded.settings.redis.address == "redis://10.0.0.5:6379"
    assert loaded.settings.server.host == "0.0.0.0"


def test_the_extras_are_those_of_the_package_and_make_run_has_the_first():
    extras = re.findall(r"pip install '\.\[(\w+)\]'", PAGE)
    assert extras == ["redis", "postgres"]
    for extra in extras:
        assert f"\n{extra} = [" in (ROOT / "pyproject.toml").read_text()
    locked = (ROOT / "requirements" / "runtime.lock").read_text()
    assert re.search(r"^redis==", locked, re.MULTILINE)
    assert re.search(r"^hiredis==", locked, re.MULTILINE)


def test_a_key_that_is_made_on_one_machine_is_good_on_another(serve, tmp_path, postgres):
    (create,) = re.findall(r"^sentinel (keys create .*?)\s*#", PAGE, re.MULTILINE)
    command = [sys.executable, "-m", "sentinel_gateway", *shlex.split(create), "--json"]
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "COVERAGE_PROCESS_CONFIG") if name in os.environ}
    shared = {"SENTINEL_SECRET": SECRET, "SENTINEL_DATABASE_URL": postgres.fresh()}
    own = {"HOME": str(tmp_path), "SENTINEL_DATA_DIR": str(tmp_path / "one")} | shared
    made = subprocess.run(command, env=kept | own, cwd=tmp_path, capture_output=True, check=True, timeout=60)
    key = json.loads(made.stdout)["key"]
    node = serve(SENTINEL_DATA_DIR=str(tmp_path / "two"), **shared)
    assert node.request("GET", "/v1/models", authorization=f"Bearer {key}").status == 200
    assert node.request("GET", "/v1/models").status == 401


@pytest.mark.parametrize("event", sorted(EVENTS))
def test_what_the_log_says_is_said_so_in_the_code(event):
    code = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    assert f'"{event}"' in code or f'note("{event}' in code


def test_the_deadlines_are_those_of_the_link():
    limits = RedisLimits()
    assert f"up to {1000 * limits.call:.0f} ms ({1000 * (limits.call + limits.connect):.0f} ms where it has to connect)" in PAGE
    assert f"over {1000 * limits.slow:.0f} ms" in PAGE
