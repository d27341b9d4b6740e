"""A running gateway, asked as its operator: where a command can't open the files itself, since the gateway holds them."""

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from sentinel_gateway.cli.edge import loader, refuse
from sentinel_gateway.errors import ConfigurationError

if TYPE_CHECKING:
    from sentinel_gateway.settings.model import Settings

PATIENCE: Final = 60.0
"""Seconds: a clear by similarity takes half a minute."""
FAILED: Final = 1
"""Exit code where the gateway does not answer, or refuses."""
ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where to go for what listens everywhere
NO_KEY: Final = "the admin key is needed: set SENTINEL_ADMIN_KEY to the one that the first start has shown"


class Refused(Exception):
    """What the gateway said instead, or why it said nothing."""


class Remote:
    """A gateway by its address, and the key to its `/admin`."""

    def __init__(self, address: str, key: str) -> None:
        self._address = address
        self._key = key
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def __repr__(self) -> str:
        return f"<Remote {self._address}>"

    def ask(self, method: str, path: str, *, query: Mapping[str, Any] | None = None, body: Any = None) -> Any:
        """What it answers, as JSON; what is None is left out of the query. Raises `Refused`."""
        given = {name: value for name, value in (query or {}).items() if value is not None}
        url = f"{self._address}{path}{'?' + urlencode(given) if given else ''}"
        raw = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, raw, {"authorization": f"Bearer {self._key}"}, method=method)  # noqa: S310 - http(s) only
        try:
            with self._opener.open(request, timeout=PATIENCE) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as exc:
            raise Refused(_said(exc)) from exc
        except OSError as exc:
            fix = "start it, or name another with --url"
            raise Refused(f"no gateway answers at {self._address} ({getattr(exc, 'reason', exc)}): {fix}") from exc


def run(errand: Callable[[Remote], None], config: Path | None, url: str | None) -> int:
    """Carry it out at the gateway of this configuration, or at `url`; the exit code."""
    try:
        settings = loader(config)().settings
    except ConfigurationError as error:
        return refuse(error)
    try:
        errand(_remote(settings, url))
    except Refused as error:
        print(f"sentinel: {error}", file=sys.stderr)
        return FAILED
    return 0


def _remote(settings: "Settings", url: str | None) -> Remote:
    if settings.admin_key is None:
        raise Refused(NO_KEY)
    host = ANYWHERE.get(settings.server.host, settings.server.host)
    own = f"http://{f'[{host}]' if ':' in host else host}:{settings.server.port}"
    return Remote(own if url is None else url.rstrip("/"), settings.admin_key.get_secret_value())


def _said(answer: urllib.error.HTTPError) -> str:
    try:
        problem = json.load(answer)
    except (ValueError, OSError):
        problem = None
    said = problem.get("error") if isinstance(problem, dict) else None
    return said if isinstance(said, str) else f"the gateway answered {answer.code}"
