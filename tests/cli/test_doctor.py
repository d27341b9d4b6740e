"""`sentinel doctor` tells each thing that is wrong, with the remedy, and leaves everything as it was."""

import contextlib
import http.server
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest

import sentinel_gateway
from sentinel_gateway.cli.examination import Finding, check_databases, check_disk, check_folder, check_port, check_versions
from sentinel_gateway.ledger.books import bring_up_to_date
from sentinel_gateway.ledger.look import look
from sentinel_gateway.ledger.migrations import HEAD
from sentinel_gateway.probes import check_clock
from sentinel_gateway.settings.model import Server, Settings
from tests.servers import free_port

PACKAGE = Path(sentinel_gateway.__file__).parent


@contextlib.contextmanager
def answering(headers, family=socket.AF_INET):
    """A server on a free port that answers every GET with these headers; its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    class V(http.server.ThreadingHTTPServer):
        address_family = family

    with V(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def port():
    return free_port()


def database(path, *, journal="wal"):
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode={journal}")
    connection.execute("CREATE TABLE entries (key TEXT PRIMARY KEY, body BLOB)")
    connection.executemany("INSERT INTO entries VALUES (?, ?)", [(str(n), b"x" * 500) for n in range(200)])
    connection.commit()
    return connection


def test_versions_meet_their_floors():
    findings = list(check_versions())
    assert [finding.name for finding in findings] == ["Python", "SQLite", "httptools", "starlette"]
    assert all(finding.ok for finding in findings)


def test_a_free_port(port):
    finding = check_port(Server(port=port))
    assert finding == Finding(f"port {port}", ok=True, detail="free on 127.0.0.1")
    assert check_port(Server(port=0)).ok


def test_a_port_with_a_running_sentinel():
    with answering({"x-sentinel-id": "1"}) as port:
        finding = check_port(Server(port=port))
    assert (finding.ok, finding.detail) == (True, "a running Sentinel answers on 127.0.0.1")


def test_a_port_with_a_running_sentinel_on_ipv6(absent):
    try:
        with answering({"x-sentinel-id": "1"}, socket.AF_INET6) as port:
            assert check_port(Server(host="::1", port=port)).ok
    except OSError as error:
        absent(f"an IPv6 loopback ({error})")


def test_a_port_that_another_program_has():
    with answering({}) as port:
        finding = check_port(Server(port=port))
    assert not finding.ok
    assert finding.detail == "another program has it on 127.0.0.1: stop that one, or choose another with PORT"


def test_a_port_whose_owner_speaks_no_http():
    def greet_otherwise(server):
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"220 mail\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        thread = threading.Thread(target=greet_otherwise, args=[server])
        thread.start()
        assert not check_port(Server(port=server.getsockname()[1])).ok
        thread.join()


def test_a_host_that_is_none():
    finding = check_port(Server.model_construct(host="192.0.2.1", port=80))
    assert not finding.ok
    assert "choose another with PORT" in finding.detail


def test_the_data_folder(tmp_path):
    assert check_folder(tmp_path).detail == f"{tmp_path} can be written"
    assert check_folder(tmp_path / "a" / "b").detail == f"{tmp_path}/a/b will be made at the first start"
    assert list(tmp_path.iterdir()) == []


def test_a_data_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "inner"):
        finding = check_folder(folder)
        assert not finding.ok
        assert "choose another with SENTINEL_DATA_DIR" in finding.detail


@contextlib.contextmanager
def shut_off(folder):
    """The folder can't be searched by us; root, who may search all, is nobody as long."""
    folder.chmod(0o000)
    try:
        if os.geteuid() == 0:
            os.setresuid(65534, 65534, 0)
        yield
    finally:
        if os.getresuid()[2] == 0:
            os.setresuid(0, 0, 0)
        folder.chmod(0o700)


def test_a_data_folder_below_one_that_cannot_be_searched(tmp_path):
    data = tmp_path / "closed" / "inner" / "data"
    data.mkdir(parents=True)
    with shut_off(tmp_path / "closed"):
        assert not os.access(data, os.F_OK)
        finding = check_folder(data)
        assert check_disk(Settings(data_dir=data)).name == "disk"
        assert list(check_databases(data)) == []
    assert not finding.ok
    assert "choose another with SENTINEL_DATA_DIR" in finding.detail


def test_whole_databases(tmp_path):
    database(tmp_path / "closed.sqlite3").close()
    (tmp_path / "notes.txt").write_text("no database")
    (tmp_path / "folder").mkdir()
    before = sorted(path.name for path in tmp_path.iterdir())
    findings = list(check_databases(tmp_path))
    assert findings == [Finding("closed.sqlite3", ok=True, detail="whole")]
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_database_in_use_is_read_with_its_log(tmp_path):
    with contextlib.closing(database(tmp_path / "open.sqlite3")):
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        [finding] = check_databases(tmp_path)
        assert finding.ok
        after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        assert after.keys() == before.keys() == {"open.sqlite3", "open.sqlite3-wal", "open.sqlite3-shm"}
        assert after["open.sqlite3"] == before["open.sqlite3"]


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("cache.db", "move the file away"),
        ("sentinel.db", "put it back from a backup"),
        ("ledger.db", "put it back from a backup"),
    ],
)
def test_a_damaged_database(tmp_path, name, fix):
    path = tmp_path / name
    database(path, journal="delete").close()
    body = bytearray(path.read_bytes())
    body[4096:] = b"\xff" * (len(body) - 4096)
    path.write_bytes(body)
    [finding] = check_databases(tmp_path)
    assert (finding.name, finding.ok) == (name, False)
    assert f"stop Sentinel and {fix}" in finding.detail


def test_no_folder_has_no_databases(tmp_path):
    assert list(check_databases(tmp_path / "nowhere")) == []


def test_all_is_well(sentinel, port, tmp_path):
    result = sentinel("doctor", PORT=str(port), REDIS_DECODE_RESPONSES="x")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith("ok    Python: 3.")
    assert f"ok    port {port}: free on 127.0.0.1" in lines
    assert "ok    embedding model: all-MiniLM-L6-v2/int8" in lines
    assert lines[-1] == "note  REDIS_DECODE_RESPONSES is set, but this version has no use for it: it has no effect"
    assert list(tmp_path.iterdir()) == []


def test_a_provider_that_does_not_answer(sentinel, port):
    result = sentinel("doctor", "--json", PORT="0", VLLM_BASE_URL=f"http://127.0.0.1:{port}/v1")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert not told["ok"]
    [failed] = [finding for finding in told["findings"] if not finding["ok"]]
    assert failed["name"] == "provider vllm"
    assert failed["detail"]


def test_a_qdrant_that_is_not_there_or_is_none(sentinel, port):
    for server, complaint in ((contextlib.nullcontext(port), "does not answer as it should"), (answering({}), "(")):
        with server as asked:
            result = sentinel("doctor", "--json", PORT="0", QDRANT_URL=f"http://127.0.0.1:{asked}")
        assert result.exit_code == 1
        [failed] = [finding for finding in json.loads(result.stdout)["findings"] if not finding["ok"]]
        assert failed["name"] == "qdrant"
        assert f"http://127.0.0.1:{asked}" in failed["detail"]
        assert complaint in failed["detail"]


def test_what_fails_is_marked(sentinel):
    with answering({}) as port:
        result = sentinel("doctor", PORT=str(port))
    assert result.exit_code == 1
    assert f"FAIL  port {port}: another program has it" in result.stdout


def test_a_model_that_is_not_whole(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "sentinel_gateway", ignore=shutil.ignore_patterns("__pycache__"))
    (model,) = tmp_path.rglob("*.onnx")
    model.write_bytes(model.read_bytes()[:-1])
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PORT": "0", "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "sentinel_gateway", "doctor"]
    for more, code in (({}, 1), ({"SENTINEL_CACHE__SEMANTIC__ENABLED": "false"}, 0)):
        done = subprocess.run(
            command, cwd=tmp_path, env=environment | more, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == code
        assert ("FAIL  embedding model: " in done.stdout) == (code == 1)
        assert ("cache.semantic.enabled to false" in done.stdout) == (code == 1)


# --- the disk ---


def test_a_disk_with_room_and_without(tmp_path, monkeypatch):
    settings = Settings(data_dir=tmp_path / "not" / "yet")
    for free, mark in ((1 << 40, "ok"), (1 << 29, "warn"), (1 << 20, "FAIL")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        finding = check_disk(settings)
        assert finding.mark == mark
        assert ("make room" in finding.detail) == (mark != "ok")


# --- PostgreSQL ---


def told_of(sentinel, url, name="database"):
    result = sentinel("doctor", "--json", PORT="0", SENTINEL_DATABASE_URL=url)
    return result.exit_code, [finding for finding in json.loads(result.stdout)["findings"] if finding["name"] == name]


def test_a_database_before_and_after_its_first_start(sentinel, postgres, tmp_path):
    url = postgres.fresh()
    code, [fresh] = told_of(sentinel, url)
    assert (code, fresh["ok"]) == (0, True)
    assert re.fullmatch(r"PostgreSQL \d+ at 127.0.0.1; the tables will be made at the first start", fresh["detail"])
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT to_regclass('alembic_version')").fetchone() == (None,)
    bring_up_to_date(tmp_path, url)
    code, [made] = told_of(sentinel, url)
    assert (code, made["ok"]) == (0, True)
    assert made["detail"].endswith(f", schema {HEAD}")
    assert told_of(sentinel, url, "clock") == (0, [{"name": "clock", "ok": True, "detail": "with the database's", "warn": False}])


@pytest.mark.parametrize(
    ("statements", "complaint"),
    [
        (["DELETE FROM alembic_version"], "(alembic_version is empty): put it back from a backup"),
        (["UPDATE alembic_version SET version_num = '9999'"], "newer Sentinel (schema 9999"),
        (["ALTER DATABASE {name} SET default_transaction_read_only = on"], "is read-only, as a standby is"),
        (["CREATE ROLE reader LOGIN", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader"], "may not write there"),
    ],
)
def test_a_database_that_is_not_as_it_has_to_be(sentinel, postgres, tmp_path, statements, complaint):
    url = postgres.fresh()
    bring_up_to_date(tmp_path, url)
    with psycopg.connect(url) as connection:
        for statement in statements:
            connection.execute(statement.format(name=connection.info.dbname))
    code, [failed] = told_of(sentinel, url.replace("sentinel@", "reader@") if "reader" in str(statements) else url)
    assert (code, failed["ok"]) == (1, False)
    assert complaint in failed["detail"]


def test_a_database_that_cannot_hold_every_name(sentinel, postgres):
    code, [failed] = told_of(sentinel, postgres.fresh(encoding="SQL_ASCII"))
    assert (code, failed["ok"]) == (1, False)
    assert "make it with ENCODING 'UTF8'" in failed["detail"]


def test_a_database_that_is_not_there(sentinel, port):
    code, [failed] = told_of(sentinel, f"postgresql://sentinel:hunter2@127.0.0.1:{port}/none")
    assert (code, failed["ok"]) == (1, False)
    assert "does not answer as it should" in failed["detail"]
    assert "hunter2" not in failed["detail"]


def test_an_address_that_cannot_be_read_is_not_shown(sentinel):
    result = sentinel("doctor", PORT="0", SENTINEL_DATABASE_URL="postgresql://sentinel:hunter2%@127.0.0.1/db")
    assert result.exit_code != 0
    assert "write % as %25" in result.stdout + result.stderr
    assert "hunter2" not in result.stdout + result.stderr
    looked = look("postgresql://sentinel:hunter2%@127.0.0.1/db")  # where nothing has checked it before
    assert not looked.ok
    assert "its address is none that can be read" in looked.detail
    assert "hunter2" not in looked.detail


def test_a_clock_that_is_apart():
    assert check_clock("the database's", 99.9, 100.0, 100.1).ok
    apart = check_clock("the database's", 103.0, 100.0, 103.1)
    assert (apart.name, apart.ok) == ("clock", False)
    assert "3.0 s from the database's" in apart.detail


def test_the_clock_of_redis(sentinel, redis8):
    result = sentinel("doctor", "--json", PORT="0", REDIS_URL=redis8.url)
    told = {finding["name"]: finding for finding in json.loads(result.stdout)["findings"]}
    assert (result.exit_code, told["redis"]["ok"]) == (0, True)
    assert told["clock"]["detail"] == "with Redis'"
