"""What `bench.overload` has found: figures against their bars, as Markdown and pictures. Knows nothing of how it was measured."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from bench.load import Quantiles
from bench.plots import picture
from bench.report import Machine
from sentinel_gateway.evaluation.chart import Chart, Series

if TYPE_CHECKING:
    from bench.streams import Idle, Slow
    from bench.watching import Watched


class Point(msgspec.Struct, frozen=True):
    """One rate. Rates a second, times in seconds; shares of 0 to 1. `told`: from sending to the refusal."""

    rate: float
    sent: float
    goodput: float
    accepted: Quantiles
    refused: float
    told: Quantiles
    waits: Quantiles
    """What refusals said in Retry-After-Ms."""
    distinct_waits: int
    without_wait: int
    problems: dict[str, int]
    lateness: Quantiles


class Curve(msgspec.Struct, frozen=True):
    """From below the knee to many times it; `tried`: where the knee was looked for."""

    name: str
    knee: float
    tried: list[Point]
    points: list[Point]

    @property
    def peak(self) -> float:
        """The highest goodput."""
        return max(point.goodput for point in self.points)


class Recovery(msgspec.Struct, frozen=True):
    """A storm of `times` the knee, and what followed: the share served of what was planned in each second."""

    times: float
    ended: int
    attempts: float
    """For each request, those of clients that insist included."""
    served: list[float]


class Bar(msgspec.Struct, frozen=True):
    """A figure, and the most (or `least`) that it may be."""

    name: str
    value: float
    bar: float
    least: bool = False

    @property
    def holds(self) -> bool:
        """Is it kept?"""
        return self.value >= self.bar if self.least else self.value <= self.bar


class Report(msgspec.Struct, frozen=True):
    """One run."""

    date: str
    commit: str
    machine: Machine
    seconds: float
    curves: list[Curve]
    watched: "Watched"
    recovery: Recovery
    idle: "Idle"
    slow: "Slow"
    bars: list[Bar]


def markdown(report: Report) -> str:
    """The whole report."""
    machine = report.machine
    place = f"{machine.cpu}, {machine.cores} cores, {machine.kernel}, Python {machine.python}"
    held = [
        f"| {bar.name} | {bar.value:.4g} | {'>=' if bar.least else '<='} {bar.bar:.4g} | {'ok' if bar.holds else 'MISSED'} |"
        for bar in report.bars
    ]
    how = (
        f"`make load` (`python -m bench.overload`), commit {report.commit}, {report.seconds:.0f} s in all. {place}; load "
        f"average at the start {machine.load_average:.2f}. The gateway has a core to itself, mock and generator share the other. "
        "What was planned is sent, whatever became of what was sent before (open loop)."
    )
    parts = [
        f"# Overload, {report.date}",
        how,
        "\n".join(["| | | bar | |", "|---|---|---|---|", *held]),
    ]
    for curve in report.curves:
        parts += [f"## {curve.name.capitalize()}: the knee is at {curve.knee:,.0f} a second", "\n".join(_points(curve))]
    parts += [*_watched(report.watched), *_storm(report.recovery), *_idle(report.idle), *_slow(report.slow)]
    return "\n\n".join(parts) + "\n"


def _watched(found: "Watched") -> Iterator[str]:
    yield f"## Watching, while {found.high.rate:,.0f} requests a second come"
    yield f"{len(found.paths)} paths in turn: probes, `/metrics`, and all of `/api/monitoring` that needs no name."
    yield "\n".join(_looks(found))


def _looks(found: "Watched") -> Iterator[str]:
    heads = (
        "requests/s",
        "refused",
        "looks",
        "probes, `/metrics`: p50, slowest",
        "monitoring: p50, slowest",
        "slowest",
        "not answered",
    )
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for one in (found.calm, found.high):
        cells = [
            f"{one.rate:,.0f}",
            f"{100 * one.refused:.1f} %",
            f"{one.looks}",
            f"{_ms(one.probes.p50)}, {_ms(one.probes.max)}",
            f"{_ms(one.monitoring.p50)}, {_ms(one.monitoring.max)}",
            f"`{one.slowest}`",
            f"{one.problems or 'none'}",
        ]
        yield f"| {' | '.join(cells)} |"


def _storm(found: Recovery) -> Iterator[str]:
    yield f"## {found.times:g} times the knee for {found.ended} s, from clients who insist; then 0.7 of it"
    after = ", ".join(f"{100 * share:.0f} %" for share in found.served[found.ended :])
    yield (
        f"{found.attempts:.2f} attempts for each request: whoever is refused asks three more times, 0.1 to 0.4 s later, whatever "
        f"Retry-After says. Served of what was planned, second by second after it: {after}."
    )


def _idle(found: "Idle") -> Iterator[str]:
    yield f"## {found.streams:,} idle streams"
    yield (
        f"Of {found.calls:,} calls of providers, opened in {found.opened_in:.0f} s. {found.kib:.1f} KiB each, {found.lost} lost. "
        f"First heartbeat after {found.first_beat.p50:.1f} s of silence (at most {found.first_beat.max:.1f} s), then every "
        f"{found.gaps.p50:.2f} s, at worst {found.off:.2f} s off. Ordinary requests: p99 {_ms(found.before.latency.p99)} before, "
        f"{_ms(found.beside.latency.p99)} beside them. All left at once: everything was given back in {found.left_after:.1f} s."
    )


def _slow(found: "Slow") -> Iterator[str]:
    early, late = found.written
    yield f"## {found.readers} readers of a byte a second"
    yield (
        f"{found.kib:.1f} KiB each. The provider had written {early:.0f} KiB for each after ten seconds, and {late:.0f} KiB ten "
        f"seconds later. Cut after {found.cut.p50:.1f} s (at the latest {found.cut.max:.1f} s), {found.uncut} not at all. Of "
        f"{found.others.requests:,} ordinary requests beside them {found.others.good:,} were served."
    )


HEADS: Final = (
    *("times the knee", "offered/s", "served/s", "of the peak", "accepted p50, p99", "refused"),
    *("told in p50, p99", "to come again after p50 (p95)", "sent"),
)


def _points(curve: Curve) -> Iterator[str]:
    yield f"| {' | '.join(HEADS)} |"
    yield f"|{'---|' * len(HEADS)}"
    for point in curve.points:
        cells = [
            f"{point.rate / curve.knee:.2f}",
            f"{point.rate:,.0f}",
            f"{point.goodput:,.0f}",
            f"{100 * point.goodput / curve.peak:.0f} %",
            f"{_ms(point.accepted.p50)}, {_ms(point.accepted.p99)}",
            f"{100 * point.refused:.1f} %",
            f"{_ms(point.told.p50)}, {_ms(point.told.p99)}" if point.refused else "",
            f"{point.waits.p50:.1f} s ({point.waits.p95:.1f} s)" if point.refused else "",
            f"{100 * point.sent:.1f} %",
        ]
        yield f"| {' | '.join(cells)} |"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"


def pictures(report: Report) -> Iterator[tuple[str, str]]:
    """The name of each, and its SVG."""
    most = max(point.rate / curve.knee for curve in report.curves for point in curve.points)
    offered, least = "offered, times the knee", min(curve.points[0].rate / curve.knee for curve in report.curves)

    def chart(title: str, y: str, series: Sequence[Series]) -> str:
        return picture(Chart(title, offered, y, series, x_start=least, x_top=most, x_plain=True))

    served = [
        Series(curve.name, [(point.rate / curve.knee, point.goodput / curve.peak) for point in curve.points])
        for curve in report.curves
    ]
    yield "goodput", chart("What is served under more load than can be", "goodput, of its peak", served)
    slower = [
        Series(curve.name, [(p.rate / curve.knee, p.accepted.p99 / curve.points[0].accepted.p99) for p in curve.points])
        for curve in report.curves
    ]
    bar = Series("the bar", [(least, 2.0), (most, 2.0)])
    yield "latency", chart("The slowest in a hundred of the served", "p99, of that at half the knee", [*slower, bar])
    storm = report.recovery
    moments = [(at + 0.5, share) for at, share in enumerate(storm.served)]
    lasted = len(storm.served)
    title = f"{storm.ended} s of twice the knee, from clients who insist"
    axis = "seconds; the line: then 0.7 of the knee"
    line = [Series("requests", moments)]
    yield "recovery", picture(Chart(title, axis, "served of what was asked", line, 0.0, lasted, (storm.ended,), x_plain=True))
