"""Was it flat, and is everything given back? Figures against their bars; knows nothing of how they were got."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from bench.soak.mixture import CANARY
from bench.soak.watch import Sample

SPAN: Final = 600.0
"""Seconds: growth is told by ten minutes."""
GROWTH_BAR: Final = 0.01
"""Of what it is, by ten minutes."""
DESCRIPTORS_BAR: Final = 1.0
"""By ten minutes."""
MORE_AT_REST: Final = 4
"""Descriptors that may be open at rest beyond those at the beginning: segments of the journal come and go."""
COMPLAINTS: Final = re.compile(
    r"Traceback|never retrieved|never awaited|Exception ignored|unraisable|Unclosed|ResourceWarning|internal_error"
)


class Line(NamedTuple):
    """One line of the report."""

    what: str
    seen: str
    bar: str
    held: bool


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Theil's and Sen's: the median of the slopes between all pairs, which some odd samples don't move; 0 for fewer than two."""
    if len(points) < 2:  # noqa: PLR2004 - a line
        return 0.0
    x, y = np.array(points, dtype=np.float64).T
    first, second = np.triu_indices(len(x), k=1)
    return float(np.median((y[second] - y[first]) / (x[second] - x[first])))


def growth(samples: Sequence[Sample], of: Callable[[Sample], float]) -> float:
    """By ten minutes, as a share of the median."""
    middle = float(np.median([of(sample) for sample in samples]))
    return slope([(sample.at, of(sample)) for sample in samples]) * SPAN / middle


def flat(samples: Sequence[Sample]) -> list[Line]:
    """Of the samples after warming up."""

    def line(what: str, of: Callable[[Sample], float], unit: float, name: str) -> Line:
        seen, values = growth(samples, of), [of(sample) / unit for sample in samples]
        spread = f"{min(values):,.1f} to {max(values):,.1f} {name}"
        return Line(what, f"{seen:+.2%} in 10 min ({spread})", f"< {GROWTH_BAR:.0%}", seen < GROWTH_BAR)

    opened = slope([(sample.at, sample.descriptors) for sample in samples]) * SPAN
    many = [sample.descriptors for sample in samples]
    return [
        line("memory", lambda sample: sample.resident, 1e6, "MB"),
        line("objects that are kept, of those that the collector knows", lambda sample: sample.objects, 1e3, "thousand"),
        Line(
            "open descriptors",
            f"{opened:+.2f} in 10 min ({min(many)} to {max(many)})",
            f"< {DESCRIPTORS_BAR:g}",
            opened < DESCRIPTORS_BAR,
        ),
        Line(
            "threads",
            f"{samples[0].threads} at first, {samples[-1].threads} at last",
            "no more",
            samples[-1].threads <= max(sample.threads for sample in samples[: len(samples) // 2]),
        ),
    ]


def at_rest(before: Sample, after: Sample) -> list[Line]:
    """When nobody asks any more, against when nobody did yet; connections of providers are taken off both."""
    more = after.descriptors - before.descriptors
    return [
        Line("descriptors at rest", f"{before.descriptors} before, {after.descriptors} after", "back", more <= MORE_AT_REST),
        Line("tasks at rest", f"{before.tasks} before, {after.tasks} after", "back", after.tasks <= before.tasks),
    ]


def nothing_held(places: float, usd: float) -> Line:
    """By requests that are over."""
    return Line("places and budgets held at rest", f"{places:g} places, {usd:g} USD", "0", not places and not usd)


def flowed(came: Mapping[tuple[str, str], int], sources: Mapping[str, int], planned: int, wrong: Sequence[str]) -> list[Line]:
    """Was all of it asked, did each kind of thing happen, and was every answer right?"""
    statuses = {status: sum(count for (_, one), count in came.items() if one == status) for status in ("200", "429", "left")}
    failed = sum(count for (_, status), count in came.items() if status in {"502", "503", "504"})
    happened = [*statuses.values(), failed, *(sources.get(source, 0) for source in ("exact", "semantic", "miss", "bypass"))]
    told = ", ".join(f"{count:,} {source}" for source, count in sorted(sources.items()) if source)
    asked = sum(count for (kind, _), count in came.items() if kind not in {"wrong", "feedback"})
    return [
        Line("requests", f"{asked:,} of {planned:,} planned, some of them sent twice", ">= planned", asked >= planned),
        Line("where answers came from", told, "each", all(happened)),
        Line(
            "refused, failed, left",
            f"{statuses['429']:,} over a limit, {failed:,} with their provider's failure, {statuses['left']:,} callers left",
            "each",
            all(happened),
        ),
        Line("wrong answers", f"{len(wrong)}{': ' + '; '.join(wrong[:3]) if wrong else ''}", "0", not wrong),
    ]


def logs(lines: Iterable[str], metrics: str) -> list[Line]:
    """Of everything that it wrote."""
    number, complaints, leaks = 0, list[str](), CANARY in metrics
    for line in lines:
        number += 1
        if COMPLAINTS.search(line):
            complaints.append(line.strip()[:200])
        leaks = leaks or CANARY in line
    seen = f"{len(complaints)} in {number:,} lines{': ' + complaints[0] if complaints else ''}"
    return [
        Line("tracebacks, exceptions that nobody retrieved or could raise", seen, "0", not complaints),
        Line("questions in logs or metrics", "found" if leaks else "none", "none", not leaks),
    ]


def value(metrics: str, name: str) -> float:
    """Of a metric without labels; nan where it is not told."""
    found = re.search(rf"^{name} (\S+)$", metrics, re.MULTILINE)
    return float(found[1]) if found else math.nan
