"""What becomes of alerts: ok, pending, firing, resolved; and when somebody is told of it. Pure.

An alert is a rule that holds of something. It is pending until it has held for as long as the rule says, then it fires. Somebody
is told of it once, again as a reminder, and once when it is over; after that it is quiet for a while, so that what flaps is told
of twice in that while and no more. What is to be told is gathered: at most one message a channel in each interval.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal

import msgspec
from msgspec.structs import replace

from sentinel_gateway.core.alerting.figures import Finding
from sentinel_gateway.core.alerting.rules import Rule, Severity
from sentinel_gateway.core.alerting.words import LONGEST_TEXT, clean

Phase = Literal["pending", "firing", "resolved"]
"""`resolved`: it is over, and what comes of it next is not told at once."""
Change = Literal["firing", "resolved"]

MOST: Final = 100
"""Alerts of one rule that are told apart; how many more there are is counted."""
NEVER: Final = float("-inf")
Name = tuple[str, str]
"""A rule's, and what it holds of."""


class Habits(msgspec.Struct, frozen=True):
    """Seconds: least time between two messages to a channel, how long a recovery is quiet, and between reminders (0: none)."""

    group: float = 60.0
    cool_down: float = 900.0
    repeat: float = 14_400.0


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert. Moments in Unix seconds: in its phase `since`, `told` of this firing last, `quiet` until then.

    `owed`: it is over, which those who know of it are still to be told.
    """

    rule: str
    subject: str
    severity: Severity
    channels: tuple[str, ...]
    phase: Phase
    since: float
    value: float
    limit: float
    text: str
    told: float | None = None
    quiet: float = 0.0
    owed: bool = False

    @property
    def name(self) -> Name:
        return self.rule, self.subject


class Board(msgspec.Struct, frozen=True):
    """All alerts that are not simply ok; `beyond` counts by rule what there is no room for.

    `spoke`: when somebody was told last; `reported`: the moments of the last reports, by their names.
    """

    alerts: tuple[Alert, ...] = ()
    beyond: Mapping[str, int] = {}
    spoke: float = 0.0
    reported: Mapping[str, float] = {}

    def firing(self) -> list[Alert]:
        """Those that fire."""
        return [alert for alert in self.alerts if alert.phase == "firing"]


class Turn(msgspec.Struct, frozen=True):
    """An alert has begun or ceased to fire."""

    at: float
    change: Change
    alert: Alert


class Notice(msgspec.Struct, frozen=True):
    """What is to be told now: alerts that have begun, that go on, that are over; `beyond` as in `Board`."""

    began: tuple[Alert, ...]
    lasting: tuple[Alert, ...]
    over: tuple[Alert, ...]
    beyond: Mapping[str, int]


class Step(msgspec.Struct, frozen=True):
    """The board after a look, what has turned, and what is to be told, if anything is."""

    board: Board
    turns: tuple[Turn, ...]
    notice: Notice | None


Found = Mapping[str, Sequence[Finding] | None]
"""By rule what it holds of; None where that can't be told."""


def advance(
    board: Board, rules: Sequence[Rule], found: Found, now: float, *, habits: Habits, silenced: Mapping[str, float]
) -> Step:
    """After a look at `now`. `silenced`: until when nobody is told that these rules' alerts fire; that they are over, is told."""
    known = {alert.name: alert for alert in board.alerts}
    after: list[Alert] = []
    beyond: dict[str, int] = {}
    for rule in rules:
        findings = found.get(rule.name)
        own = [alert for alert in board.alerts if alert.rule == rule.name]
        if findings is None:
            after += own
            beyond |= {name: more for name, more in board.beyond.items() if name == rule.name}
            continue
        lasting = {alert.subject for alert in own if alert.phase != "resolved"}
        findings = [one for one in findings if one.begins or one.subject in lasting]
        kept, more = _bounded(rule, findings, known)
        beyond |= {rule.name: more} if more else {}
        after += [_seen(known.get((rule.name, finding.subject)), rule, finding, now) for finding in kept]
        held = {finding.subject for finding in kept}
        after += _gone([alert for alert in own if alert.subject not in held], now, habits)
    names = {rule.name for rule in rules}  # what a rule has left behind that was taken away is over
    after += _gone([alert for alert in board.alerts if alert.rule not in names], now, habits)
    turns = tuple(turn for alert in after for turn in _turn(known.get(alert.name), alert, now))
    return _tell(Board(tuple(after), beyond, board.spoke), turns, now, habits, silenced)


def _bounded(rule: Rule, findings: Sequence[Finding], known: Mapping[Name, Alert]) -> tuple[Sequence[Finding], int]:
    """Those that there is room for: known ones first, then the worst; and how many there are beside."""
    if len(findings) <= MOST:
        return findings, 0
    sign = 1 if rule.below else -1
    ordered = sorted(findings, key=lambda one: ((rule.name, one.subject) not in known, sign * one.value, one.subject))
    return ordered[:MOST], len(findings) - MOST


def _turn(before: Alert | None, after: Alert, now: float) -> Iterator[Turn]:
    """What an alert's step is, if somebody would want to know of it."""
    was = before is not None and before.phase == "firing"
    if after.phase == "firing" and not was:
        yield Turn(now, "firing", after)
    elif after.phase != "firing" and was:
        yield Turn(now, "resolved", after)


def _seen(alert: Alert | None, rule: Rule, finding: Finding, now: float) -> Alert:
    """The rule holds of it now."""
    if alert is None or (alert.phase == "resolved" and not alert.owed):
        alert = Alert(
            rule=rule.name,
            subject=finding.subject,
            severity=rule.severity,
            channels=rule.channels,
            phase="pending",
            since=now,
            value=finding.value,
            limit=finding.limit,
            text=clean(finding.text, LONGEST_TEXT),
            quiet=0.0 if alert is None else alert.quiet,
        )
    elif alert.phase == "resolved":  # nobody was told that it was over
        alert = replace(alert, phase="firing", owed=False, since=now)
    if alert.phase == "pending" and now - alert.since >= rule.after:
        alert = replace(alert, phase="firing", since=now)
    return replace(
        alert,
        severity=rule.severity,
        channels=rule.channels,
        value=finding.value,
        limit=finding.limit,
        text=clean(finding.text, LONGEST_TEXT),
    )


def _gone(alerts: Iterable[Alert], now: float, habits: Habits) -> Iterator[Alert]:
    """The rules do not hold of them any more; of some there is nothing left to know."""
    for alert in alerts:
        if alert.phase == "firing":
            told = alert.told is not None
            quiet = now + habits.cool_down if told else alert.quiet
            yield replace(alert, phase="resolved", since=now, owed=told, quiet=quiet)
        elif alert.phase == "pending" and now < alert.quiet:
            yield replace(alert, phase="resolved", since=now)
        elif alert.phase == "resolved" and (alert.owed or now < alert.quiet):
            yield alert


def _tell(board: Board, turns: tuple[Turn, ...], now: float, habits: Habits, silenced: Mapping[str, float]) -> Step:
    if now < board.spoke + habits.group:
        return Step(board, turns, None)
    heard = [alert for alert in board.firing() if now >= silenced.get(alert.rule, NEVER)]
    began = [alert for alert in heard if alert.told is None and now >= alert.quiet]
    lasting = [alert for alert in heard if habits.repeat and alert.told is not None and now - alert.told >= habits.repeat]
    over = [alert for alert in board.alerts if alert.owed]
    if not (began or lasting or over):
        return Step(board, turns, None)
    told = {alert.name for alert in (*began, *lasting)}
    alerts = tuple(
        replace(alert, told=now) if alert.name in told else replace(alert, told=None, owed=False) if alert.owed else alert
        for alert in board.alerts
    )
    beyond = {name: more for name, more in board.beyond.items() if now >= silenced.get(name, NEVER)}
    notice = Notice(tuple(began), tuple(lasting), tuple(over), beyond)
    return Step(Board(alerts, board.beyond, now), turns, notice)
