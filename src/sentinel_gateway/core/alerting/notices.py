"""What is said of alerts, and to whom: one message a channel, of bounded length however many alerts there are. Pure.

Names in it may be callers' own (models), so they are told without what chats take for commands. Nothing here knows a prompt, a
header or a key.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from sentinel_gateway.core.alerting.board import Alert, Notice
from sentinel_gateway.core.alerting.rules import Severity
from sentinel_gateway.core.alerting.words import clean

LISTED: Final = 10
"""Alerts of a kind that a text lists."""
DATED: Final = 100
"""The same of what programs read."""
Stamp = Callable[[float], str]
"""A moment (Unix seconds) as people read it."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """To one channel: a line, a text for people, and the same as programs read it. `good`: all of it is recoveries."""

    title: str
    text: str
    severity: Severity
    good: bool
    data: Mapping[str, Any]
    kind: Literal["alerts", "report"] = "alerts"


def messages(notice: Notice, channels: Collection[str], *, service: str, stamp: Stamp) -> dict[str, Message]:
    """By channel what it is told. An alert goes to the channels of its rule, or to all."""
    made = {}
    for channel in channels:
        began, lasting, over = (_for(channel, part) for part in (notice.began, notice.lasting, notice.over))
        own = Notice(began, lasting, over, notice.beyond)
        if own.began or own.lasting or own.over:
            made[channel] = message(own, service=service, stamp=stamp)
    return made


def _for(channel: str, alerts: Iterable[Alert]) -> tuple[Alert, ...]:
    return tuple(alert for alert in alerts if not alert.channels or channel in alert.channels)


def message(notice: Notice, *, service: str, stamp: Stamp) -> Message:
    """All of a notice in one."""
    firing = (*notice.began, *notice.lasting)
    severity: Severity = "page" if any(one.severity == "page" for one in (*firing, *notice.over)) else "ticket"
    beyond = {rule: more for rule, more in notice.beyond.items() if any(one.rule == rule for one in firing)}
    parts = (("Firing", notice.began), ("Still firing", notice.lasting), ("Recovered", notice.over))
    lines = [line for title, alerts in parts for line in _listed(title, alerts, stamp)]
    lines += [f"{rule}: {more:,} more" for rule, more in beyond.items()]
    return Message(
        title=_title(notice, beyond, severity, service),
        text="\n".join(lines),
        severity=severity,
        good=not firing,
        data={
            "service": service,
            "severity": severity,
            "firing": [shown(alert, stamp) for alert in notice.began[:DATED]],
            "still_firing": [shown(alert, stamp) for alert in notice.lasting[:DATED]],
            "resolved": [shown(alert, stamp) for alert in notice.over[:DATED]],
            "counts": {"firing": len(notice.began), "still_firing": len(notice.lasting), "resolved": len(notice.over)},
            "beyond": beyond,
        },
    )


def trial(channel: str, *, service: str) -> Message:
    """What a channel is sent to see whether it works."""
    text = f"This is a test of the channel '{channel}'. If you can read it, alerts of {service} will come here."
    data = {"service": service, "severity": "ticket", "test": True}
    return Message(title=f"{service}: test", text=text, severity="ticket", good=True, data=data)


def shown(alert: Alert, stamp: Stamp) -> dict[str, Any]:
    """An alert, for programs."""
    names = "rule", "severity", "value", "limit", "text"
    since = {"since": stamp(alert.since)}
    return {name: getattr(alert, name) for name in names} | {"subject": clean(alert.subject)} | since


def _title(notice: Notice, beyond: Mapping[str, int], severity: Severity, service: str) -> str:
    counts = (
        (len(notice.began) + sum(beyond.values()), "firing"),
        (len(notice.lasting), "still firing"),
        (len(notice.over), "recovered"),
    )
    said = ", ".join(f"{count:,} {word}" for count, word in counts if count)
    rules = dict.fromkeys(alert.rule for alert in (*notice.began, *notice.lasting, *notice.over))
    few = ", ".join(list(rules)[:3]) + (", ..." if len(rules) > 3 else "")  # noqa: PLR2004 - as many as fit
    urgent = "[page] " if severity == "page" and (notice.began or notice.lasting) else ""
    return f"{urgent}{service}: {said} ({few})"


def _listed(title: str, alerts: Sequence[Alert], stamp: Stamp) -> list[str]:
    if not alerts:
        return []
    rest = [f"and {len(alerts) - LISTED:,} more"] if len(alerts) > LISTED else []
    return [f"{title}:", *(_line(alert, stamp) for alert in alerts[:LISTED]), *rest]


def _line(alert: Alert, stamp: Stamp) -> str:
    mark = " [page]" if alert.severity == "page" else ""
    return f"- {alert.rule}{mark}: {alert.text} (since {stamp(alert.since)})"
