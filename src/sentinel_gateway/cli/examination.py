"""Is this machine as the gateway needs it? For `sentinel doctor`; changes nothing and costs nothing."""

import errno
import http.client
import os
import re
import shutil
import socket
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final
from urllib.parse import quote

from sentinel_gateway.settings.model import Server, Settings

FLOORS: Final = {"httptools": (0, 7), "starlette": (1, 0, 1)}
"""Older ones have known holes."""

PATIENCE: Final = 2.0
"""Seconds to wait for whoever has our port."""

KEPT: Final = ("sentinel.db", "ledger.db")
"""What can't be made anew: the other files are only caches."""
GIB: Final = 1 << 30
LEAST: Final = 64 << 20
"""Bytes on the disk below which hardly anything works."""
SQLITE_MAGIC: Final = b"SQLite format 3\0"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `detail` names the remedy if it isn't `ok`, or if it may not be so for long (`warn`)."""

    name: str
    ok: bool
    detail: str
    warn: bool = False

    @property
    def mark(self) -> str:
        """In a word."""
        return "FAIL" if not self.ok else "warn" if self.warn else "ok"


def examine(settings: Settings) -> Iterator[Finding]:
    """Everything on this machine."""
    yield from check_versions()
    yield check_folder(settings.data_dir)
    yield check_disk(settings)
    yield from check_databases(settings.data_dir)
    yield check_port(settings.server)


def check_versions() -> Iterator[Finding]:
    """Python, SQLite, and the libraries that have a floor."""
    python = ".".join(str(part) for part in sys.version_info[:3])
    yield Finding("Python", sys.version_info >= (3, 11), f"{python}, needs 3.11")
    yield Finding("SQLite", ok=True, detail=sqlite3.sqlite_version)
    for name, floor in FLOORS.items():
        version = metadata.version(name)
        needed = ".".join(str(part) for part in floor)
        yield Finding(name, _parts(version) >= floor, f"{version}, needs {needed}")


def check_folder(folder: Path) -> Finding:
    """May state be written? A folder that isn't there yet is made at the first start."""
    name = "data folder"
    if not _is_there(folder):
        around = next(parent for parent in folder.parents if _is_there(parent))
        if around.is_dir() and os.access(around, os.W_OK | os.X_OK):
            return Finding(name, ok=True, detail=f"{folder} will be made at the first start")
        return Finding(name, ok=False, detail=f"{folder} can't be made in {around}: choose another with SENTINEL_DATA_DIR")
    try:
        with tempfile.TemporaryFile(dir=folder):
            return Finding(name, ok=True, detail=f"{folder} can be written")
    except OSError as exc:
        return Finding(name, ok=False, detail=f"{folder}: {exc.strerror}: mend it, or choose another with SENTINEL_DATA_DIR")


def check_disk(settings: Settings) -> Finding:
    """Is there room for what the data folder may come to hold?"""
    folder = settings.data_dir
    around = next(place for place in (folder, *folder.parents) if _is_there(place))
    disk, free = settings.cache.disk, shutil.disk_usage(around).free
    may_take = settings.ledger.journal_bytes + (disk.bytes if disk.enabled and settings.redis.address is None else 0)
    told = f"{free / GIB:.1f} GiB free"
    if free < LEAST:
        return Finding("disk", ok=False, detail=f"{told}: make room, or choose another with SENTINEL_DATA_DIR")
    if free < may_take:
        fix = "make room, or lower cache.disk.bytes or ledger.journal_bytes"
        return Finding("disk", ok=True, warn=True, detail=f"{told}, where {may_take / GIB:.1f} GiB may be taken: {fix}")
    return Finding("disk", ok=True, detail=told)


def check_databases(folder: Path) -> Iterator[Finding]:
    """Each SQLite file in the data folder, opened for reading only."""
    for path in sorted(folder.glob("*")) if _is_there(folder) and folder.is_dir() else ():
        if _is_there(path) and path.is_file() and _starts_with(path, SQLITE_MAGIC):
            yield _check_database(path)


def check_port(server: Server) -> Finding:
    """Can we listen, or do we already?"""
    name = f"port {server.port}"
    if server.port == 0:
        return Finding(name, ok=True, detail="any free one")
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    try:
        with socket.create_server((server.host, server.port), family=family):
            return Finding(name, ok=True, detail=f"free on {server.host}")
    except OSError as exc:
        if exc.errno != errno.EADDRINUSE:
            return Finding(name, ok=False, detail=f"can't be used on {server.host}: {exc.strerror}: choose another with PORT")
    if _is_sentinel(server):
        return Finding(name, ok=True, detail=f"a running Sentinel answers on {server.host}")
    return Finding(name, ok=False, detail=f"another program has it on {server.host}: stop that one, or choose another with PORT")


def _is_sentinel(server: Server) -> bool:
    with closing(http.client.HTTPConnection(server.host, server.port, timeout=PATIENCE)) as connection:
        try:
            connection.request("GET", "/livez")
            return connection.getresponse().getheader("x-sentinel-id") is not None
        except (OSError, http.client.HTTPException):
            return False


def _check_database(path: Path) -> Finding:
    # Nobody has it open if there is no log: then nothing but the file is read, and nothing is made beside it.
    mode = "mode=ro" if path.with_name(path.name + "-wal").exists() else "immutable=1"
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?{mode}", uri=True, timeout=PATIENCE)) as database:
            (verdict,) = database.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.Error as exc:
        verdict = str(exc)
    if verdict == "ok":
        return Finding(path.name, ok=True, detail="whole")
    fix = "put it back from a backup" if path.name in KEPT else "move the file away; a new one is made at the start"
    return Finding(path.name, ok=False, detail=f"damaged ({verdict}): stop Sentinel and {fix}")


def _is_there(path: Path) -> bool:
    """For us, that is: below a folder that we may not search nothing is, where `Path.exists` raises."""
    try:
        path.stat()
    except OSError:
        return False
    return True


def _starts_with(path: Path, magic: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(magic)) == magic
    except OSError:
        return False


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
