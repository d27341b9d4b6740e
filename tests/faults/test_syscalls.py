"""B5: each single system call that keeps something fails once, or is the last one: nothing that was told to be kept is lost.

strace counts the calls of an undisturbed run; then there is a run for each of them, in which it fails for want of a working disk
or of room, or in which the process dies of it. Each time the databases are whole, can be opened again, hold what was told, and,
where nobody died, the process has gone on.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sentinel_gateway.errors import ConfigurationError, StoreDown
from sentinel_gateway.ledger import frames
from sentinel_gateway.ledger.journal import LOCK, SUFFIX
from sentinel_gateway.ports.ledger import Settled
from tests.faults.kept import CHECKS, Kept
from tests.faults.power import TRACED, Moment, moments
from tests.faults.writing import ROWS, WRITERS

ROOT = Path(__file__).parents[2]
CALLS = ("write", "pwrite64", "fsync", "fdatasync", "ftruncate", "rename", "link", "unlink")
"""By which files change and get to the disk."""
FAULTS = ("error=EIO", "error=ENOSPC", "signal=SIGKILL")
DEADLINE = 60.0
LINE = re.compile(r"^(\d+) +(\w+)\(", re.MULTILINE)


@dataclass
class Run(Kept):
    """The calls it made, and how it ended."""

    calls: str
    exit_code: int

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


def run(strace: str, what: str, folder: Path, inject: str | None = None, *, whole: bool = False) -> Run:
    """`whole`: with all that is written."""
    folder.mkdir()
    log, data = folder / "strace", folder / "data"
    ours, theirs = socket.socketpair()
    kept = {name: os.environ[name] for name in ("PATH",) if name in os.environ}
    environ = kept | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    quick = [] if inject and "SIGKILL" in inject else ["--seccomp-bpf"]  # with which strace 6.1 sends no signal
    detail = ["-y", "-xx", "-s", "10000000"] if whole else []
    tracing = [strace, "-f", *quick, *detail, "-qq", "-o", str(log), "-e", f"trace={','.join(TRACED if whole else CALLS)}"]
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


def injections(counts: Counter[str], most: int | None) -> Iterator[tuple[str, str, int]]:
    """Each fault at each call, by its number, or at so many of them, beginning elsewhere for each fault."""
    for offset, fault in enumerate(FAULTS):
        wanted = [(call, fault, number + 1) for call, times in sorted(counts.items()) for number in range(times)]
        step = 1 if most is None else max(1, len(wanted) // most)
        yield from wanted[offset * step // len(FAULTS) :: step]


def disturb(strace: str, what: str, folder: Path, fault: tuple[str, str, int]) -> Run:
    """A run that meets the fault: at an earlier call, where a thread that was quicker makes fewer of them."""
    call, kind, number = fault
    disturbed = run(strace, what, folder, f"{call}:{kind}:when={number}")
    if disturbed.exit_code if "SIGKILL" in kind else "(INJECTED)" in disturbed.calls:
        return disturbed
    assert number > 1, f"it makes no {call}"
    shutil.rmtree(folder)
    return disturb(strace, what, folder, (call, kind, number // 2))


@pytest.mark.parametrize("most", [pytest.param(2, id="some"), pytest.param(None, id="all", marks=pytest.mark.long)])
@pytest.mark.parametrize("what", WRITERS)
def test_whatever_call_fails_or_is_the_last_nothing_is_lost_that_was_told(strace, tmp_path, what, most):
    undisturbed = run(strace, what, tmp_path / "undisturbed")
    assert undisturbed.ended
    counts = undisturbed.counts()
    assert sum(counts.values()) > (2 if what == "secret" else ROWS)
    met = Counter[str]()
    for number, fault in enumerate(injections(counts, most)):
        folder, dies = tmp_path / str(number), "SIGKILL" in fault[1]
        disturbed = disturb(strace, what, folder, fault)
        met[fault[1]] += 1
        assert (disturbed.exit_code != 0, disturbed.ended) == (dies, not dies), fault
        try:
            CHECKS[what](folder / "data", disturbed)
        except AssertionError as exc:
            raise AssertionError(fault) from exc
        shutil.rmtree(folder)
    print(what, dict(counts), dict(met))
    assert met.keys() == set(FAULTS)


def rows_on_the_disk(moment: Moment) -> Iterator[str]:
    """The calls of providers that are certain to be in a segment of the journal, as the process tells of them."""
    for path, file in moment.files.items():
        if path.suffix == SUFFIX and file.certain:
            for row in frames.read(file.certain, frames.ALL, len(frames.MAGIC), limit=1000).rows:
                if isinstance(row, Settled):
                    yield str(int(row.intent.request, 16))


@pytest.mark.parametrize("most", [pytest.param(6, id="some"), pytest.param(None, id="all", marks=pytest.mark.long)])
@pytest.mark.parametrize("what", ["keys", "books"])
def test_whenever_the_power_goes_nothing_is_lost_that_was_on_the_disk(strace, tmp_path, what, most):
    """Keys are there when they are told; a call of a provider as soon as its segment was put there."""
    undisturbed = run(strace, what, tmp_path / "undisturbed", whole=True)
    assert undisturbed.ended
    data = tmp_path / "undisturbed" / "data"
    every = 1 if most is None else sum(1 for _ in moments(undisturbed.calls, data)) // most
    met, lacking, certain = 0, 0, dict[str, None]()
    for moment in moments(undisturbed.calls, data):
        certain |= dict.fromkeys(moment.told if what == "keys" else rows_on_the_disk(moment))
        if moment.number % every:
            continue
        for how in ("least", "half", "some"):
            folder = tmp_path / f"{moment.number}-{how}"
            for path, content in moment.left(how):
                found = folder / path.relative_to(data)
                found.parent.mkdir(parents=True, exist_ok=True)
                found.write_bytes(content)
                if path.suffix == SUFFIX:
                    (found.parent / LOCK).touch()  # it is older
            lacking += any(file.since for file in moment.files.values())
            try:
                CHECKS[what](folder, Kept(list(certain)))
            except (AssertionError, ConfigurationError, StoreDown) as exc:
                raise AssertionError((moment.number, how)) from exc
            shutil.rmtree(folder)
            met += 1
    print(what, met, "power cuts,", lacking, "of them with something not yet on the disk")
    assert lacking
