"""Settings to those who are told what happens, as `adapters.py`: metrics, the log, the request log, Sentry, traces."""

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from sentinel_gateway.errors import ConfigurationError
from sentinel_gateway.ports import Clock
from sentinel_gateway.settings.model import Settings
from sentinel_gateway.telemetry.events import Telemetry
from sentinel_gateway.telemetry.libraries import LibraryLogs
from sentinel_gateway.telemetry.lines import json_line, text_line
from sentinel_gateway.telemetry.logs import LogWriter
from sentinel_gateway.telemetry.metrics import Metrics
from sentinel_gateway.telemetry.request_log import RequestLog

if TYPE_CHECKING:
    from sentinel_gateway.telemetry.sentry import SentryReports
    from sentinel_gateway.telemetry.tracing.export import Exports

STDOUT: Final = 1


def open_listeners(settings: Settings, metrics: Metrics, clock: Clock, closing: AsyncExitStack) -> Telemetry:
    """All of them behind one, each closed after those who tell it something; raises `ConfigurationError`."""
    log = _open_log(settings, clock)
    closing.callback(log.close)
    closing.enter_context(LibraryLogs(log))
    events = Telemetry(metrics, log, clock)
    if (path := settings.logging.path) is not None:
        request_log = RequestLog(path, events.note)
        closing.callback(request_log.close)
        events.also_write(request_log.request)
    if (dsn := settings.logging.sentry_dsn) is not None:
        reports = _open_sentry(dsn.get_secret_value())
        closing.callback(reports.close)
        events.report = reports.report
    if settings.tracing.address("traces") or settings.tracing.address("metrics"):
        exports = _open_exports(settings)
        closing.callback(exports.close)
        events.trace_with(exports.tracing(settings.tracing.pass_to, clock))
    return events


def _open_exports(settings: Settings) -> "Exports":
    try:
        from sentinel_gateway.telemetry.tracing.export import Exports  # noqa: PLC0415 - as below
    except ImportError as exc:
        fix = f"needs the package {exc.name}, which is not installed: pip install 'sentinel-gateway[otel]'"
        raise ConfigurationError([("tracing.endpoint", fix)]) from exc
    where, service = settings.tracing, settings.service
    return Exports(
        traces=where.address("traces"), metrics=where.address("metrics"), service=service.name, version=service.version
    )


def _open_sentry(dsn: str) -> "SentryReports":
    try:
        from sentinel_gateway.telemetry.sentry import SentryReports  # noqa: PLC0415 - who sends none may lack the package
    except ImportError as exc:
        fix = f"needs the package {exc.name}, which is not installed: pip install 'sentinel-gateway[sentry]'"
        raise ConfigurationError([("logging.sentry_dsn", fix)]) from exc
    return SentryReports(dsn)


def _open_log(settings: Settings, clock: Clock) -> LogWriter:
    """The log on standard output."""
    line = text_line if settings.logging.format == "text" else json_line
    level = settings.logging.level
    return LogWriter(STDOUT, line, level="warning" if level == "warn" else level, clock=clock)
