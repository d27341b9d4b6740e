"""What counts as a sane request head. Rules over its parts, without a connection.

What can be understood in two ways is refused, because a proxy before us may have understood it in the other one. Methods, hosts
and targets hardly change from request to request, so the last sane ones are remembered; what raises never is.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote

from sentinel_gateway.api.asgi import Header
from sentinel_gateway.errors import BadRequest, InvalidHeader, MethodNotAllowed

TARGET_BYTES: Final = 8192
MOST_PARAMETERS: Final = 200
"""Of a query. No route knows more than a dozen, and each takes microseconds to be told so."""
REMEMBERED: Final = 64

FRAMING: Final = frozenset({b"transfer-encoding", b"expect"})
"""Headers that change how a body comes: most requests have none of them."""
HOST: Final = re.compile(rb"(?:[\w.-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?[ \t]*", re.ASCII)
ABSOLUTE: Final = re.compile(rb"https?://[\w.:\[\]-]+(/[^?]*)?(?:\?(.*))?", re.ASCII | re.IGNORECASE)


class Target(NamedTuple):
    """What is asked for: the path, decoded and as it came, and what follows the question mark."""

    path: str
    raw_path: bytes
    query: bytes


@lru_cache(REMEMBERED)
def read_method(method: bytes, version: str) -> str:
    """The method of a request line; raises if it or the version is not served."""
    if version not in ("1.1", "1.0"):
        raise BadRequest(f"HTTP/{version} is not served here: use HTTP/1.1.")
    if method in (b"CONNECT", b"TRACE"):
        raise MethodNotAllowed(f"{method.decode('ascii')} is not allowed here.", allowed=("GET", "HEAD", "POST"))
    return method.decode("ascii")


def header_map(headers: Sequence[Header]) -> Mapping[bytes, bytes]:
    """Headers by lower-case name; those sent several times are joined by commas, as HTTP means them."""
    joined = dict(headers)
    if len(joined) != len(headers):
        joined = {}
        for name, value in headers:
            joined[name] = joined[name] + b", " + value if name in joined else value
    return joined


def check_fields(fields: Mapping[bytes, bytes], headers: Sequence[Header], version: str, *, upgrade: bool) -> bool:
    """The headers that frame a request, by name and as they came. Does the caller wait to be told to continue?

    `upgrade`: the parser takes this for an upgrade, and so would take the body for the next request.
    """
    if len(fields) != len(headers) and sum(name == b"host" for name, _ in headers) > 1:
        raise InvalidHeader("There is more than one Host header.", param="host")
    host = fields.get(b"host")
    if host is not None:
        check_host(host)
    elif version == "1.1":
        raise InvalidHeader("The Host header is missing.", param="host")
    if FRAMING.isdisjoint(fields) and not upgrade:
        return False
    coding = fields.get(b"transfer-encoding")
    if coding is not None and (coding.strip().lower() != b"chunked" or version == "1.0"):
        raise InvalidHeader("The only transfer encoding here is chunked, in HTTP/1.1.", param="transfer-encoding")
    if upgrade and (coding is not None or b"content-length" in fields):
        raise InvalidHeader("A request with a body can't ask for an upgrade: leave that header away.", param="upgrade")
    expectation = fields.get(b"expect")
    return expectation is not None and version == "1.1" and expectation.lower() == b"100-continue"


@lru_cache(REMEMBERED)
def check_host(host: bytes) -> None:
    """Anything but a host name or an address, with or without a port, is refused."""
    if HOST.fullmatch(host) is None:
        raise InvalidHeader("The Host header is not a host name or an address, with or without a port.", param="host")


@lru_cache(REMEMBERED)
def parse_target(target: bytes) -> Target:
    """A path, or an absolute URL as proxies are sent; its host is ignored, because no rule here depends on a host."""
    if len(target) > TARGET_BYTES:
        raise BadRequest(f"The request's target is longer than {TARGET_BYTES} bytes.")
    if target.startswith(b"/"):
        raw_path, _, query = target.partition(b"?")
    elif absolute := ABSOLUTE.fullmatch(target):
        raw_path, query = absolute[1] or b"/", absolute[2] or b""
    else:
        raise BadRequest("The request's target is neither a path nor an absolute http URL.")
    if query.count(b"&") >= MOST_PARAMETERS:
        raise BadRequest(f"The request's target has more than {MOST_PARAMETERS} parameters.")
    if b"#" in target:
        raise BadRequest("The request's target has a fragment: leave away what begins with '#'.")
    return Target(unquote(raw_path.decode("ascii")), raw_path, query)


def head_size(target: bytes, headers: Sequence[Header]) -> int:
    """Bytes, but for the constant parts of the request line."""
    return len(target) + sum(len(name) + len(value) + 4 for name, value in headers)
