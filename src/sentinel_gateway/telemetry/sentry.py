"""Faults of our own, told to Sentry: which one, where in our code it came from, and its request's id. Nothing else of that.

An exception's text may hold what a caller wrote, so it stays here, as do local variables; requests, users and breadcrumbs are
never collected, for the SDK is used as a client alone: none of its integrations is on.
"""

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from sentry_sdk import Client
from sentry_sdk.utils import event_from_exception

from sentinel_gateway import __version__
from sentinel_gateway.telemetry.lines import Value, clean

if TYPE_CHECKING:
    from sentry_sdk.types import Event

AGAIN: Final = 60.0
"""Seconds before the same fault is told again: one that every request meets is one fault."""
MOST_FAULTS: Final = 256
"""Faults that are told apart."""
FLUSH: Final = 2.0
"""Seconds that closing waits for what is on its way."""


class SentryReports:
    """Sends to `dsn`, by a thread of the SDK's. `report` never blocks and never raises."""

    def __init__(self, dsn: str) -> None:
        self._told: dict[tuple[str, ...], float] = {}
        self._client = Client(
            dsn,
            release=f"sentinel-gateway@{__version__}",
            default_integrations=False,
            auto_enabling_integrations=False,
            auto_session_tracking=False,
            send_client_reports=False,
            include_local_variables=False,
            max_breadcrumbs=0,
        )

    def __repr__(self) -> str:
        return f"<SentryReports {len(self._told)} faults told>"

    def report(self, name: str, fields: Mapping[str, Value]) -> None:
        """Tell of an event, and of the exception that is being handled."""
        exception = sys.exception()
        fault = (name, type(exception).__name__, str(fields.get("at", "")))
        if not self._is_news(fault):
            return
        event: Event = {"level": "error", "logger": "sentinel", "message": name}
        if exception is not None:
            event |= event_from_exception(exception, client_options=self._client.options)[0]
            for value in event["exception"]["values"]:
                value["value"] = ""
        shown: dict[str, object] = {key: clean(value) if isinstance(value, str) else value for key, value in fields.items()}
        event |= {"transaction": name, "extra": shown, "fingerprint": list(fault)}
        self._client.capture_event(event)

    def _is_news(self, fault: tuple[str, ...]) -> bool:
        now = time.monotonic()
        if now - self._told.get(fault, -AGAIN) < AGAIN or (fault not in self._told and len(self._told) >= MOST_FAULTS):
            return False
        self._told[fault] = now
        return True

    def close(self) -> None:
        """Send what is on its way, and end the SDK's thread."""
        self._client.close(timeout=FLUSH)
