"""Files of data, line by line: TSV with a header line, or a JSON object a line; plain or gzipped; or what comes in at `-`.

Nothing is held but the line at hand. A line that can't be used is told with its number, and never dropped in silence.
"""

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from sentinel_gateway.errors import SentinelError

STANDARD_INPUT: Final = "-"
LINE_BYTES: Final = 4 << 20
"""Of one line, at most: as much as the gateway takes for a request unless it is told otherwise."""
GZIP: Final = b"\x1f\x8b"
BAD_SHOWN: Final = 1_000
"""Bad lines that are listed; all are counted."""


class Unusable(SentinelError):
    """The input can't be used; the message says what would be right."""


class Bad(msgspec.Struct, frozen=True):
    """A line that could not be used, counted from 1, and what is wrong with it."""

    line: int
    fault: str


class BadLines(msgspec.Struct):
    """Lines that could not be used: how many, and the first of them."""

    count: int = 0
    shown: list[Bad] = msgspec.field(default_factory=list)

    def add(self, bad: Bad) -> None:
        """One more."""
        self.count += 1
        if len(self.shown) < BAD_SHOWN:
            self.shown.append(bad)

    def first(self) -> str:
        """The first of them, for a sentence; empty if there is none."""
        return f"; line {self.shown[0].line} {self.shown[0].fault}" if self.shown else ""


class Row(msgspec.Struct, frozen=True):
    """A line that could be read: its number, counted from 1, and its members."""

    line: int
    fields: dict[str, Any]


class Lines:
    """The lines of one input, in order. `share`: how much of it has been read, 0 to 1; 0 where its length is unknown."""

    def __init__(self, name: str, file: io.BufferedReader, raw: io.BufferedReader, size: int) -> None:
        self.name = name
        self._file = file
        self._raw = raw
        self._size = size

    def __repr__(self) -> str:
        return f"<Lines of {self.name}, {self.share:.0%} read>"

    @property
    def share(self) -> float:
        return min(1.0, self._raw.tell() / self._size) if self._size else 0.0

    def __iter__(self) -> Iterator[tuple[int, bytes | None]]:
        """Each line with its number; None for one that is too long. Raises `Unusable` where the file is damaged."""
        number = 0
        try:
            while line := self._file.readline(LINE_BYTES + 1):
                number += 1
                if len(line) <= LINE_BYTES:
                    yield number, line
                else:
                    while not line.endswith(b"\n") and (line := self._file.readline(LINE_BYTES)):
                        pass
                    yield number, None
        except (OSError, EOFError, zlib.error) as exc:
            raise Unusable(f"{self.name} can't be read beyond line {number}: {exc}") from exc


@contextmanager
def open_lines(name: str) -> Iterator[Lines]:
    """The lines of the file of this name, or of standard input (`-`); raises `Unusable` if it can't be opened."""
    with ExitStack() as closing:
        try:
            raw = closing.enter_context(_open(name))
            size = os.fstat(raw.fileno()).st_size
        except OSError as exc:
            raise Unusable(f"{name} can't be opened: {exc.strerror}") from exc
        file = raw
        if raw.peek(len(GZIP)).startswith(GZIP):
            file = io.BufferedReader(closing.enter_context(gzip.GzipFile(fileobj=raw)))
        yield Lines(name, file, raw, size)


def _open(name: str) -> io.BufferedReader:
    return os.fdopen(0, "rb", closefd=False) if name == STANDARD_INPUT else Path(name).open("rb")


def records(lines: Lines) -> Iterator[Row | Bad]:
    """What the lines hold: JSON objects, or fields under the names of the first line. Empty lines are nothing."""
    header: list[str] | None = None
    is_json: bool | None = None
    for number, data in lines:
        text = _decoded(data, first=number == 1)
        if isinstance(text, str) and not text.strip():
            continue
        if is_json is None and isinstance(text, str):
            is_json = text.lstrip().startswith("{")
            if not is_json:
                header = _header(lines.name, text)
                continue
        found = _members(text, header) if isinstance(text, str) else text
        yield Bad(number, found.fault) if isinstance(found, _Fault) else Row(number, found)


class _Fault(msgspec.Struct, frozen=True):
    fault: str


def _decoded(data: bytes | None, *, first: bool) -> str | _Fault:
    if data is None:
        return _Fault(f"is longer than {LINE_BYTES >> 20} MiB")
    try:
        return data.decode("utf-8-sig" if first else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as exc:
        return _Fault(f"is not UTF-8: byte {exc.start + 1} is out of place")


def _header(name: str, text: str) -> list[str]:
    names = [field.strip() for field in text.split("\t")]
    twice = next((field for field in names if names.count(field) > 1), None)
    if twice is not None:
        raise Unusable(f"{name}: the header line names the column '{twice[:100]}' twice")
    return names


def _members(text: str, header: list[str] | None) -> dict[str, Any] | _Fault:
    if header is None:
        return _object(text)
    fields = text.split("\t")
    if len(fields) != len(header):
        return _Fault(f"has {len(fields)} fields, but the header line has {len(header)}")
    return dict(zip(header, fields, strict=True))


def _object(text: str) -> dict[str, Any] | _Fault:
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as exc:
        return _Fault(f"is not JSON: {exc}")
    return found if isinstance(found, dict) else _Fault("is no JSON object")
