"""A power cut, from what strace saw: what files can look like after it at any moment of a run.

What a process has written is certain to be on the disk once it has had the file put there (`fsync`). Of what it has written
since, the disk may have anything: nothing, all, or some sectors. Names of files are taken to be as the process has set them.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SECTOR = 512
TRACED = ("write", "pwrite64", "ftruncate", "fsync", "fdatasync", "rename", "link", "unlink", "sendto")
_LINE = re.compile(r"^(\d+) +(.*)$")
_RESUMED = re.compile(r"^<\.\.\. (\w+) resumed>(.*)$")
_CALL = re.compile(r"^(\w+)\((.*)\) += (-?\d+)")
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")
_TEXT = re.compile(r'"([^"]*)"')
_FILE = re.compile(r"^\d+<([^>]*)>")

Change = tuple[int, bytes | None]
"""What is written at a place; None: the file ends there."""


@dataclass
class File:
    """What is certain to be on the disk, and what has been done to it since."""

    certain: bytes = b""
    since: list[Change] = field(default_factory=list)
    size: int = 0

    def change(self, at: int, data: bytes | None) -> None:
        self.since.append((at, data))
        self.size = at if data is None else max(self.size, at + len(data))

    def put(self, count: int) -> None:
        """The first so many to the disk."""
        self.certain, self.since = _with(self.certain, self.since[:count]), self.since[count:]


@dataclass
class Moment:
    """After so many calls: the files, and what had been told until then."""

    number: int
    files: dict[Path, File]
    told: list[str]

    def left(self, how: str) -> Iterator[tuple[Path, bytes]]:
        """What may be found: `least` of what may be, `half` of the last write to each file, or `some` sectors of all of them."""
        chance = random.Random(f"{self.number} {how}")
        for path, file in self.files.items():
            if how == "least":
                yield path, file.certain
            elif how == "half":
                *others, last = file.since or [(0, b"")]
                at, data = last
                yield path, _with(file.certain, [*others, (at, data[: len(data) // 2] if data is not None else None)])
            else:
                yield path, _with(file.certain, list(_some(file.since, chance)))


def moments(log: str, below: Path) -> Iterator[Moment]:
    """Each moment after a call that changed something in the folder. The one that is given changes as the next is asked for."""
    files: dict[Path, File] = {}
    told = b""
    asked: dict[str, int] = {}
    for number, (call, said, thread, ends) in enumerate(_calls(log)):
        if not ends:  # what is written while a file is put to the disk may come too late for that
            path = _path(said)
            asked[thread] = len(files[path].since) if path in files else 0
            continue
        if call == "sendto":
            told += _bytes(_TEXT.findall(said)[-1]).replace(b"\0", b"")  # with which the event loop wakes itself
            continue
        if call in {"rename", "link", "unlink"}:
            paths = [Path(_bytes(text).decode()) for text in _TEXT.findall(said)]
            if call == "link":
                files[paths[1]] = files[paths[0]]
            elif file := files.pop(paths[0], None):
                files |= {paths[1]: file} if call == "rename" else {}
        else:
            path = _path(said)
            if below not in path.parents or path.suffix == ".db-shm":
                continue
            file = files.setdefault(path, File())
            if call in {"fsync", "fdatasync"}:
                file.put(asked.pop(thread, len(file.since)))
            else:
                _change(file, call, said)
        yield Moment(number, files, told.decode().splitlines())


def _path(said: str) -> Path:
    found = _FILE.match(said)
    return Path(_bytes(found[1]).decode().removesuffix(" (deleted)")) if found else Path()


def _change(file: File, call: str, said: str) -> None:
    if call == "ftruncate":
        file.change(int(said.rpartition(",")[2]), None)
    else:
        data = _bytes(_TEXT.findall(said)[-1])
        file.change(int(said.rpartition(",")[2]) if call == "pwrite64" else file.size, data)


def _calls(log: str) -> Iterator[tuple[str, str, str, bool]]:
    """Those that succeeded, with what they were given and by which thread, as they ended; and where the longer ones begin."""
    begun: dict[str, str] = {}
    for line in log.splitlines():
        found = _LINE.match(line)
        assert found is not None, line[:200]
        thread, rest = found.groups()
        if rest.endswith(" <unfinished ...>"):
            begun[thread] = rest.removesuffix(" <unfinished ...>")
            if rest.startswith(("fsync", "fdatasync")):
                yield "", rest.partition("(")[2], thread, False
            continue
        if resumed := _RESUMED.match(rest):
            rest = begun.pop(thread) + resumed[2]
        if (call := _CALL.match(rest)) and int(call[3]) >= 0:
            yield call[1], call[2], thread, True


def _bytes(text: str) -> bytes:
    return _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), text.encode())


def _with(content: bytes, changes: list[Change]) -> bytes:
    made = bytearray(content)
    for at, data in changes:
        if data is None:
            made[at:] = bytes(max(0, at - len(made)))
        else:
            made[len(made) :] = bytes(max(0, at - len(made)))
            made[at : at + len(data)] = data
    return bytes(made)


def _some(changes: list[Change], chance: random.Random) -> Iterator[Change]:
    for at, data in changes:
        if data is None:
            if chance.random() < 0.5:
                yield at, None
            continue
        for start in range(0, len(data), SECTOR):
            if chance.random() < 0.5:
                yield at + start, data[start : start + SECTOR]
