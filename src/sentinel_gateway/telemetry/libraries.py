"""What uvicorn, asyncio and OpenTelemetry's SDK say through the standard library's `logging`, as events of our own log."""

import logging
import traceback
from types import TracebackType
from typing import Final, Self

from sentinel_gateway.errors import place_of
from sentinel_gateway.telemetry.lines import LEVELS, Level, Value
from sentinel_gateway.telemetry.logs import LogWriter

LOGGERS: Final = ("uvicorn", "asyncio", "opentelemetry")


class LibraryLogs(logging.Handler):
    """While entered, these libraries' warnings and errors (while debugging, all they say) go to `log` and nowhere else.

    An exception is named by its class and its place. While debugging its traceback is one escaped field, and messages are whole:
    below the first line asyncio shows values, exceptions with all that they say among them.
    """

    def __init__(self, log: LogWriter) -> None:
        super().__init__(logging.DEBUG if log.debugging else logging.WARNING)
        self._log = log
        self._before: list[tuple[logging.Logger, list[logging.Handler], bool, int]] = []

    def __enter__(self) -> Self:
        for name in LOGGERS:
            logger = logging.getLogger(name)
            self._before.append((logger, logger.handlers, logger.propagate, logger.level))
            logger.handlers, logger.propagate = [self], False
            logger.setLevel(self.level)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for logger, handlers, propagate, level in self._before:
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)
        self._before.clear()
        self.close()

    def emit(self, record: logging.LogRecord) -> None:
        error, said = record.exc_info[1] if record.exc_info else None, _message(record)
        fields: dict[str, Value] = {"logger": record.name, "message": said if self._log.debugging else said.partition("\n")[0]}
        if error is not None:
            fields |= {"error": type(error).__name__, "at": place_of(error)}
        trace = "".join(traceback.format_exception(error)) if error is not None and self._log.debugging else ""
        self._log.event("library", fields, level=_level(record.levelno), trace=trace)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):  # its arguments don't fit its text
        return str(record.msg)


def _level(number: int) -> Level:
    """The highest of our levels that is not above `number`."""
    reached: Level = "trace"
    for level, rank in LEVELS.items():
        if rank <= number:
            reached = level
    return reached
