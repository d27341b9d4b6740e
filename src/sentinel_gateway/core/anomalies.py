"""What is out of the ordinary in what providers did: slower, wrong more often, dearer, or dead. Pure.

Each model of a provider is held against its own past, walked through in order: what is out of the ordinary never becomes part of
what is ordinary, so that a shift that stays is told of for as long as the days before it are known. It is looked at by 5 minutes,
by quarters and by whole hours: the finer see short faults of busy models, the coarser see small faults, and rare models.
"""

import math
from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final, Literal

import msgspec

from sentinel_gateway.core.pricing import NANO_PER_USD, about_usd
from sentinel_gateway.core.windows import FAILURES, OTHER, Series, Window, percentile, total

Kind = Literal["latency_shift", "error_burst", "cost_jump", "dead_provider"]
Severity = Literal["warning", "critical"]

BIN: Final = 300
"""Seconds of the windows that all of this begins with."""
SCALES: Final = (BIN, 900, 3600)
MOST_SERIES: Final = 50
"""The most used models that are looked at."""
HISTORY: Final = {BIN: 12, 900: 8, 3600: 5}
"""How many ordinary points there must be before one can be out of the ordinary."""
LEAST_CALLS: Final = 12
"""Answered calls that a point must be of."""
FLOOR: Final = 0.1
"""By how much what is ordinary moves about (as a logarithm), however many calls a point is of."""
SCORE: Final = 5.0
"""In standard deviations; and half of that ends it."""
ALONE: Final = 8.0
"""The same of a single point, where points are of a quarter or more."""
SLOWER: Final = 1.5
DEARER: Final = 1.5
CRITICAL_RATIO: Final = 3.0
MEDIAN_OF_NORMAL: Final = 0.6745
"""Of the size of what is normally distributed, in standard deviations."""
JOINED: Final = 2
"""Points of the ordinary at most between two runs that are one."""
CERTAIN: Final = 4.0
"""Standard deviations of Wilson's bounds."""
LEAST_FAILURES: Final = 8
CLUMP: Final = 3
"""Failures that come together, as retries and connections have it: so many are evidence of one."""
WORSE: Final = 0.03
"""By how much the share of failures must be above the usual, and at least twice it."""
PRIOR: Final = (1, 50)
"""Failures of calls, of a model that nothing is known of yet."""
CRITICAL_SHARE: Final = 0.5
DEAD_FAILURES: Final = 10
DEAD_SECONDS: Final = 600
MISSED: Final = 30
"""Calls that should have come while none did."""
STEADY: Final = 0.8
"""Share of the last hours' points at which there were calls, for their absence to mean something."""
STEADY_POINTS: Final = 36


Figure = Callable[[Window], tuple[float, int]]
"""What is looked at of a window, and how many calls it is of."""


class Anomaly(msgspec.Struct, frozen=True, kw_only=True):
    """Something out of the ordinary. `model` is empty where it is all of the provider; times in Unix seconds.

    `metric` says what `value` and `expected` are. `score` is how sure that is no chance, in standard deviations. `until` is None
    while it lasts. `calls` are those that it was seen in.
    """

    kind: Kind
    severity: Severity
    provider: str
    model: str
    metric: str
    value: float
    expected: float
    ratio: float
    score: float
    since: int
    until: int | None
    calls: int
    explanation: str


class _Run(msgspec.Struct):
    """Points in a row that are out of the ordinary."""

    points: list[Window]
    expected: float
    score: float
    seconds: int

    @property
    def since(self) -> int:
        return self.points[0].start

    @property
    def until(self) -> int:
        return self.points[-1].start + self.seconds

    def overlaps(self, other: "_Run") -> bool:
        return self.since < other.until and other.since < self.until

    @property
    def whole(self) -> Window:
        return total(self.points)

    def ended(self, end: int) -> int | None:
        """None while it lasts."""
        return self.until if self.until < end else None


class _Told(msgspec.Struct, frozen=True):
    """What is told of a run: `expected` is the run's unless it is given."""

    metric: str
    value: float
    said: str
    critical: bool
    expected: float | None = None


def find_anomalies(windows: Iterable[Window], now: int) -> list[Anomaly]:
    """All of them, the newest first. `windows` are of 5 minutes, in order, from before `now`; two days of them tell the last."""
    found = [window for window in windows if window.start + BIN <= now]
    end = now // BIN * BIN
    by_series = _by_series(found)
    dead = list(_dead_providers(found, end))
    anomalies = list(dead)
    for series, own in by_series.items():
        anomalies += _told(series, own, end, dead)
    return sorted(anomalies, key=lambda one: (-one.since, one.provider, one.model, one.kind))


def _by_series(windows: Sequence[Window]) -> Mapping[Series, list[Window]]:
    """The most used models, each by itself."""
    every: dict[Series, list[Window]] = {}
    for window in windows:
        if window.model != OTHER:
            every.setdefault(window.series, []).append(window)
    most = sorted(every, key=lambda series: -sum(window.requests for window in every[series]))[:MOST_SERIES]
    return {series: every[series] for series in most}


def _widened(windows: Iterable[Window], seconds: int) -> list[Window]:
    """In order, by longer stretches, all models in one."""
    by_stretch = groupby(windows, key=lambda window: window.start // seconds * seconds)
    return [total(group, start=start) for start, group in by_stretch]


def _told(series: Series, windows: Sequence[Window], end: int, dead: Sequence[Anomaly]) -> Iterator[Anomaly]:
    points = {seconds: _widened(windows, seconds) for seconds in SCALES}
    for run in _finest(_level_runs(points[seconds], seconds, _median_latency, SLOWER) for seconds in SCALES):
        yield _slow(series, run, end)
    for run in _finest(_level_runs(points[seconds], seconds, _cost_per_call, DEARER) for seconds in SCALES):
        yield _dear(series, run, end)
    for run in _finest(_failing_runs(points[seconds], seconds) for seconds in SCALES):
        if not any(one.provider == series[0] and _covers(one, run, end) for one in dead):
            yield _failing(series, run, end)


def _finest(by_scale: Iterable[Iterable[_Run]]) -> list[_Run]:
    """Of runs that overlap, those of the finest scale that saw them, as it says best when they began."""
    kept: list[_Run] = []
    for runs in by_scale:
        kept += [run for run in runs if not any(run.overlaps(other) for other in kept)]
    return kept


def _covers(anomaly: Anomaly, run: _Run, end: int) -> bool:
    return run.since < (anomaly.until or end) and anomaly.since < run.until


# --- levels: how slow, how dear ---


class _Level:
    """What is ordinary of one figure: the median of its logarithms, and how far points of so many calls scatter about it.

    The scatter is taken from neighbours' differences, which a slow drift does not widen.
    """

    def __init__(self) -> None:
        self._values: list[float] = []
        self._steps: list[float] = []
        self._last: tuple[float, int] | None = None

    def __len__(self) -> int:
        return len(self._values)

    @property
    def usual(self) -> float:
        return self._values[len(self._values) // 2]

    def score(self, value: float, calls: int) -> float:
        """How many standard deviations a point of so many calls lies above."""
        of_one_call = self._steps[len(self._steps) // 2] / MEDIAN_OF_NORMAL
        return (value - self.usual) / math.hypot(of_one_call / math.sqrt(calls), FLOOR)

    def add(self, value: float, calls: int) -> None:
        insort(self._values, value)
        if self._last is not None:
            before, count = self._last
            insort(self._steps, abs(value - before) / math.sqrt(1 / calls + 1 / count))
        self._last = value, calls


def _median_latency(window: Window) -> tuple[float, int]:
    return percentile(window.buckets, 0.5), window.timed


def _cost_per_call(window: Window) -> tuple[float, int]:
    return window.cost / max(window.successes, 1), window.successes


def _level_runs(points: Sequence[Window], seconds: int, figure: Figure, least: float) -> list[_Run]:
    """Where the figure was out of the ordinary."""
    level, runs, known = _Level(), list[_Run](), HISTORY[seconds]
    for point in points:
        value, calls = figure(point)
        if calls < LEAST_CALLS or value <= 0:
            continue
        height = math.log(value)
        share = 0.5 if runs and runs[-1].until == point.start else 1.0  # what has begun goes on until it is well over
        if len(level) >= known and height - level.usual >= share * math.log(least):
            score = level.score(height, calls)
            if score >= share * SCORE:
                _extend(runs, point, seconds, (math.exp(level.usual), score))
                continue
        level.add(height, calls)
    return [run for run in runs if len(run.points) > 1 or (seconds > BIN and run.score >= ALONE)]


def _extend(runs: list[_Run], point: Window, seconds: int, found: tuple[float, float]) -> None:
    """Add a point to the run that it goes on, or begin one. `found`: what was expected, and the score."""
    expected, score = found
    if runs and point.start - runs[-1].until <= JOINED * seconds:
        runs[-1].points.append(point)
        runs[-1].score = max(runs[-1].score, score)
        return
    runs.append(_Run([point], expected, score, seconds))


def _slow(series: Series, run: _Run, end: int) -> Anomaly:
    value = percentile(run.whole.buckets, 0.5)
    ratio = value / run.expected
    said = f"answers take {value:,.0f} ms (median), {ratio:.1f} times the usual {run.expected:,.0f} ms"
    return _anomaly("latency_shift", series, run, end, _Told("median_latency_ms", value, said, ratio >= CRITICAL_RATIO))


def _dear(series: Series, run: _Run, end: int) -> Anomaly:
    """Amounts in USD."""
    cost, _ = _cost_per_call(run.whole)
    value, expected, ratio = cost / NANO_PER_USD, run.expected / NANO_PER_USD, cost / run.expected
    said = f"a call costs {about_usd(cost, 2)} USD, {ratio:.1f} times the usual {about_usd(run.expected, 2)} USD"
    return _anomaly("cost_jump", series, run, end, _Told("cost_per_request_usd", value, said, ratio >= CRITICAL_RATIO, expected))


def _anomaly(kind: Kind, series: Series, run: _Run, end: int, told: _Told) -> Anomaly:
    calls = run.whole.requests
    minutes = (run.until - run.since) // 60
    expected = run.expected if told.expected is None else told.expected
    name = "/".join(part for part in series if part)
    return Anomaly(
        kind=kind,
        severity="critical" if told.critical else "warning",
        provider=series[0],
        model=series[1],
        metric=told.metric,
        value=told.value,
        expected=expected,
        ratio=told.value / expected if expected else 0.0,
        score=run.score,
        since=run.since,
        until=run.ended(end),
        calls=calls,
        explanation=f"{name}: {told.said}, for {minutes} minutes and {calls:,} calls.",
    )


# --- failures ---


def wilson_low(hits: float, calls: float, certain: float = CERTAIN) -> float:
    """The least share that so many of so many calls are likely to come of (Wilson's lower bound); 0.0 of none."""
    if not calls:
        return 0.0
    share, square = hits / calls, certain * certain
    middle = share + square / (2 * calls)
    reach = certain * math.sqrt(share * (1 - share) / calls + square / (4 * calls * calls))
    return (middle - reach) / (1 + square / calls)


def _failing_runs(points: Sequence[Window], seconds: int) -> list[_Run]:
    """Where the share of failures was surely above the usual."""
    runs: list[_Run] = []
    failed, decided = PRIOR
    for point in points:
        calls, failures = point.decided, point.failures
        if not calls:
            continue
        usual = failed / decided
        bar = max(2 * usual, usual + WORSE)
        goes_on = bool(runs) and runs[-1].until == point.start and failures / calls > bar
        if goes_on or (failures >= LEAST_FAILURES and wilson_low(failures / CLUMP, calls / CLUMP) > bar):
            score = (failures / calls - usual) / math.sqrt(CLUMP * usual * (1 - usual) / calls)
            _extend(runs, point, seconds, (usual, score))
            continue
        failed, decided = failed + failures, decided + calls
    return runs


def _failing(series: Series, run: _Run, end: int) -> Anomaly:
    whole = run.whole
    value = whole.failures / whole.decided
    said = f"{value:.0%} of the calls fail, usual are {run.expected:.1%}, most of them {_ways(whole)}"
    return _anomaly("error_burst", series, run, end, _Told("error_rate", value, said, value >= CRITICAL_SHARE))


def _ways(window: Window) -> str:
    """How the most of the failures ended."""
    return max((ending for ending in window.endings if ending in FAILURES), key=lambda one: window.endings[one])


# --- providers as a whole ---


def _dead_providers(windows: Sequence[Window], end: int) -> Iterator[Anomaly]:
    everybody = {point.start: point.requests for point in _widened(windows, BIN)}
    for provider in dict.fromkeys(window.provider for window in windows):
        own = _widened((window for window in windows if window.provider == provider), BIN)
        runs = sorted([*_silent_runs(own, everybody, end), *_answerless_runs(own)], key=lambda run: run.since)
        joined: list[_Run] = []
        for run in runs:
            if joined and run.since <= joined[-1].until + JOINED * BIN:
                joined[-1].points = sorted([*joined[-1].points, *run.points], key=lambda point: point.start)
                joined[-1].expected += run.expected
                joined[-1].score = max(joined[-1].score, run.score)
            else:
                joined.append(run)
        yield from (_dead(provider, run, end) for run in joined)


def _answerless_runs(points: Sequence[Window]) -> Iterator[_Run]:
    """Where all calls failed, and there were enough."""
    run: list[Window] = []
    for point in [*points, None]:
        if point is not None and not point.successes:
            if point.failures or run:
                run.append(point)
            continue
        while run and not run[-1].failures:
            run.pop()
        failures = sum(one.failures for one in run)
        if failures >= DEAD_FAILURES and run[-1].start + BIN - run[0].start >= DEAD_SECONDS:
            yield _Run(run, 0.0, math.sqrt(failures), BIN)
        run = []


def _silent_runs(points: Sequence[Window], everybody: Mapping[int, int], end: int) -> Iterator[_Run]:
    """Where no call was made, though others were: as many as had been a provider's share before should have come."""
    own = {point.start: point.requests for point in points}
    before: list[int] = []
    """The starts of the last points with calls of anybody, before the silence."""
    run: list[Window] = []
    missed = 0.0
    for start in range(points[0].start, end + BIN, BIN):
        if start < end and not own.get(start) and (run or _is_steady(before, own)):
            share = sum(own.get(one, 0) for one in before) / sum(everybody[one] for one in before)
            missed += share * everybody.get(start, 0)
            run.append(Window(start, "", ""))
            continue
        if missed >= MISSED and len(run) * BIN >= DEAD_SECONDS:
            yield _Run(run, missed, math.sqrt(missed), BIN)
        run, missed = [], 0.0
        if everybody.get(start):
            before = [*before, start][-STEADY_POINTS:]


def _is_steady(before: Sequence[int], own: Mapping[int, int]) -> bool:
    return len(before) == STEADY_POINTS and sum(one in own for one in before) >= STEADY * STEADY_POINTS


def _dead(provider: str, run: _Run, end: int) -> Anomaly:
    if failures := run.whole.failures:
        said = f"answers nothing: {failures:,} calls failed ({_ways(run.whole)}) and none was answered"
        told = _Told("error_rate", 1.0, said, critical=True, expected=0.0)
    else:
        said = f"is asked nothing any more, where about {run.expected:,.0f} calls would be usual"
        told = _Told("requests", 0.0, said, critical=True)
    return _anomaly("dead_provider", (provider, ""), run, end, told)
