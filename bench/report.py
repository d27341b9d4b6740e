"""What was measured: figures against their bars, as text, Markdown and JSON. Knows nothing of how it was measured."""

import statistics
from typing import Final, Literal

import msgspec

Verdict = Literal["ok", "MISSED", ""]

FLOOR: Final = (
    "The bars were set on another machine. The floor is what uvicorn (and for misses and streams aiohttp) takes without any "
    "gateway, in the same rounds; the bar here is the bar, times what the floor takes here over what it took there. For what has "
    "no floor of its own, other work says how much slower this machine is: the floor's stream for the first byte, the embedding "
    "of 128 tokens for the semantic tier."
)
TOLERANCE: Final = 0.01
"""By how much the upstream calls a request may differ from the expected number: calls of the moment when a slice ends."""


class Figure(msgspec.Struct, frozen=True):
    """One measured quantity, once a round. `bar` is the most it may be on the machine that the bars were set on.

    `floor` is what server and client alone took in the same rounds, and `floor_there` what they took on that machine. Without
    a floor, `slowness` says how many times as long as there other work of its kind takes here.
    """

    name: str
    unit: str
    values: list[float]
    bar: float | None = None
    floor: list[float] | None = None
    floor_there: float | None = None
    slowness: float | None = None

    @property
    def median(self) -> float:
        """The middle round."""
        return statistics.median(self.values)

    @property
    def verdict(self) -> Verdict:
        """Does the median hold the bar?"""
        if self.bar is None:
            return ""
        return "ok" if self.median <= self.bar else "MISSED"

    @property
    def times_floor(self) -> float | None:
        """How many floors it takes."""
        return None if self.floor is None else self.median / statistics.median(self.floor)

    @property
    def bar_here(self) -> float | None:
        """The bar, for a machine as much slower or faster as this one."""
        slowness = self.slowness
        if self.floor is not None and self.floor_there is not None:
            slowness = statistics.median(self.floor) / self.floor_there
        return None if self.bar is None or slowness is None else self.bar * slowness

    @property
    def verdict_here(self) -> Verdict:
        """Does the median hold the bar for this machine?"""
        if self.bar_here is None:
            return ""
        return "ok" if self.median <= self.bar_here else "MISSED"


class Slice(msgspec.Struct, frozen=True):
    """One workload in one round. Times in seconds; CPU time is the server's."""

    workload: str
    round: int
    requests: int
    good: int
    problems: dict[str, int]
    rate: float
    latency_p50: float
    latency_p99: float
    first_byte_p50: float
    per_event_p50: float
    cpu_per_unit: float
    upstream_calls: float
    """A request."""
    expected_upstream_calls: int


class Machine(msgspec.Struct, frozen=True):
    """Where it was measured."""

    cpu: str
    cores: int
    kernel: str
    python: str
    versions: dict[str, str]
    load_average: float
    """Of the last minute before the start: others at work on the machine."""


class Results(msgspec.Struct, frozen=True):
    """All of one run."""

    date: str
    command: str
    conditions: str
    machine: Machine
    figures: list[Figure]
    slices: list[Slice]

    @property
    def failures(self) -> list[str]:
        """Why the figures can't be trusted: answers that failed, hits that were none. Empty if they can."""
        return [failure for slice_ in self.slices for failure in _failures(slice_)]

    @property
    def holds(self) -> bool:
        """All bars hold and nothing failed."""
        return not self.failures and all(figure.verdict != "MISSED" for figure in self.figures)


def _failures(slice_: Slice) -> list[str]:
    place = f"{slice_.workload}, round {slice_.round}"
    found = [f"{place}: {count} x {problem}" for problem, count in slice_.problems.items()]
    if not slice_.good:
        found.append(f"{place}: no good answer")
    if abs(slice_.upstream_calls - slice_.expected_upstream_calls) > TOLERANCE:
        found.append(f"{place}: {slice_.upstream_calls:.2f} upstream calls a request, not {slice_.expected_upstream_calls}")
    return found


def markdown(results: Results) -> str:
    """The whole report."""
    machine = results.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    place = f"{machine.cpu}, {machine.cores} cores, {machine.kernel}, Python {machine.python}; {versions}"
    parts = [
        f"# Bench of {results.date}",
        f"`{results.command}`",
        f"{place}. Load average at the start {machine.load_average:.2f}. {results.conditions}",
        "## Figures\n\n" + figures_table(results.figures),
    ]
    if results.slices:
        parts += [FLOOR, "## Workloads, medians\n\n" + workloads_table(results.slices)]
    if results.failures:
        parts.append("## Failures\n\n" + "\n".join(f"- {failure}" for failure in results.failures))
    return "\n\n".join(parts) + "\n"


def figures_table(figures: list[Figure]) -> str:
    """Each figure beside its bar, and where it has a floor beside the bar in terms of it."""
    header = ["Figure", "Unit", "Median", "Low to high", "Bar", "", "Times the floor", "Bar here", ""]
    return _table(header, [_figure_row(figure) for figure in figures])


def _figure_row(figure: Figure) -> list[str]:
    spread = f"{min(figure.values):.2f} to {max(figure.values):.2f}"
    bar = "" if figure.bar is None else f"<= {figure.bar:g}"
    times = "" if figure.times_floor is None else f"{figure.times_floor:.2f}"
    bar_here = "" if figure.bar_here is None else f"<= {figure.bar_here:.3g}"
    return [figure.name, figure.unit, f"{figure.median:.2f}", spread, bar, figure.verdict, times, bar_here, figure.verdict_here]


def workloads_table(slices: list[Slice]) -> str:
    """What the client saw of each workload."""
    header = ["Workload", "Answers/s", "p50 ms", "p99 ms", "First byte p50 ms", "Event p50 ms", "Upstream calls", "Failed"]
    names = dict.fromkeys(slice_.workload for slice_ in slices)
    return _table(header, [_workload_row(name, [slice_ for slice_ in slices if slice_.workload == name]) for name in names])


def _workload_row(name: str, rounds: list[Slice]) -> list[str]:
    def median(member: str, factor: float = 1.0) -> float:
        middle: float = statistics.median(getattr(slice_, member) for slice_ in rounds)
        return middle * factor

    times = [f"{median(member, 1000):.2f}" for member in ("latency_p50", "latency_p99", "first_byte_p50", "per_event_p50")]
    failed = sum(slice_.requests - slice_.good for slice_ in rounds)
    return [name, f"{median('rate'):.0f}", *times, f"{median('upstream_calls'):.2f}", str(failed)]


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
