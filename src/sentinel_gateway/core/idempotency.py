"""A request that may be sent twice and is done once: its key, what makes it the same request, and what is kept of its answer."""

import hashlib
import re
from typing import Final

import msgspec

from sentinel_gateway.errors import RequestError, UpstreamRefused

LIFETIME: Final = 86_400.0
"""Seconds from a key's first use to its last."""
KEY: Final = re.compile(r'"?([!#-\[\]-~]{1,255})"?', re.ASCII)
"""Visible ASCII without quotes and backslashes: a structured string, as the IETF's draft has it, or bare, as clients send it."""
SURE: Final = frozenset({400, 413, 415, 422})
"""With these a provider refuses the same request again, so that asking once more is of no use."""


class Answered(msgspec.Struct, frozen=True, tag="answered", omit_defaults=True):
    """A `chat.completion`, as bytes, and the target that made it.

    One from the cache has its similarity, 1.0 for the same question; one to another question has that, too.
    """

    body: bytes
    target: str = ""
    similarity: float | None = None
    matched: str | None = None


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The provider's own refusal."""

    status: int
    code: str | None
    message: str
    param: str | None


class TooLong(msgspec.Struct, frozen=True, tag="too-long"):
    """It was answered, at such length that the answer is not kept."""


Outcome = Answered | Refused | TooLong


class Claim(msgspec.Struct, frozen=True):
    """The wish to be the one who does it. `mark` stands for tenant and key, `fingerprint` for the request: 32 bytes each."""

    mark: bytes
    fingerprint: bytes
    tenant: str


class Held(msgspec.Struct, frozen=True):
    """Somebody was first. Without an outcome the work was begun, and is not known to have ended."""

    fingerprint: bytes
    outcome: Outcome | None


class Quota(msgspec.Struct, frozen=True):
    """What is kept of one tenant: keys, and bytes of outcomes. Beyond it the tenant's oldest outcomes go first."""

    keys: int = 10_000
    bytes: int = 64 << 20


def read_key(value: str) -> str | None:
    """The key that a header holds; None if it is none."""
    found = KEY.fullmatch(value)
    return found[1] if found and value.startswith('"') == value.endswith('"') else None


def claim(key: str, *, tenant: str, route: str, body: bytes, headers: str = "") -> Claim:
    """What is asked for under this key, `headers` being what those say of it. The same key of two tenants is two keys."""
    owner = tenant.encode()
    mark = hashlib.sha256(b"sentinel:idempotency:v1:%d:%b:%b" % (len(owner), owner, key.encode()))
    asked = f"{route} {headers}" if headers else route
    return Claim(mark.digest(), hashlib.sha256(b"%b\n%b" % (asked.encode(), body)).digest(), tenant)


def refused(error: RequestError) -> Refused | None:
    """What is kept of an error; None for one that may be gone the next time."""
    if not isinstance(error, UpstreamRefused) or error.http_status not in SURE:
        return None
    return Refused(error.http_status, error.upstream_code, error.message, error.param)


def refusal(kept: Refused) -> UpstreamRefused:
    """The error again, as it was."""
    return UpstreamRefused(kept.message, upstream_status=kept.status, upstream_code=kept.code, param=kept.param)
