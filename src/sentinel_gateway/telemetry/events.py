"""The port `Events`: what the path tells goes to the metrics and to the log. What the server tells goes there, too."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, get_args

from sentinel_gateway.core.record import Attempt, Ending, Record, bare
from sentinel_gateway.telemetry.lines import Level, Value
from sentinel_gateway.telemetry.logs import LogWriter
from sentinel_gateway.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from sentinel_gateway.telemetry.tracing.spans import Tracing

WRONG: Final = frozenset({"error", "reason", "faults"})
"""Fields that say what went wrong."""
FAILED: Final = frozenset(get_args(Ending)) - {"answered", "refused", "left", "lost"}
"""Endings of an attempt that are the provider's fault."""
OWN_FAULT: Final = "internal_error"
"""The event that names the place in our code: without it nobody could mend what a 500 was."""


Report = Callable[[str, Mapping[str, Value]], None]
"""Takes a fault's name and fields, while its exception is being handled. Never blocks, never raises."""


class Telemetry:
    """Counts and logs. `finished` belongs to the event loop's thread, `note` may be called from any."""

    def __init__(self, metrics: Metrics, log: LogWriter, clock: Callable[[], float]) -> None:
        self._metrics = metrics
        self._log = log
        self._clock = clock
        self._written: tuple[Callable[[Record], None], ...] = (log.request,)
        self._traced: Callable[[Record], None] | None = None
        self.begin_trace: Callable[[Record, Mapping[bytes, bytes]], None] | None = None
        """Told of each request that comes, with its headers; None where traces are off."""
        self._also_attempted: tuple[Callable[[Attempt], None], ...] = ()
        self.report: Report = _nobody
        """Told of faults of our own, too."""

    def __repr__(self) -> str:
        return f"<Telemetry {self._metrics!r} {self._log!r}>"

    def also_write(self, write: Callable[[Record], None]) -> None:
        """Have each request written by somebody else, too."""
        self._written = (*self._written, write)

    def trace_with(self, tracing: "Tracing") -> None:
        """Have requests traced."""
        self.begin_trace = tracing.begin
        self._traced = tracing.finished
        self._also_attempted = (*self._also_attempted, tracing.attempted)

    def finished(self, record: Record) -> None:
        """Count and log a request. Its trace comes first: one that has none yet gets one there, for its line to name.

        It waits to be counted and written, maybe for long: what waits is the record alone, as the request may hold a long prompt.
        """
        if self._traced is not None:
            self._traced(record)
        alone = bare(record)
        self._metrics.observe(alone)
        for write in self._written:
            write(alone)

    def attempted(self, attempt: Attempt) -> None:
        """Count a call of a provider; log it, if the provider failed us, or was paid for nothing."""
        self._metrics.attempted(attempt)
        for told in self._also_attempted:
            told(attempt)
        if attempt.ending in FAILED:
            self.note(
                "target_failed",
                target=attempt.target,
                error=attempt.error,
                outcome=attempt.ending,
                attempt=attempt.number,
                seconds=round(attempt.seconds, 6),
                tokens=attempt.prompt_tokens + attempt.completion_tokens,
                sentinel_id=attempt.sentinel_id,
            )
        elif attempt.ending == "lost":
            self.note(
                "target_lost",
                target=attempt.target,
                attempt=attempt.number,
                seconds=round(attempt.seconds, 6),
                tokens=attempt.prompt_tokens + attempt.completion_tokens,
                sentinel_id=attempt.sentinel_id,
            )

    def opened(self) -> None:
        """A client has connected."""
        self._metrics.opened()

    def closed(self) -> None:
        """A client's connection has ended."""
        self._metrics.closed()

    def refused(self, record: Record) -> None:
        """Count and log a request that was refused as it came in, now."""
        record.at = self._clock()
        self.finished(record)

    def note(self, event: str, **fields: str | float | bool | None) -> None:
        """Count and log a change of state; one that says what went wrong is a warning, and a fault of ours an error."""
        self._metrics.event(event)
        self._log.event(event, fields, level=_level(event, fields))
        if event == OWN_FAULT:
            self.report(event, fields)


def _level(event: str, fields: Mapping[str, Value]) -> Level:
    if event == OWN_FAULT:
        return "error"
    return "info" if WRONG.isdisjoint(fields) else "warning"


def _nobody(_: str, __: Mapping[str, Value]) -> None:
    """Nobody is told."""


class Unheard:
    """`Events` for somebody who looks at the outcome alone."""

    def finished(self, record: Record) -> None: ...

    def attempted(self, attempt: Attempt) -> None: ...

    def note(self, event: str, **fields: str | float | bool | None) -> None: ...
