"""The gateway's secret: client keys are hashed with it, and what callers bring back is signed with it. Made at the first start.

Whoever has it and the database can try keys offline; whoever has one of them can't. Without it no key works again.
"""

import secrets
import stat
from pathlib import Path
from typing import Final

from sentinel_gateway.errors import ConfigurationError
from sentinel_gateway.stores._once import kept_once

FILE: Final = "secret"
BYTES: Final = 32


def gateway_secret(folder: Path, configured: str | None) -> bytes:
    """The configured secret, else the one made before, else a new one, kept for this user only.

    Raises `ConfigurationError` where the file can't be kept or trusted. What is configured, the settings have looked at.
    """
    if configured is not None:
        return configured.encode()
    file = folder / FILE
    mend = "put it back from a backup; with another secret no client key works"
    secret = kept_once(file, secrets.token_hex(BYTES), what="the secret", mend=mend)
    if file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigurationError([(str(file), "other users of this machine can read it: chmod 600, and think of who may have")])
    return secret.encode()
