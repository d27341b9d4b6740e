"""What a report says: money, hits and what is wrong over a stretch, beside the stretch before, and a table of calls. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from sentinel_gateway.core.alerting.notices import Message, Stamp
from sentinel_gateway.core.alerting.words import clean
from sentinel_gateway.core.analytics import FIGURES, group
from sentinel_gateway.core.confidence.interval import Estimate
from sentinel_gateway.core.pricing import NANO_PER_USD
from sentinel_gateway.core.stretches import Stretch
from sentinel_gateway.core.windows import Window

ROWS: Final = 20
"""Of the table, the dearest; how many there are beyond is said."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A report as it was asked for. `by` is `provider` or `model`; `channels` empty: all."""

    name: str
    period: str
    channels: tuple[str, ...] = ()
    by: str = "model"
    metrics: tuple[str, ...] = ("total_requests", "error_rate", "latency_p95_ms", "total_cost")


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """What there was from `since` to `until` (Unix seconds), and before it for as long."""

    since: float
    until: float
    requests: Stretch
    before: Stretch
    calls: Sequence[Window]
    wrong: Estimate | None = None
    """The wrong hits by requests that reached the decision in the last 7 days, as known now; None where nobody looks for it."""


def report(wanted: Wanted, past: Past, *, service: str, stamp: Stamp) -> Message:
    """The same to all channels: a line, a text for people, figures for programs."""
    rows = _rows(wanted, past.calls)
    wrong = None if past.wrong is None or not past.wrong.observations else past.wrong
    told = {"now": _figures(past.requests), "before": _figures(past.before)}
    now, before = told["now"], told["before"]
    lines = [
        f"{stamp(past.since)} to {stamp(past.until)}; in brackets the {wanted.period} before.",
        f"Requests: {now['requests']:,} ({before['requests']:,})",
        f"Hit rate: {_per_cent(now['hit_rate'])} ({_per_cent(before['hit_rate'])})",
        f"Spent: {_usd(now['spent'])} ({_usd(before['spent'])})",
        f"Saved: {_usd(now['saved'])} ({_usd(before['saved'])})",
        f"Wrong hits: {'not known' if wrong is None else _estimate(wrong)}",
        *_table(wanted, rows),
    ]
    return Message(
        title=f"{service}: the {wanted.period}, {_usd(now['spent'])} spent, {_usd(now['saved'])} saved ({wanted.name})",
        text="\n".join(lines),
        severity="ticket",
        good=True,
        kind="report",
        data={
            "service": service,
            "report": wanted.name,
            "since": stamp(past.since),
            "until": stamp(past.until),
            **told,
            "wrong_hits": None if wrong is None else msgspec.to_builtins(wrong),
            "rows": rows[:ROWS],
            "more": max(0, len(rows) - ROWS),
        },
    )


def _figures(stretch: Stretch) -> dict[str, Any]:
    hits, spent, saved = stretch.exact + stretch.semantic, stretch.spent / NANO_PER_USD, stretch.saved / NANO_PER_USD
    rate = hits / stretch.total if stretch.total else None
    return {"requests": stretch.total + stretch.other, "hits": hits, "hit_rate": rate, "spent": spent, "saved": saved}


def _rows(wanted: Wanted, calls: Sequence[Window]) -> list[Mapping[str, Any]]:
    grouped = group(calls, lambda one: (one.provider,) if wanted.by == "provider" else one.series)
    ordered = sorted(grouped.items(), key=lambda item: (-item[1].cost, item[0]))
    return [
        {"name": clean("/".join(map(str, name)))} | {one: FIGURES[one](whole) for one in wanted.metrics}
        for name, whole in ordered
    ]


def _table(wanted: Wanted, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line a row: what is sent to chats and by mail has no columns."""
    lines = [
        f"- {row['name']}: {', '.join(f'{name} {_shown(name, row[name])}' for name in wanted.metrics)}" for row in rows[:ROWS]
    ]
    beyond = [f"and {len(rows) - ROWS:,} more"] if len(rows) > ROWS else []
    return [f"By {wanted.by}:", *lines, *beyond] if rows else ["No provider was called."]


def _shown(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    if name.endswith("_rate"):
        return _per_cent(value)
    if "cost" in name:
        return _usd(value)
    return f"{value:,.0f} ms" if name.endswith("_ms") else f"{value:,.0f}"


def _per_cent(rate: float | None) -> str:
    return "-" if rate is None else f"{100 * rate:.2f}%"


def _usd(amount: float) -> str:
    return f"${amount:,.2f}" if amount >= 1 or not amount else f"${amount:.6f}"


def _estimate(wrong: Estimate) -> str:
    interval = f"{_per_cent(wrong.low)} to {_per_cent(wrong.high)}"
    return f"{_per_cent(wrong.rate)} ({interval}) of the requests that reached the decision in the last 7 days"
