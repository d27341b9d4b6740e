"""Addresses as settings hold them: which hosts are this machine, and what a base URL must look like. No look-ups, no sockets."""

import ipaddress
from typing import Final
from urllib.parse import SplitResult, urlsplit

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
QDRANT_GRPC: Final = 6334


def is_loopback(host: str) -> bool:
    """True if nobody beyond this machine can reach it."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_this_machine(host: str) -> bool:
    """True for loopback, and for the wildcards, which reach this machine when they are called."""
    return is_loopback(host) or host in {"0.0.0.0", "::"}  # noqa: S104 - compared, never bound


def port_of(url: SplitResult) -> int | None:
    """The port that a URL means, spelled out or not."""
    return url.port or DEFAULT_PORTS.get(url.scheme)


def check_base_url(text: str) -> str:
    """The URL without a slash at its end; ValueError says what would be right, and never repeats credentials."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise ValueError("is not a URL: write something like https://api.example.com/v1") from None
    if url.scheme not in DEFAULT_PORTS or not url.hostname or port == 0 or any(c.isspace() or not c.isprintable() for c in text):
        raise ValueError("must be an http or https URL with a host, such as https://api.example.com/v1")
    if url.username is not None or url.password is not None:
        raise ValueError("must not hold credentials: put the key into api_key")
    if "?" in text or "#" in text:
        raise ValueError("must end with its path: put what follows '?' into query, and drop what follows '#'")
    path = url.path.rstrip("/")
    if path.endswith("/chat/completions"):
        raise ValueError("must be the base URL: leave out /chat/completions, which is added")
    return f"{url.scheme}://{url.netloc}{path}"


def check_otlp(text: str) -> str:
    """The address as it is: unlike a header it may get into the log, so it holds nothing that could be a secret."""
    if any(mark in text for mark in "?#@"):
        raise ValueError("must have no '?', '#' or '@': put credentials into OTEL_EXPORTER_OTLP_HEADERS, as name=value")
    check_base_url(text)
    return text


def check_qdrant(text: str) -> str:
    """As `check_base_url`; Qdrant is spoken to by HTTP."""
    if urlsplit(url := check_base_url(text)).port == QDRANT_GRPC:
        raise ValueError("names Qdrant's port for gRPC, 6334: write the one for HTTP, 6333 unless you changed it")
    return url


def is_own_address(base_url: str, host: str, port: int) -> bool:
    """Would a call to `base_url` come back to the gateway that listens on `host` and `port`?"""
    url = urlsplit(base_url)
    other = url.hostname or ""
    return port_of(url) == port and (other == host.lower() or is_this_machine(other))
