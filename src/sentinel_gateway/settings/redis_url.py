"""What the address of a Redis must be. The sentences never repeat it: it may hold a password."""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlsplit

from pydantic import SecretStr

SCHEMES: Final = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
TLS_OPTIONS: Final = (
    "ssl_ca_certs",
    "ssl_cert_reqs",
    "ssl_certfile",
    "ssl_check_hostname",
    "ssl_ciphers",
    "ssl_keyfile",
)
"""As redis-py names them; all but `ssl_cert_reqs` and `ssl_check_hostname` are files or lists of ciphers."""
VALUES: Final[Mapping[str, frozenset[str]]] = {
    "ssl_cert_reqs": frozenset({"none", "optional", "required"}),
    "ssl_check_hostname": frozenset({"true", "false"}),
}
HIGHEST_PORT: Final = 65_535
_FORM: Final = (
    "write redis://:password@host:6379/0, rediss://..., unix:///socket, redis+sentinel://host/master or redis+cluster://host"
)


_SERVERS: Final = re.compile(r"(?<=://)((?:[^/?#]*@)?)([^/?#]*)")
"""Who, and the servers. They are cut out before `urlsplit` sees them: some versions of it take no brackets but at the start."""


def check_redis(url: SecretStr) -> SecretStr:
    """The address, if it is one."""
    text = url.get_secret_value()
    try:
        at = urlsplit(_SERVERS.sub(r"\1", text, count=1))
    except ValueError:  # whose own words may hold the password
        raise ValueError(f"is no address: {_FORM}") from None
    if fault := _fault(at, _servers(text)):
        raise ValueError(f"{fault}: {_FORM}")
    return url


def without_password(url: str) -> str:
    """The address as it may be shown."""
    at = urlsplit(_SERVERS.sub("", url, count=1))
    return f"{at.scheme}://{_servers(url)}{at.path}"


def _servers(url: str) -> str:
    found = _SERVERS.search(url)
    return found[2] if found else ""


def _fault(at: SplitResult, servers: str) -> str | None:
    if at.scheme not in SCHEMES:
        return "is no address of a Redis"
    if fault := _fault_of_options(at):
        return fault
    if at.scheme == "unix":
        return None if at.path.strip("/") else "names no socket"
    hosts = servers.split(",")
    if not all(map(_is_host, hosts)):
        return "names no host, or a port that is none"
    return _fault_of_path(at) or ("names several hosts" if len(hosts) > 1 and "+" not in at.scheme else None)


def _fault_of_options(at: SplitResult) -> str | None:
    known = ["db"]
    if at.scheme.endswith("+sentinel"):
        known.append("sentinel_password")
    if at.scheme.startswith("rediss"):
        known += TLS_OPTIONS
    for name, value in parse_qsl(at.query, keep_blank_values=True):
        if name in TLS_OPTIONS and name not in known:
            return "has an option of TLS, which only rediss://... uses"
        if name not in known:
            return f"has an option that is none of {', '.join(known)}"
        if value not in VALUES.get(name, {value}):
            return f"has a {name} that is none of {', '.join(sorted(VALUES[name]))}"
    return None


def _fault_of_path(at: SplitResult) -> str | None:
    path, numbers = at.path.strip("/"), [value for name, value in parse_qsl(at.query, keep_blank_values=True) if name == "db"]
    if at.scheme.endswith("+sentinel"):
        master, _, path = path.partition("/")
        if not master:
            return "names no master"
    if at.scheme.endswith("+cluster") and (path or numbers):
        return "names a database, but a cluster has only one"
    return None if all(number.isdecimal() for number in (path or "0", *numbers)) else "names a database that is no number"


def _is_host(text: str) -> bool:
    try:
        at = urlsplit(f"//{text}")
        return bool(at.hostname) and (at.port is None or 0 < at.port <= HIGHEST_PORT)
    except ValueError:
        return False
