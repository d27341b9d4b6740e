"""The admin key: the operator's own, or one made at the first start.

Only its hash is kept. It is 256 random bits, so a plain SHA-256 of it can't be guessed back.
"""

import hashlib
import secrets
from pathlib import Path
from typing import Final

import msgspec

from sentinel_gateway.stores._once import kept_once

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
    """The configured key, else the one made before, else a new one; raises `ConfigurationError` if it can't be kept or read."""
    if configured is not None:
        return AdminKey(digest_of(configured))
    key = PREFIX + secrets.token_urlsafe(32)
    mend = "put it back from a backup, or delete it, and the next start makes a new admin key and shows it"
    digest = kept_once(folder / FILE, digest_of(key), what="the admin key", mend=mend)
    return AdminKey(digest, fresh=key if digest == digest_of(key) else None)
