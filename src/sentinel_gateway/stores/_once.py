"""A file of the data folder that is made at the first start and never replaced: 32 bytes in hex, for this user only."""

import contextlib
import os
import re
import secrets
from pathlib import Path
from typing import Final

from sentinel_gateway.errors import ConfigurationError

_HEX: Final = re.compile(r"[0-9a-f]{64}")


def kept_once(file: Path, new: str, *, what: str, mend: str) -> str:
    """What the file holds: `new`, if there was none. Of all who start at once, one makes it and all are given the same.

    Raises `ConfigurationError` where it can't be kept, with what it is, or holds anything else, with how to mend that.
    """
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not file.exists():
            _make(file, new)
        text = file.read_bytes().decode("ascii", "replace").strip()
    except OSError as exc:
        raise ConfigurationError([("data_dir", f"{what} can't be kept in {file} ({exc}): make the folder writable")]) from exc
    if not _HEX.fullmatch(text):
        raise ConfigurationError([(str(file), f"is damaged: {mend}")])
    return text


def _make(file: Path, text: str) -> None:
    """Whole or not there, and never in place of one that another process has made meanwhile."""
    draft = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(text)
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
