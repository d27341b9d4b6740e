"""The addresses of providers: what is asked of which host."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, unquote, urlencode, urlsplit

from sentinel_gateway.providers._connection import Origin

DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_SAFE: Final = "/%:@!$&'()*+,;=~"


def endpoint_url(base_url: str, path: str, query: Mapping[str, str]) -> str:
    """A path below a base URL, with a query."""
    return f"{base_url.rstrip('/')}/{path}{f'?{urlencode(query)}' if query else ''}"


def read_url(url: str) -> tuple[Origin | None, str, str]:
    """Whom to connect to, the Host header, the request's target. No origin: this is no HTTP URL."""
    try:
        parts = urlsplit(url)
        host = unquote(parts.hostname or "").encode("ascii" if (parts.hostname or "").isascii() else "idna").decode("ascii")
        port = parts.port or DEFAULT_PORTS.get(parts.scheme, 0)
    except ValueError:
        return None, "", ""
    if not host or not port or parts.scheme not in DEFAULT_PORTS:
        return None, "", ""
    shown = f"[{host.partition('%')[0]}]" if ":" in host else host
    if port != DEFAULT_PORTS[parts.scheme]:
        shown = f"{shown}:{port}"
    target = quote(parts.path or "/", safe=_SAFE) + (f"?{parts.query}" if parts.query else "")
    return Origin(host, port, parts.scheme == "https"), shown, target
