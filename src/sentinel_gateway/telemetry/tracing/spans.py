"""Spans: one for each request, and within it one for each call of a provider and for each tier of the cache that was asked.

They are made of what the path tells when something has ended, so a request that is not traced pays nothing. What a call must
know before, so that the provider can go on with the trace, is drawn when it begins.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final, Generic, TypeVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, format_span_id, format_trace_id
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from sentinel_gateway.core.caching import Hit, Miss, Step
from sentinel_gateway.core.chat import Batches
from sentinel_gateway.core.record import Attempt, Record
from sentinel_gateway.telemetry.lines import clean
from sentinel_gateway.telemetry.tracing.conventions import FOUND, TIER, WHY, of_attempt, of_request, operation
from sentinel_gateway.telemetry.tracing.measures import Measures

NANO: Final = 1_000_000_000
SERVER_ERROR: Final = 500
ASKED: Final = frozenset({"exact", "semantic", "miss", "coalesced"})
"""What the cache said of requests that asked it: memory first."""
HEADERS: Final = ("traceparent", "tracestate")
Found = TypeVar("Found")


class RequestTrace:
    """The port `Trace`."""

    def __init__(self, tracing: "Tracing", span: Span) -> None:
        self._tracing = tracing
        self.span = span
        self.context = trace.set_span_in_context(span, Context())
        self._calls: dict[int, Span] = {}
        self.asks_memory = True

    @property
    def trace_id(self) -> str:
        return format_trace_id(self.span.get_span_context().trace_id)

    @property
    def span_id(self) -> str:
        return format_span_id(self.span.get_span_context().span_id)

    @property
    def sampled(self) -> bool:
        return self.span.get_span_context().trace_flags.sampled

    def calling(self, target: str, number: int) -> str:
        span = self._tracing.child("call", self.context, SpanKind.CLIENT)
        self._calls[number] = span
        return self._tracing.parent_of(span) if target.partition("/")[0] in self._tracing.pass_to else ""

    def called(self, attempt: Attempt) -> None:
        """That call has ended."""
        span = self._calls.pop(attempt.number, None) or self._tracing.child("call", self.context, SpanKind.CLIENT, attempt.at)
        if span.is_recording():
            span.update_name(f"{operation(attempt.route)} {clean(attempt.target.partition('/')[2])}")
            span.set_attributes(of_attempt(attempt))
            if attempt.error:
                span.set_status(Status(StatusCode.ERROR))
        span.end(_nanos(attempt.at + attempt.seconds))

    def heard(self, attempt: Attempt, batches: Batches[Found]) -> Batches[Found]:
        measures = self._tracing.measures
        return batches if measures is None else Heard(batches, measures.chunks(attempt), self._tracing.clock)

    def asks_no_tier(self) -> None:
        self.asks_memory = False

    async def lookup(self, asking: Awaitable[Found]) -> Found:
        began = self._tracing.clock()
        found = await asking
        answer = found.steps[0] if isinstance(found, Miss) else found
        if isinstance(answer, Hit | Step) and answer.tier != "memory":  # nearer ones are told of at the end
            self.looked(answer, began, self._tracing.clock())
        return found

    def looked(self, answer: Hit | Step, began: float, ended: float) -> None:
        """A tier was asked."""
        span = self._tracing.child("cache.lookup", self.context, SpanKind.INTERNAL, began)
        found = "hit" if isinstance(answer, Hit) else answer.forward
        span.set_attributes({TIER: answer.tier, FOUND: found})
        if isinstance(answer, Step) and answer.detail:
            span.set_attribute(WHY, answer.detail)
        span.end(_nanos(ended))


class Heard(Generic[Found]):
    """A stream whose chunks are timed. As with what it wraps, a wait that is cancelled loses nothing."""

    def __init__(self, batches: Batches[Found], tell: Callable[[float], None], clock: Callable[[], float]) -> None:
        self._batches = batches
        self._tell = tell
        self._clock = clock
        self._last: float | None = None
        """When the last chunk came; None before the first, which is timed from the call."""

    async def __anext__(self) -> list[Found]:
        batch = await self._batches.__anext__()
        self._time(batch)
        return batch

    async def pipe(self, into: Callable[[list[Found]], bool]) -> None:
        def hear(batch: list[Found]) -> bool:
            self._time(batch)
            return into(batch)

        await self._batches.pipe(hear)

    def _time(self, batch: list[Found]) -> None:
        for _ in batch:
            now = self._clock()
            if self._last is not None:
                self._tell(now - self._last)
            self._last = now


class Tracing:
    """Makes spans with `tracer` and counts calls. `pass_to` are the providers that are told of the trace."""

    def __init__(
        self, tracer: Tracer, measures: Measures | None, *, pass_to: Collection[str], clock: Callable[[], float]
    ) -> None:
        self._tracer = tracer
        self.measures = measures
        self._propagator = TraceContextTextMapPropagator()
        self.pass_to = frozenset(pass_to)
        self.clock = clock

    def __repr__(self) -> str:
        return f"<Tracing passed to {', '.join(sorted(self.pass_to)) or 'nobody'}>"

    def begin(self, record: Record, headers: Mapping[bytes, bytes]) -> None:
        """A request has come: go on with the trace of its caller, or begin one."""
        carrier = {name: value.decode("latin-1") for name in HEADERS if (value := headers.get(name.encode())) is not None}
        context = self._propagator.extract(carrier, Context()) if carrier else Context()
        span = self.child(record.method[:20], context, SpanKind.SERVER, record.at)
        if span.get_span_context().is_valid:  # where OTEL_SDK_DISABLED is set it is only if the caller's is
            record.trace = RequestTrace(self, span)

    def finished(self, record: Record) -> None:
        """A request has ended."""
        if record.trace is None:  # it was refused, or answered, before anybody looked at its headers
            self.begin(record, {})
        request = record.trace
        if not isinstance(request, RequestTrace):
            return
        span, ended = request.span, record.at + record.seconds
        if span.is_recording():
            span.update_name(f"{clean(record.method)} {record.route}")
            span.set_attributes(of_request(record))
            if record.status >= SERVER_ERROR:
                span.set_status(Status(StatusCode.ERROR))
            if record.outcome in ASKED and request.asks_memory:
                near = Step("memory", "uri-miss")
                memory = self.child("cache.lookup", request.context, SpanKind.INTERNAL, record.at)
                memory.set_attributes({TIER: near.tier, FOUND: "hit" if record.tier == near.tier else near.forward})
                memory.end(_nanos(record.at))  # it takes a microsecond
        span.end(_nanos(ended))

    def attempted(self, attempt: Attempt) -> None:
        """A call of a provider has ended."""
        if self.measures is not None:
            self.measures.add(attempt)
        if isinstance(attempt.trace, RequestTrace):
            attempt.trace.called(attempt)

    def child(self, name: str, context: Context, kind: SpanKind, at: float | None = None) -> Span:
        """A span that has begun, now or at a time."""
        return self._tracer.start_span(name, context, kind, start_time=_nanos(self.clock() if at is None else at))

    def parent_of(self, span: Span) -> str:
        """`traceparent` for what happens within a span."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, trace.set_span_in_context(span, Context()))
        return carrier.get("traceparent", "")


def _nanos(seconds: float) -> int:
    return int(seconds * NANO)
