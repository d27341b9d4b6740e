"""A line chart as SVG that needs no script, no font and no network, and takes its colours from the page around it."""

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Final, NamedTuple

WIDTH: Final = 480
HEIGHT: Final = 300
LEFT: Final = 64
RIGHT: Final = 24
TOP: Final = 12
BOTTOM: Final = 44
TICKS: Final = 5
LEAST: Final = 1e-6
"""What is lower can't be told from nothing."""
DASHES: Final = ("", "7 4", "2 3", "9 3 2 3", "4 2", "1 4")
"""Lines are told apart without their colours as well."""


class Series(NamedTuple):
    """A line through points (x, y), both shares of 0 to 1, with rising x."""

    name: str
    points: Sequence[tuple[float, float]]


class Chart(NamedTuple):
    """Lines over two axes in per cent. `x_start` and `x_top`: the ends of the x axis, shares; further points are left out.

    `x_plain`: its numbers are no per cents, but stand as they are.
    """

    title: str
    x: str
    y: str
    series: Sequence[Series]
    x_start: float = 0.0
    x_top: float = 1.0
    marks: Sequence[float] = ()
    """Places on the x axis to be marked."""
    x_plain: bool = False


def svg(chart: Chart) -> str:
    """The picture, and the names of its lines below it."""
    top = max((y for series in chart.series for x, y in series.points if x <= chart.x_top), default=0.0)
    scale = _Scale(chart.x_start, chart.x_top, _ceiling(top))
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(chart.title)}">',
        *_grid(chart, scale),
        *(
            f'<line stroke="currentColor" class="mark" x1="{scale.x(at)}" x2="{scale.x(at)}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
            for at in chart.marks
        ),
        *(_line(number, series, scale) for number, series in enumerate(chart.series)),
        "</svg>",
    ]
    keys = "".join(_key(number, series.name) for number, series in enumerate(chart.series))
    return "".join([*parts, f'<ul class="keys">{keys}</ul>'])


class _Scale(NamedTuple):
    start: float
    end: float
    top: float

    def x(self, share: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (share - self.start) / (self.end - self.start), 1)

    def y(self, share: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share / self.top, 1)

    def holds(self, share: float) -> bool:
        return self.start <= share <= self.end


def _ceiling(top: float) -> float:
    """A round number that is not below `top`: 1, 2, 4, 5, 6 or 8 times a power of ten."""
    if top < LEAST:
        return 0.01
    power = 10.0 ** math.floor(math.log10(top))
    return float(next((power * digit for digit in (1, 2, 4, 5, 6, 8) if power * digit >= top * (1 - 1e-9)), power * 10))


def _grid(chart: Chart, scale: _Scale) -> Iterator[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    for tick in range(TICKS + 1):
        share = scale.top * tick / TICKS
        y = scale.y(share)
        yield f'<line stroke="currentColor" class="grid" x1="{LEFT}" x2="{right}" y1="{y}" y2="{y}"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{percent(share)}</text>'
        at = scale.start + (scale.end - scale.start) * tick / TICKS
        told = f"{at:.2f}" if chart.x_plain else percent(at)
        yield f'<text x="{scale.x(at)}" y="{bottom + 17}" text-anchor="middle">{told}</text>'
    yield f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(chart.x)}</text>'
    middle = (TOP + bottom) / 2
    yield f'<text x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">{escape(chart.y)}</text>'


def _line(number: int, series: Series, scale: _Scale) -> str:
    points = " ".join(f"{scale.x(x)},{scale.y(y)}" for x, y in series.points if scale.holds(x))
    return f'<polyline {_look(number)} points="{points}"/>'


def _key(number: int, name: str) -> str:
    line = f'<line {_look(number)} x1="0" x2="32" y1="4" y2="4"/>'
    return f'<li><svg viewBox="0 0 32 8" aria-hidden="true">{line}</svg> {escape(name)}</li>'


def _look(number: int) -> str:
    """Drawn as a line also where nobody reads the page's style."""
    kind = number % len(DASHES)
    return f'fill="none" stroke="currentColor" class="line c{kind}" stroke-dasharray="{DASHES[kind]}"'


def percent(share: float) -> str:
    """Short, for an axis: 12.5 %."""
    return f"{100 * share:.4g} %"
