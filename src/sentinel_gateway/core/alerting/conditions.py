"""Does a rule hold, and of what? From figures of calls, requests, budgets and states, as they are at one moment. Pure."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from sentinel_gateway.core.alerting.figures import BIN, Figures, Finding, Needs, Served
from sentinel_gateway.core.alerting.rules import CALL_METRICS, DAY, HOUR, SERVED_METRICS, SUMS, Rule
from sentinel_gateway.core.alerting.words import LONGEST_TEXT, amount, clean, named, over, span, usd
from sentinel_gateway.core.analytics import FIGURES
from sentinel_gateway.core.budgets import Span, window
from sentinel_gateway.core.health import BEST
from sentinel_gateway.core.pricing import NANO_PER_USD
from sentinel_gateway.core.windows import Window, total

PAIRS: Final = ((HOUR, BIN, 14.4), (6 * HOUR, 6 * BIN, 6.0))
"""A long window, a short one, and how many times too fast the errors must come in both: a page by Google's SRE workbook."""
EARLY: Final = 0.1
"""Share of a budget's window before which nothing is forecast: a morning is no day."""
ENDLESS: Final = 1e9
"""How many times as much anything is as nothing: a number, as JSON has no infinity."""


def needs(rules: Iterable[Rule]) -> Needs:
    """Of these rules together."""
    calls = served = 0
    chosen = list(rules)
    for rule in chosen:
        reach = _reach(rule)
        if rule.metric in CALL_METRICS:
            calls = max(calls, reach)
        elif rule.metric in SERVED_METRICS:
            served = max(served, reach)
    month = any(rule.kind == "forecast" and rule.metric == "total_cost" for rule in chosen)
    anomalies = any(rule.kind == "anomaly" for rule in chosen)
    return Needs(calls, served, month=month, anomalies=anomalies, metrics=frozenset(rule.metric for rule in chosen))


def _reach(rule: Rule) -> int:
    if rule.kind == "burn_rate":
        return max(long for long, _, _ in PAIRS)
    return 0 if rule.kind == "forecast" else rule.window + (_before(rule) if rule.kind == "change" else 0)


def _before(rule: Rule) -> int:
    """By how many seconds earlier the other window of a change ends."""
    return rule.against or rule.window


def find(rule: Rule, figures: Figures) -> list[Finding] | None:
    """Of what the rule holds now; None where that can't be told."""
    finder = _FINDERS[rule.kind]
    found = finder(rule, figures)
    return None if found is None else list(found)


# --- over windows: what calls of providers and requests came to ---

Counted = tuple[float | None, int]
"""A metric's value, if it has one, and how many calls or requests it is of."""
Measured = Mapping[str, Counted]
"""By subject."""


def _measured(rule: Rule, figures: Figures, ends: float, seconds: int) -> Measured | None:
    """The metric over so many seconds until `ends`, to 5 minutes."""
    since = math.floor((ends - seconds) / BIN) * BIN
    if rule.metric in SERVED_METRICS:
        if figures.served is None:
            return None
        return {"": _of_served(rule.metric, [one for one in figures.served if since <= one.start < ends])}
    if figures.calls is None:
        return None
    chosen: dict[str, list[Window]] = {}
    for one in figures.calls:
        if since <= one.start < ends and rule.provider in {"", one.provider} and rule.model in {"", one.model}:
            chosen.setdefault(_subject(rule, one), []).append(one)
    covered = min(math.ceil(ends / BIN) * BIN, figures.now) - since
    figure = partial(_of_calls, rule.metric, share=seconds / covered)
    return {subject: figure(total(windows)) for subject, windows in chosen.items()}


def _subject(rule: Rule, one: Window) -> str:
    match rule.by:
        case "provider":
            return one.provider
        case "model":
            return f"{one.provider}/{one.model}"
        case _:
            return rule.model or rule.provider


def _of_calls(metric: str, whole: Window, *, share: float) -> Counted:
    """`share`: how much of what was added up belongs to the window, of what is a sum."""
    value = FIGURES[metric](whole)
    return (value * share if metric in SUMS and value is not None else value), whole.decided


def _of_served(metric: str, served: Sequence[Served]) -> Counted:
    if metric == "hit_rate":
        decided = sum(one.decided for one in served)
        return (sum(one.hits for one in served) / decided if decided else None), decided
    requests = sum(one.requests for one in served)
    return (sum(one.failed for one in served) / requests if requests else None), requests


def _crossed(rule: Rule, value: float) -> bool:
    return value < rule.limit if rule.below else value > rule.limit


def _enough(rule: Rule, count: int) -> bool:
    """Sums are told of few calls as well: one may cost a fortune."""
    return count >= rule.least or rule.metric in SUMS


def _thresholds(rule: Rule, figures: Figures) -> Iterable[Finding] | None:
    if rule.metric not in CALL_METRICS | SERVED_METRICS:
        return _states(rule, figures)
    measured = _measured(rule, figures, figures.now, rule.window)
    return None if measured is None else _over(rule, measured)


def _over(rule: Rule, measured: Measured) -> Iterator[Finding]:
    for subject, (value, count) in measured.items():
        if value is not None and _enough(rule, count) and _crossed(rule, value):
            beside = "below" if rule.below else "above"
            said = f"{named(rule, subject)} is {amount(rule, value)}, {beside} {amount(rule, rule.limit)}, {over(rule.window)}"
            yield Finding(subject, value, rule.limit, said)


def _changes(rule: Rule, figures: Figures) -> Iterable[Finding] | None:
    now = _measured(rule, figures, figures.now, rule.window)
    then = _measured(rule, figures, figures.now - _before(rule), rule.window)
    return None if now is None or then is None else _moved(rule, now, then)


def _moved(rule: Rule, now: Measured, then: Measured) -> Iterator[Finding]:
    for subject, (value, count) in now.items():
        usual, before = then.get(subject, (None, 0))
        if value is None or usual is None or not (_enough(rule, count) and _enough(rule, before)):
            continue
        if not usual and (not value or (rule.metric in SUMS and not rule.floor)):
            continue  # of sums, anything is more than nothing: without a floor there is no telling what is much
        ratio = value / usual if usual else ENDLESS
        if _crossed(rule, ratio) and max(value, usual) >= rule.floor:
            times = f", {ratio:.2g} times as much" if usual else ""
            was = f"it was {amount(rule, usual)} {span(_before(rule))} before"
            said = f"{named(rule, subject)} is {amount(rule, value)}{times}; {was}, {over(rule.window)}"
            yield Finding(subject, ratio, rule.limit, said)


def _burning(rule: Rule, figures: Figures) -> Iterable[Finding] | None:
    found: dict[str, Finding] = {}
    for long, short, factor in PAIRS:
        over_long = _measured(rule, figures, figures.now, long)
        over_short = _measured(rule, figures, figures.now, short)
        if over_long is None or over_short is None:
            return None
        for subject, (share, count) in over_long.items():
            latest, _ = over_short.get(subject, (None, 0))
            if share is None or latest is None or count < rule.least or subject in found:
                continue
            if min(share, latest) > factor * rule.limit:
                burn = share / rule.limit
                allowed = f"{burn:.1f} times the {amount(rule, rule.limit)} that are allowed"
                said = f"{named(rule, subject)} is {amount(rule, share)} {over(long)}, {allowed}, and goes on"
                found[subject] = Finding(subject, burn, factor, said)
    return found.values()


# --- as it is now ---


def _states(rule: Rule, figures: Figures) -> Iterable[Finding] | None:
    return _STATES[rule.metric](rule, figures)


def _healths(rule: Rule, figures: Figures) -> Iterable[Finding] | None:
    if figures.health is None:
        return None
    return [
        Finding(name, score, rule.limit, f"The health of {name} is {score:.0f} of {BEST:.0f}")
        for name, score in figures.health.items()
        if rule.provider in {"", name} and _crossed(rule, score)
    ]


def _circuits(rule: Rule, figures: Figures) -> Iterable[Finding] | None:
    if figures.open_circuits is None:
        return None
    states = {**dict.fromkeys(figures.half_open, "half open"), **dict.fromkeys(figures.open_circuits, "open")}
    return [
        Finding(target, 1.0, rule.limit, f"The circuit of {clean(target)} is {state}", begins=state == "open")
        for target, state in states.items()
        if rule.provider in {"", target.partition("/")[0]} and rule.model in {"", target.partition("/")[2]}
    ]


def _wrong_hits(rule: Rule, figures: Figures) -> Iterable[Finding] | None:
    wrong = figures.wrong
    if wrong is None:
        return None
    if not (_crossed(rule, wrong.low) and wrong.observations):
        return []
    between = f"between {wrong.low:.2%} and {wrong.high:.2%}"
    said = f"{between} of the questions that are compared get a wrong answer, {amount(rule, rule.limit)} may"
    return [Finding("", wrong.low, rule.limit, said[0].upper() + said[1:])]


def _budgets(rule: Rule, figures: Figures) -> Iterable[Finding] | None:
    if figures.budgets is None:
        return None
    return [
        Finding(
            f"{use.name} {use.span}",
            use.settled / use.limit,
            rule.limit,
            f"The {use.name} has spent {usd(use.settled)} of the {usd(use.limit)} of its {use.span}",
        )
        for use in figures.budgets
        if _crossed(rule, use.settled / use.limit)
    ]


# --- as it will be ---


def _forecasts(rule: Rule, figures: Figures) -> Iterable[Finding] | None:
    if rule.metric == "total_cost":
        return _month(rule, figures)
    if figures.budgets is None:
        return None
    found = []
    for use in figures.budgets:
        gone = elapsed(use.span, figures.now)
        if gone >= EARLY and _crossed(rule, share := use.settled / gone / use.limit):
            ahead = f"and at this pace {usd(round(use.settled / gone))} by its end"
            said = f"The {use.name} has spent {usd(use.settled)} of the {usd(use.limit)} of its {use.span}, {ahead}"
            found.append(Finding(f"{use.name} {use.span}", share, rule.limit, said))
    return found


def _month(rule: Rule, figures: Figures) -> Iterable[Finding] | None:
    if figures.month is None:
        return None
    gone = elapsed("month", figures.now)
    expected = figures.month / gone / NANO_PER_USD if gone >= EARLY else 0.0
    if not _crossed(rule, expected):
        return []
    said = f"This month has cost {usd(figures.month)}, and at this pace {amount(rule, expected)} by its end"
    return [Finding("", expected, rule.limit, f"{said}; {amount(rule, rule.limit)} are expected at most")]


def elapsed(of: Span, now: float) -> float:
    """The share of the day or month of UTC that is over, above 0."""
    _, ends = window(of, now)
    began = ends - DAY if of == "day" else month_start(now)
    return max(now - began, 1.0) / (ends - began)


def month_start(now: float) -> int:
    """When this month of UTC began, in Unix seconds."""
    name, _ = window("day", now)
    return int(now // DAY) * DAY - (int(name[-2:]) - 1) * DAY


# --- what is out of the ordinary ---


def _anomalous(rule: Rule, figures: Figures) -> Iterable[Finding] | None:
    if figures.anomalies is None:
        return None
    return [
        Finding(
            f"{one.kind} {one.provider}/{one.model}".rstrip("/"), one.value, one.expected, clean(one.explanation, LONGEST_TEXT)
        )
        for one in figures.anomalies
        if one.until is None
        and (one.severity == "critical" or rule.anomalies == "warning")
        and rule.provider in {"", one.provider}
        and rule.model in {"", one.model}
    ]


Finder = Callable[[Rule, Figures], Iterable[Finding] | None]
_FINDERS: Final[Mapping[str, Finder]] = {
    "threshold": _thresholds,
    "change": _changes,
    "burn_rate": _burning,
    "forecast": _forecasts,
    "anomaly": _anomalous,
}
_STATES: Final[Mapping[str, Finder]] = {
    "provider_health": _healths,
    "circuit_open": _circuits,
    "budget_used": _budgets,
    "wrong_hit_rate": _wrong_hits,
}
