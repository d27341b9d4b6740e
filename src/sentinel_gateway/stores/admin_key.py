"""The admin key: the operator's own, or one made at the first start.

Only its hash is kept. It is 256 random bits, so a plain SHA-256 of it can't be guessed back.
"""

import hashlib
import os
import secrets
from pathlib import Path
from typing import Final

import msgspec

from sentinel_gateway.errors import ConfigurationError

FILE: Final = "admin-key.sha256"
PREFIX: Final = "sk-sn-admin-"


class AdminKey(msgspec.Struct, frozen=True):
    """`digest` is the SHA-256 in hex. `fresh` is the key itself, only when it was made just now: show it once."""

    digest: str
    fresh: str | None = None


def digest_of(key: str) -> str:
    """How a key is compared and kept."""
    return hashlib.sha256(key.encode()).hexdigest()


def admin_key(folder: Path, configured: str | None) -> AdminKey:
    """The configured key, else the one made before, else a new one; raises `ConfigurationError` if it can't be kept."""
    if configured is not None:
        return AdminKey(digest_of(configured))
    file = folder / FILE
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if file.exists():
            return AdminKey(file.read_text("ascii").strip())
        key = PREFIX + secrets.token_urlsafe(32)
        _write_once(file, digest_of(key))
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(
            [("data_dir", f"the admin key can't be kept in {file} ({exc}): make the folder writable")]
        ) from exc
    return AdminKey(digest_of(key), fresh=key)


def _write_once(file: Path, text: str) -> None:
    """Readable by this user only from its first byte on."""
    draft = file.with_suffix(".new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.write(text)
        os.fsync(out.fileno())
    draft.replace(file)
