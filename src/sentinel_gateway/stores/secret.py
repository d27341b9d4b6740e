"""The gateway's secret: client keys are hashed with it, and what callers bring back is signed with it. Made at the first start.

Whoever has it and the database can try keys offline; whoever has one of them can't. Without it no key works again.
"""

import contextlib
import os
import re
import secrets
import stat
from pathlib import Path
from typing import Final

from sentinel_gateway.errors import ConfigurationError

FILE: Final = "secret"
BYTES: Final = 32
_MADE: Final = re.compile(rb"[0-9a-f]{64}")


def gateway_secret(folder: Path, configured: str | None) -> bytes:
    """The configured secret, else the one made before, else a new one, kept for this user only.

    Raises `ConfigurationError` where the file can't be kept or trusted. What is configured, the settings have looked at.
    """
    if configured is not None:
        return configured.encode()
    file = folder / FILE
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not file.exists():
            _make(file)
        return _read(file)
    except OSError as exc:
        raise ConfigurationError([("data_dir", f"the secret can't be kept in {file} ({exc}): make the folder writable")]) from exc


def _read(file: Path) -> bytes:
    if file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigurationError([(str(file), "other users of this machine can read it: chmod 600, and think of who may have")])
    secret = file.read_bytes().strip()
    if not _MADE.fullmatch(secret):
        raise ConfigurationError([(str(file), "is damaged: put it back from a backup; with another secret no client key works")])
    return secret


def _make(file: Path) -> None:
    """Whole or not there, and never in place of one that another process has made meanwhile."""
    draft = file.with_name(f"{FILE}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(secrets.token_hex(BYTES))
            out.flush()
            os.fsync(out.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, file)
        _sync(file.parent)
    finally:
        draft.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
