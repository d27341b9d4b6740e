"""What keeps other people's web pages from using a gateway that trusts this machine: a browser runs what any page tells it to.

Pages are told by their origin, and by the name that they ask for. Programs send no Origin and ask for the name they were given.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import msgspec

from sentinel_gateway.errors import HostRefused, PageRefused

ANY: Final = "*"
REMEMBERED: Final = 64
_HOST: Final = rb"(localhost\.?|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]{1,5})?"
_LOCAL_HOST: Final = re.compile(_HOST, re.IGNORECASE)
_LOCAL_ORIGIN: Final = re.compile(rb"https?://" + _HOST, re.IGNORECASE)
_PORT: Final = re.compile(rb":[0-9]{1,5}$")


class Pages(msgspec.Struct, frozen=True):
    """Which web pages may call: those of this machine, and of the operator's `origins` (`*`: all).

    A browser lets any page send a simple POST anywhere, and a name that resolves to this machine makes it same-origin: what
    tells such a call from a program's is its Origin header.
    """

    origins: tuple[str, ...] = ()
    credentials: bool = False

    def check(self, origin: bytes) -> None:
        """Raises `PageRefused`."""
        if _LOCAL_ORIGIN.fullmatch(origin) or ANY in self.origins or origin.decode("latin-1") in self.origins:
            return
        raise PageRefused("This gateway takes no calls from this page: its operator can add its origin to server.cors.origins.")


class Hosts(msgspec.Struct, frozen=True):
    """Which names this gateway answers to: those of this machine, and `names`, in lower case and without ports (`*`: all).

    A page of an attacker's can make its own name lead to this machine once the browser has loaded it (DNS rebinding), and then
    read what GET answers, as from its own site.
    """

    names: tuple[str, ...] = ()

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Raises `HostRefused`. Who sends no Host is no browser."""
        host = headers.get(b"host")
        if host is None or _is_local(host) or ANY in self.names or _name(host) in self.names:
            return
        raise HostRefused("This gateway does not answer to this name: its operator can add it to server.allowed_hosts.")

    def own(self, headers: Mapping[bytes, bytes]) -> bool:
        """Is this a page of the gateway's own, by one of `names`? `*` says nothing: then anybody's page may come by its name."""
        _, _, origin = headers[b"origin"].partition(b"://")
        return _name(origin) in self.names and _name(origin) == _name(headers.get(b"host", b""))


class Browsers(msgspec.Struct, frozen=True):
    """Both rules, as every route has them."""

    pages: Pages = Pages()
    hosts: Hosts = Hosts()

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Raises `PageRefused` or `HostRefused`."""
        if b"origin" in headers:
            try:
                self.pages.check(headers[b"origin"])
            except PageRefused:
                if not self.hosts.own(headers):
                    raise
        self.hosts.check(headers)


@lru_cache(REMEMBERED)
def _is_local(host: bytes) -> bool:
    return _LOCAL_HOST.fullmatch(host) is not None


def _name(host: bytes) -> str:
    return _PORT.sub(b"", host).decode("latin-1").lower().removesuffix(".")
