"""S3: started and left alone, it calls nobody, writes nowhere but in its data folder, starts no program, and makes no code.

strace sees what it does, whichever dependency does it. That the unit of systemd lets it do all of that is shown here, too.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.process.conftest import DEADLINE

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "systemd" / "sentinel.service"
IDLE = [pytest.param(3, id="3 s"), pytest.param(60, id="a minute", marks=pytest.mark.long)]
LINE = re.compile(r"^\d+ +(?P<call>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+|0x[0-9a-f]+|\?)")
UNFINISHED, RESUMED = " <unfinished ...>", re.compile(r" *<\.\.\. \w+ resumed>")
OPENED = re.compile(r'(?:AT_FDCWD|\d+)(?:<[^>]*>)?, "([^"]*)", [^,)]*O_(?:WRONLY|RDWR|CREAT|TRUNC|APPEND)')
NAMED = re.compile(r'"([^"]*)"')
CHANGING = {"mkdir", "mkdirat", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "unlink", "unlinkat", "chmod"}
HARMLESS = ("/dev/null", "/dev/shm/", "/proc/self/")


@dataclass
class Seen:
    """What a run did, one call each with its arguments; calls that failed are left out."""

    calls: list[tuple[str, str]]
    data: Path

    def of(self, *names: str) -> list[str]:
        return [arguments for call, arguments in self.calls if call in names]

    @property
    def callees(self) -> list[str]:
        """Addresses that it connected or sent to."""
        return [found for found in self.of("connect", "sendto", "sendmsg") if "sa_family=AF_INET" in found]

    @property
    def programs(self) -> list[str]:
        """Started after itself, or forked off."""
        forked = [found for found in self.of("clone", "clone3", "fork", "vfork") if "CLONE_THREAD" not in found]
        return self.of("execve")[1:] + forked

    @property
    def written(self) -> list[str]:
        """Files outside its data folder that it opened to write, made, renamed or removed."""
        paths = [path for found in self.of("open", "openat") for path in OPENED.findall(found)]
        paths += [path for found in self.of(*CHANGING) for path in NAMED.findall(found)]
        return [path for path in paths if not path.startswith((str(self.data), *HARMLESS))]

    @property
    def code_made(self) -> list[str]:
        """Memory that can be written and run, or is made one to be run: what MemoryDenyWriteExecute forbids."""
        return [
            found
            for found in self.of("mmap", "mprotect", "pkey_mprotect")
            if "PROT_EXEC" in found and ("PROT_WRITE" in found or "MAP_" not in found)
        ]


def watched(strace: str, folder: Path, program: list[str], seconds: float, ready: str) -> Seen:
    """Everything that a program did from its start until it was told to end, `seconds` after it had said `ready`."""
    log, errors = folder / "strace", folder / "stderr"
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    environ = kept | {"HOME": str(folder), "PORT": "0", "PYTHONDONTWRITEBYTECODE": "1", "SENTINEL_DATA_DIR": str(folder / "data")}
    with errors.open("wb") as told:
        command = [strace, "-f", "-y", "-s", "300", "-o", str(log), sys.executable, *program]
        process = subprocess.Popen(command, cwd=folder, env=environ, stdout=subprocess.DEVNULL, stderr=told)
    try:
        end = time.monotonic() + 3 * DEADLINE
        while ready not in errors.read_text():
            assert process.poll() is None, errors.read_text()
            assert time.monotonic() < end, "it never began"
            time.sleep(0.05)
        time.sleep(seconds)
    finally:
        for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGTERM)  # strace would keep it to itself
        process.wait(DEADLINE)
    found = [match for match in map(LINE.match, whole(log.read_text())) if match and not match["result"].startswith("-")]
    return Seen([(match["call"], match["arguments"]) for match in found], folder / "data")


def whole(log: str) -> Iterator[str]:
    """Lines of strace's, those put together that another thread's came between."""
    begun: dict[str, str] = {}
    for line in log.splitlines():
        thread, _, rest = line.partition(" ")
        if line.endswith(UNFINISHED):
            begun[thread] = line.removesuffix(UNFINISHED)
        elif resumed := RESUMED.match(rest):
            yield begun.pop(thread, "") + rest[resumed.end() :]
        else:
            yield line


@pytest.mark.parametrize("seconds", IDLE)
def test_left_alone_it_does_nothing_that_nobody_asked_for(strace, tmp_path, absent, seconds):
    seen = watched(strace, tmp_path, ["-m", "sentinel_gateway", "serve"], seconds, "answers on http")
    print(f"{len(seen.calls)} system calls, of {len({call for call, _ in seen.calls})} kinds")
    assert seen.of("listen"), "it never served"
    assert any(str(seen.data) in found for found in seen.of("openat")), "it never wrote"
    assert seen.callees == []
    assert seen.programs == []
    assert seen.written == []
    assert seen.code_made == []
    analyze = shutil.which("systemd-analyze") or absent("systemd-analyze (make test-deps installs it)")
    of_root = {"fchown"} if os.geteuid() == 0 else set()  # SQLite gives root's files to whoever has the database
    assert {call for call, _ in seen.calls} - of_root <= allowed(analyze)


GUILTY = """
import mmap, os, socket, subprocess, sys
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"told", ("127.0.0.1", 9))
subprocess.run(["true"])
open("elsewhere", "w").close()
mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
print("ready", file=sys.stderr, flush=True)
import signal; signal.pause()
"""


def test_what_does_each_of_it_is_seen(strace, tmp_path):
    seen = watched(strace, tmp_path, ["-c", GUILTY], 0, "ready")
    assert len(seen.callees) == 1
    assert len(seen.programs) == 2, "the fork, and the program"
    assert [Path(path).name for path in seen.written] == ["elsewhere"]
    assert len(seen.code_made) == 1


def allowed(analyze: str) -> set[str]:
    """System calls that the unit's filters let through."""
    sets: dict[str, set[str]] = {}
    shown = subprocess.run([analyze, "syscall-filter", "--no-pager"], capture_output=True, text=True, check=True).stdout
    name = ""
    for line in shown.splitlines():
        if line.startswith("@"):
            name = line.strip()
            sets[name] = set()
        elif line.strip() and not line.strip().startswith("#"):
            sets[name].add(line.strip())

    def spelled_out(group: str) -> set[str]:
        return {call for member in sets[group] for call in (spelled_out(member) if member.startswith("@") else [member])}

    found: set[str] = set()
    for value in re.findall(r"^SystemCallFilter=(\S+)$", UNIT.read_text(), re.MULTILINE):
        found = found - spelled_out(value[1:]) if value.startswith("~") else found | spelled_out(value)
    return found
