"""B5: each single system call that keeps something fails once, or is the last one: nothing that was told to be kept is lost.

strace counts the calls of an undisturbed run; then there is a run for each of them, in which it fails for want of a working disk
or of room, or in which the process dies of it. Each time the databases are whole, can be opened again, hold what was told, and,
where nobody died, the process has gone on.
"""

import asyncio
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from sentinel_gateway.ledger.books import make_database
from sentinel_gateway.ledger.copier import copy_left_behind
from sentinel_gateway.stores.secret import gateway_secret
from tests.contract.keys.conftest import open_state
from tests.faults.writing import PEPPER, ROWS, WRITERS, key

ROOT = Path(__file__).parents[2]
CALLS = ("write", "pwrite64", "fsync", "fdatasync", "ftruncate", "rename", "link", "unlink")
"""By which files change and get to the disk."""
FAULTS = ("error=EIO", "error=ENOSPC", "signal=SIGKILL")
DEADLINE = 60.0
LINE = re.compile(r"^(\d+) +(\w+)\(", re.MULTILINE)


@dataclass
class Run:
    """What the process has told, the calls it made, and how it ended."""

    told: list[str]
    calls: str
    exit_code: int

    @property
    def ended(self) -> bool:
        return self.told[-1:] == ["end"]

    @property
    def rows(self) -> set[int]:
        return {int(line) for line in self.told if line.isdecimal()}

    def counts(self) -> Counter[str]:
        """How often the thread that makes most of them made each call: strace counts for each by itself."""
        by_thread = Counter(LINE.findall(self.calls))
        most: Counter[str] = Counter()
        for (_, call), times in by_thread.items():
            most[call] = max(most[call], times)
        return most


@pytest.fixture(scope="module")
def strace(absent) -> str:
    found = shutil.which("strace") or absent("strace: make test-deps installs it")
    if subprocess.run([found, "-o", "/dev/null", "true"], capture_output=True, check=False).returncode:
        absent("leave to trace other processes, which strace needs (in a container: --cap-add SYS_PTRACE)")
    return found


def run(strace: str, what: str, folder: Path, inject: str | None = None) -> Run:
    folder.mkdir()
    log, data = folder / "strace", folder / "data"
    ours, theirs = socket.socketpair()
    kept = {name: os.environ[name] for name in ("PATH",) if name in os.environ}
    environ = kept | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    quick = [] if inject and "SIGKILL" in inject else ["--seccomp-bpf"]  # with which strace 6.1 sends no signal
    tracing = [strace, "-f", *quick, "-qq", "-o", str(log), "-e", f"trace={','.join(CALLS)}"]
    command = [sys.executable, "-m", "tests.faults.writing", what, str(data), str(theirs.fileno())]
    with ours, theirs:
        injecting = [] if inject is None else ["-e", f"inject={inject}"]
        process = subprocess.Popen(
            [*tracing, *injecting, *command], env=environ, cwd=ROOT, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE
        )
        theirs.close()
        _, errors = process.communicate(timeout=DEADLINE)
        said = b"".join(iter(lambda: ours.recv(1 << 16), b""))
    calls = log.read_text()
    assert b"Traceback" not in errors, (inject, errors.decode())
    return Run(said.decode().splitlines(), calls, process.returncode)


def check_sqlite(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def check_keys(data: Path, kept: Run) -> None:
    async def look() -> None:
        state = await open_state(data, PEPPER)
        found = await state.ids()
        assert {key(number).id for number in kept.rows} <= found <= {key(number).id for number in range(ROWS + 2)}
        log = (await state.log.page(tenant=None, limit=100, cursor=None)).entries
        assert sorted(entry.object for entry in log if entry.action == "key.create") == sorted(found)
        if "revoked" in kept.told:
            assert (await state.keys.get(key(0).id)).revoked is not None
        await state.create(ROWS + 2)
        await state.file.close()

    asyncio.run(look())
    check_sqlite(data / "sentinel.db")
    if kept.ended:
        assert kept.rows & {ROWS, ROWS + 1}


def check_ledger(data: Path, kept: Run) -> None:
    """Every call that was told stands in the database once; one whose outcome was not told perhaps as an orphan."""
    database = make_database(data, None)
    if (data / "journal").exists():
        copy_left_behind(data / "journal", database, lambda *_, **__: None)
    database.open()
    with database.reading() as connection:
        found = dict(connection.exec_driver_sql("SELECT id, ending FROM attempts").all())
        count = connection.exec_driver_sql("SELECT count(*) FROM attempts").scalar()
    database.close()
    assert count == len(found)
    settled = {id_ for id_, ending in found.items() if ending == "answered"}
    assert {f"{number:032x}" for number in kept.rows} <= settled
    assert {f"{int(line[7:]):032x}" for line in kept.told if line.startswith("intent")} <= found.keys()
    if kept.ended:
        assert settled == found.keys()
        assert len(settled) == ROWS
    check_sqlite(data / "ledger.db")


def check_secret(data: Path, kept: Run) -> None:
    """What was told is what is kept; what was not told may be another, but is a whole one."""
    now = gateway_secret(data, None).decode()
    assert len(now) == 64
    assert [line for line in kept.told if line != "end"] in ([], [now])


CHECKS = {"keys": check_keys, "journal": check_ledger, "books": check_ledger, "secret": check_secret}


def injections(counts: Counter[str], most: int | None) -> Iterator[str]:
    """Each fault at each call, or at so many of them, beginning elsewhere for each fault."""
    for offset, fault in enumerate(FAULTS):
        wanted = [f"{call}:{fault}:when={number + 1}" for call, times in sorted(counts.items()) for number in range(times)]
        step = 1 if most is None else max(1, len(wanted) // most)
        yield from wanted[offset * step // len(FAULTS) :: step]


@pytest.mark.parametrize("most", [pytest.param(2, id="some"), pytest.param(None, id="all", marks=pytest.mark.long)])
@pytest.mark.parametrize("what", WRITERS)
def test_whatever_call_fails_or_is_the_last_nothing_is_lost_that_was_told(strace, tmp_path, what, most):
    undisturbed = run(strace, what, tmp_path / "undisturbed")
    assert undisturbed.ended
    counts = undisturbed.counts()
    assert sum(counts.values()) > (2 if what == "secret" else ROWS)
    met = Counter[str]()
    for inject in injections(counts, most):
        folder = tmp_path / re.sub(r"\W", "-", inject)
        disturbed = run(strace, what, folder, inject)
        killed = disturbed.exit_code != 0
        happened = killed if "SIGKILL" in inject else "(INJECTED)" in disturbed.calls
        if not happened:  # a thread that was quicker makes fewer calls
            met["nothing"] += 1
            continue
        met[inject.split(":")[1]] += 1
        assert (killed, disturbed.ended) == (("SIGKILL" in inject), ("SIGKILL" not in inject)), inject
        try:
            CHECKS[what](folder / "data", disturbed)
        except AssertionError as exc:
            raise AssertionError(inject) from exc
        shutil.rmtree(folder)
    print(what, dict(counts), dict(met))
    assert met.keys() >= {"error=EIO", "error=ENOSPC", "signal=SIGKILL"}
    assert met["nothing"] <= met.total() // 4
