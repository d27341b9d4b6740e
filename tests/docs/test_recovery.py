"""docs/recovery.md: what it says to do brings everything back, done here as it stands there."""

import json
import re
import shutil
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
import yaml

from tests.deploy.manifests import VERSIONS, unrestricted, validate
from tests.docs.test_keys import shell
from tests.process.conftest import DEADLINE, serve
from tests.servers import REDIS8, RedisServer

__all__ = ["serve", "shell"]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "recovery.md").read_text()
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


QUICK = {"SENTINEL_CACHE__SEMANTIC__ENABLED": "false"}
"""What a backup is about needs no model."""


def blocks(section: str) -> list[str]:
    return re.findall(r"```sh\n(.*?)```", SECTIONS[section], re.DOTALL)


def until(condition, otherwise: str) -> None:
    """Wait for what a gateway does beside requests."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, otherwise
        time.sleep(0.1)


def told_files() -> set[str]:
    """What stands in the data folder by the page's table."""
    cells = re.findall(r"^\| (`.*?) \|", SECTIONS["What is where"], re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([\w.-]+)/?`", cell)}


def rows(ledger: Path) -> int:
    """Requests that have come as far as the ledger's file, which is made beside the first of them."""
    if not ledger.exists():
        return 0
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as database, suppress(sqlite3.OperationalError):
        return database.execute("SELECT count(*) FROM requests").fetchone()[0]
    return 0


def test_keys_money_and_history_come_back(serve, shell, tmp_path, same_day):
    data = tmp_path / "data"
    where = {"SENTINEL_DATA_DIR": str(data), **QUICK}
    made = [json.loads(shell(f"sentinel keys create --name {name} --budget-day 5 --json")) for name in ("kept", "revoked")]
    caller, other = ({"Authorization": f"Bearer {one['key']}"} for one in made)
    first = serve(**where)
    for question in ("Hello", "Good morning", "Good evening"):
        answered = first.ask(question, **caller)
    spent = answered.headers["x-budget-remaining"]
    until(lambda: rows(data / "ledger.db") == 3, "the rows never came")
    assert first.ask("Once", **caller, **{"Idempotency-Key": "one"}).status == 200
    assert {path.name for path in data.iterdir() if not re.search(r"(?:-wal|-shm|\.lock)$", path.name)} == told_files()
    shell(*blocks("Back up"))
    shell(f"sentinel keys revoke {made[1]['id']}")
    assert first.ask("Later", **caller).status == 200
    first.kill()

    (data / "backup").rename(tmp_path / "elsewhere")
    shutil.rmtree(data)
    data.mkdir(mode=0o700)
    (tmp_path / "elsewhere").rename(data / "backup")
    assert {path.name for path in (data / "backup").iterdir()} == {"sentinel.db", "ledger.db", "secret", "admin-key.sha256"}
    restore, look, *_of_containers = blocks("Restore")
    (data / "sentinel.db-wal").write_bytes(b"of another life")
    shell(restore)

    second = serve(**where)
    listed, newest = shell(look).rsplit("\n", 2)[:2]
    assert "kept" in listed
    assert json.loads(newest)["model"] == "demo"
    assert second.request("GET", "/v1/models").status == 401, "the door is as closed as it was"
    again = second.ask("Hello again", **caller)
    assert again.status == 200
    assert 4 < float(again.headers["x-budget-remaining"]) < float(spent), "what was spent is spent"
    assert second.ask("Was I not revoked?", **other).status == 200, "as the page says"
    admin = f"Bearer {first_admin(first)}"
    until(lambda: second.request("GET", "/v1/metrics", authorization=admin).json["total_requests"] >= 3 + 2, "no past came back")


def first_admin(program) -> str:
    """The admin key as the first start showed it: it is the second's as well."""
    return re.search(r"sk-sn-\S+", program.errors.read_text())[0]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_pod_that_restores_is_the_gateways_to_its_volume(version):
    [written] = re.findall(r"<<'END'\n(apiVersion.*?)END\n", SECTIONS["Restore"], re.DOTALL)
    manifest = yaml.safe_load(written)
    validate(manifest, version)
    pod = manifest["spec"]
    assert unrestricted(pod) == []
    chart = (ROOT / "deploy" / "helm" / "sentinel" / "templates" / "deployment.yaml").read_text()
    whole = re.search(r"^      securityContext:\n((?:        .*\n)+)", chart, re.MULTILINE)[1]
    assert yaml.safe_load(whole) == pod["securityContext"], "the gateway could not read what it leaves"
    [volume], [mount] = pod["volumes"], pod["containers"][0]["volumeMounts"]
    assert volume["persistentVolumeClaim"]["claimName"] == "sentinel"
    assert mount == {"name": volume["name"], "mountPath": "/data"}


def test_answers_of_a_dump_of_redis_serve_again(serve, shell, tmp_path, absent):
    if shutil.which("redis-cli") is None:
        absent("redis-cli (apt-get install redis-tools)")
    [command] = blocks("Redis")
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    shared = QUICK | {"SENTINEL_SECRET": "0b9d44f6a1c37e8852f0d6b3e97a214c6d83f5b0972ea4c1d58f60b3a7e9142d"}
    with RedisServer(REDIS8, old) as redis:
        first = serve(REDIS_URL=redis.url, SENTINEL_DATA_DIR=str(tmp_path / "one"), **shared)
        assert first.ask("Hello").headers["x-cache"] == "miss"
        with redis.client() as client:
            until(lambda: list(client.scan_iter("sentinel:cache:*")), "it was never stored")
        shell(f"cd {new} && {command}", REDIS_URL=redis.url)
        first.kill()
    with RedisServer(REDIS8, new) as redis:
        second = serve(REDIS_URL=redis.url, SENTINEL_DATA_DIR=str(tmp_path / "two"), **shared)
        answer = second.ask("Hello")
        assert (answer.headers["x-cache"], "sentinel-redis;hit" in answer.headers["cache-status"]) == ("exact", True)
