"""Which names this gateway answers to.

A page of an attacker's can make its own name lead to this machine once the browser has loaded it (DNS rebinding), and then read
what GET answers, as from its own site. What tells such a call from an honest one is the name that it asks for.
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from sentinel_gateway.errors import HostRefused

ANY: Final = "*"
_LOCAL: Final = re.compile(rb"(localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)
_PORT: Final = re.compile(rb":[0-9]{1,5}$")


class Hosts(msgspec.Struct, frozen=True):
    """The names of this machine, and the operator's `names`, in lower case and without ports (`*`: all names there are)."""

    names: tuple[str, ...] = ()

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Raises `HostRefused`. Who sends no Host is no browser."""
        host = headers.get(b"host")
        if host is None or _LOCAL.fullmatch(host) or ANY in self.names or _name(host) in self.names:
            return
        raise HostRefused("This gateway does not answer to this name: its operator can add it to server.allowed_hosts.")


LOCAL: Final = Hosts()
"""This machine's own names alone."""


def _name(host: bytes) -> str:
    return _PORT.sub(b"", host).decode("latin-1").lower().removesuffix(".")
