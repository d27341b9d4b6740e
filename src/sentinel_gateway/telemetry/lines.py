"""What is logged, as one line of bytes: JSON for machines, aligned text for people.

A line is built from a `Record` or from the few fields of an event, so prompts, answers, headers and keys can't get in. Whatever
text a caller chose (model, method, ids) is cut, and every character that a terminal or a parser could take for more than
itself is escaped visibly: no request can forge a second line or a colour, in either format.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from sentinel_gateway.core.chat import MAX_TOKENS
from sentinel_gateway.core.pricing import NANO_PER_USD, Basis, usd
from sentinel_gateway.core.record import Record
from sentinel_gateway.errors import ClientLeft, InternalError

Level = Literal["trace", "debug", "info", "warning", "error"]
Value = str | float | bool | None
LEVELS: Final[dict[Level, int]] = {"trace": 5, "debug": 10, "info": 20, "warning": 30, "error": 40}
"""By rank, on the scale of the standard library's `logging`."""

MAX_TEXT: Final = 200
MAX_TRACE: Final = 8000
"""Characters of a traceback; its end says most."""
SERVER_ERROR: Final = 500
OK: Final = 200
PROBES: Final = frozenset({"/livez", "/healthz", "/ready", "/readyz", "/health", "/metrics"})
"""Asked every few seconds for ever: their lines are for debugging only."""


class Event(msgspec.Struct, frozen=True):
    """Something other than a request. `at` is Unix time; `trace` a traceback, or nothing."""

    at: float
    level: Level
    name: str
    fields: Mapping[str, Value]
    trace: str = ""


Item = Record | Event
Format = Callable[[Item], bytes]
"""An item as one line, without its end."""


def level_of(item: Item) -> Level:
    """How much an item matters: our own faults are errors; others' faults, and being overloaded, are warnings."""
    if isinstance(item, Event):
        return item.level
    if item.status == OK and not item.error:
        return "debug" if item.route in PROBES else "info"
    if item.status == SERVER_ERROR or item.error == InternalError.code:
        return "error"
    return "warning" if item.status > SERVER_ERROR or (item.status == OK and item.error != ClientLeft.code) else "info"


def json_line(item: Item) -> bytes:
    """A JSON object."""
    return _encode(_request(item) if isinstance(item, Record) else _event(item))


def text_line(item: Item) -> bytes:
    """Aligned columns for requests, `name key=value` for events; of a provider's answer also seed 003's words, with its cost."""
    if isinstance(item, Event):
        return _event_text(item).encode()
    line, asked = _request_text(item), item.upstream_seconds and item.status == OK and item.outcome != "coalesced"
    return (f"{line}  {_llm_call(item)}" if asked else line).encode()


_encode = msgspec.json.Encoder().encode


def clean(text: str, limit: int = MAX_TEXT) -> str:
    """`text` on one line and inert, at most `limit` characters; what was cut off shows as an ellipsis."""
    if len(text) <= limit and text.isprintable():
        return text
    shown = "".join(_escape(char) for char in text[:limit])
    return shown if len(shown) <= limit and len(text) <= limit else shown[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _escape(char: str) -> str:
    return char if char.isprintable() else char.encode("unicode_escape").decode("ascii")


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


class _RequestLine(msgspec.Struct, frozen=True, gc=False):
    """In the order of the line. A struct, as it is built and written in two thirds of a dict's time."""

    timestamp: datetime
    level: Level
    event: str
    request_id: str
    sentinel_id: str
    route: str
    method: str
    status: int
    outcome: str
    tier: str
    model: str
    target: str
    attempts: int
    stream: bool
    seconds: float
    upstream_seconds: float
    first_byte_seconds: float
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    saved_usd: float
    cost_basis: Basis
    similarity: float
    stored: bool
    error: str
    client: str
    tenant: str
    key: str
    experiment: str | UnsetType = UNSET
    trace_id: str | UnsetType = UNSET
    span_id: str | UnsetType = UNSET


def _request(record: Record) -> _RequestLine:
    """A request is logged when it has ended, so that is its time: lines stay in order."""
    shown = record if _is_harmless(record) else _cleaned(record)
    return _RequestLine(
        _moment(record.at + record.seconds),
        level_of(record),
        "request",
        shown.request_id,
        shown.sentinel_id,
        shown.route,
        shown.method,
        record.status,
        record.outcome,
        shown.tier,
        shown.model,
        shown.target,
        record.attempts,
        record.stream,
        _to_micros(record.seconds),
        _to_micros(record.upstream_seconds),
        _to_micros(record.first_byte_seconds),
        shown.prompt_tokens,
        shown.completion_tokens,
        record.cost / NANO_PER_USD,
        record.saved / NANO_PER_USD,
        record.basis,
        round(record.similarity, 4) if record.similarity else 0.0,
        record.stored,
        shown.error,
        shown.client,
        shown.account,
        shown.key,
        record.experiment or UNSET,
        record.trace_id or UNSET,
        record.span_id or UNSET,
    )


def _is_harmless(record: Record) -> bool:
    """Would cleaning change nothing? So it is with nearly all records, and one look at all texts together tells."""
    texts = (
        f"{record.request_id}{record.sentinel_id}{record.route}{record.method}{record.tier}"
        f"{record.model}{record.target}{record.error}{record.client}{record.account}{record.key}"
    )
    sane = record.prompt_tokens <= MAX_TOKENS and record.completion_tokens <= MAX_TOKENS
    return sane and len(texts) <= MAX_TEXT and texts.isprintable()


def _cleaned(record: Record) -> Record:
    return replace(
        record,
        request_id=clean(record.request_id),
        sentinel_id=clean(record.sentinel_id),
        route=clean(record.route),
        method=clean(record.method),
        tier=clean(record.tier),
        model=clean(record.model),
        target=clean(record.target),
        prompt_tokens=min(record.prompt_tokens, MAX_TOKENS),
        completion_tokens=min(record.completion_tokens, MAX_TOKENS),
        error=clean(record.error),
        client=clean(record.client),
        account=clean(record.account),
        key=clean(record.key),
    )


def _to_micros(seconds: float) -> float:
    """Rounded to microseconds. Most records have no upstream and no first byte."""
    return round(seconds * 1e6) / 1e6 if seconds else 0.0


def _event(event: Event) -> dict[str, object]:
    head = {"timestamp": _moment(event.at), "level": event.level, "event": clean(event.name)}
    return head | _shown(event) | head  # no field can pass for another event


def _shown(event: Event) -> dict[str, object]:
    """An event's fields, made harmless."""
    shown: dict[str, object] = {name: clean(value) if isinstance(value, str) else value for name, value in event.fields.items()}
    if event.trace:
        shown["trace"] = clean(event.trace[-MAX_TRACE:], MAX_TRACE)
    return shown


def _request_text(record: Record) -> str:
    cache = f"{record.outcome}/{record.tier}" if record.tier else record.outcome
    asked = f"{record.status:>3} {clean(record.method):<4} {clean(record.route):<22}"
    cost = f"{clean(cache):<12} {record.seconds * 1000:>9.1f} ms"
    tokens = min(record.prompt_tokens + record.completion_tokens, MAX_TOKENS)
    details: dict[str, object] = {
        "target": clean(record.target),
        "attempts": record.attempts if record.attempts > 1 else "",
        "tokens": tokens or "",
        "cost": _about(record.cost, record.basis),
        "saved": _about(record.saved, record.basis),
        "similarity": f"{record.similarity:.3f}" if record.similarity else "",
        "stored": "yes" if record.stored else "",
        "error": clean(record.error),
        "id": clean(record.sentinel_id),
        "request": "" if record.request_id.endswith(record.sentinel_id) else clean(record.request_id),
    }
    return f"{_stamp(record.at + record.seconds, level_of(record))} {asked} {cost}  {_pairs(details)}"


def _about(cost: int, basis: Basis) -> str:
    """An amount in USD, if there is one; about that much, where it is estimated."""
    return f"{'~' if basis == 'estimated' else ''}${usd(cost)}" if cost else ""


def _llm_call(record: Record) -> str:
    provider = clean(record.target.partition("/")[0]).capitalize()
    tokens = min(record.prompt_tokens + record.completion_tokens, MAX_TOKENS)
    shown = "unknown" if record.basis == "unknown" else f"${record.cost / NANO_PER_USD:.6f}"
    about = " (estimated)" if record.basis == "estimated" else ""
    return f"LLM CALL ({provider}): latency={record.upstream_seconds * 1000:.1f}ms | cost={shown}{about} | tokens={tokens}"


def _event_text(event: Event) -> str:
    return f"{_stamp(event.at, event.level)} {clean(event.name)}  {_pairs(_shown(event))}".rstrip()


def _stamp(at: float, level: Level) -> str:
    return f"{_moment(at):%Y-%m-%d %H:%M:%S}.{int(at % 1 * 1000):03} {level.upper():<7}"


def _pairs(fields: Mapping[str, object]) -> str:
    """`name=value`, quoted where a value holds spaces or quotes; empty ones are left out."""
    return " ".join(f"{name}={_quoted(str(value))}" for name, value in fields.items() if value not in {"", None})


def _quoted(value: str) -> str:
    return '"' + value.replace('"', '\\"') + '"' if " " in value or '"' in value else value
