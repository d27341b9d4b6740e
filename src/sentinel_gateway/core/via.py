"""Which gateways a request has come through, as `Via` tells it (RFC 9110, 7.6.3): so that a loop ends, however wide it is.

Each gateway names itself to the next, behind those of its kind that came before. What else stands between them is left out: it
is no business of a provider's.
"""

import hmac
import re
from collections.abc import Sequence
from typing import Final

MOST_HOPS: Final = 8
"""Gateways that a request may have come through. No sane chain is longer: this ends a loop that no name gives away."""

_MEMBER: Final = re.compile(r"(?:HTTP/)?1\.[01] (sentinel-[0-9a-f]{8})(?: \([^()]*\))?", re.ASCII | re.IGNORECASE)


def own_name(secret: bytes, service: str) -> str:
    """What a gateway is called in `Via`. All nodes with one secret and one name of the service are the same gateway.

    For where a balancer stands before them, what comes back meets another node than it has left.
    """
    return f"sentinel-{hmac.digest(secret, f'sentinel: {service} in Via'.encode(), 'sha256').hex()[:8]}"


def gateways(via: str) -> list[str]:
    """The names of those of our kind in a `Via` header, the first that it came through first."""
    members = (_MEMBER.fullmatch(member.strip(" \t")) for member in via.split(","))
    return [found[1].lower() for found in members if found]


def written(names: Sequence[str]) -> str:
    """The header that names these."""
    return ", ".join(f"1.1 {name}" for name in names)
