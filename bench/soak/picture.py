"""Lines over time, one panel below the other, as SVG that needs nothing but a browser."""

import math
from collections.abc import Sequence
from html import escape
from typing import Final, NamedTuple

WIDTH: Final = 860
PANEL: Final = 150
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 26, 14
AXIS: Final = 34
LINE: Final = "#2563eb"
INK: Final = "#334155"
GRID: Final = "#e2e8f0"
TICKS: Final = 4


class Panel(NamedTuple):
    """One quantity. Points are (across, up), in the order of `across`."""

    name: str
    points: Sequence[tuple[float, float]]


def picture(panels: Sequence[Panel], *, across: str, mark: float) -> str:
    """All of them over the same axis, from 0; what lies before `mark` is shaded."""
    most = max((x for panel in panels for x, _ in panel.points), default=0.0) or 1.0
    height = PANEL * len(panels) + AXIS
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="system-ui, sans-serif" font-size="12" fill="{INK}">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        *(_panel(panel, PANEL * number, most, mark) for number, panel in enumerate(panels)),
        *(
            f'<text x="{_across(x, most):.1f}" y="{height - AXIS + 12}" text-anchor="middle">{x:g}</text>'
            for x in ticks(0.0, most, 8)
        ),
        f'<text x="{WIDTH / 2}" y="{height - 6}" text-anchor="middle">{escape(across)}</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers from one to the other, at most so many and one."""
    rough = (high - low) / most
    if rough <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step)
    return [step * number for number in range(first, math.floor(high / step) + 1)]


def _across(x: float, most: float) -> float:
    return LEFT + x / most * (WIDTH - LEFT - RIGHT)


def _panel(panel: Panel, top: int, most: float, mark: float) -> str:
    """From 0, so that what looks flat is flat."""
    high = max((y for _, y in panel.points), default=0.0) * 1.1 or 1.0
    floor, room = top + PANEL - BOTTOM, PANEL - TOP - BOTTOM

    def up(y: float) -> float:
        return floor - y / high * room

    line = " ".join(f"{_across(x, most):.1f},{up(y):.1f}" for x, y in panel.points)
    width = _across(mark, most) - LEFT
    return "\n".join(
        [
            f'<rect x="{LEFT}" y="{top + TOP}" width="{width:.1f}" height="{room}" fill="#f8fafc"/>',
            *(
                f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(y):.1f}" y2="{up(y):.1f}" stroke="{GRID}"/>'
                f'<text x="{LEFT - 6}" y="{up(y) + 4:.1f}" text-anchor="end">{y:g}</text>'
                for y in ticks(0.0, high, TICKS)
            ),
            f'<text x="{LEFT}" y="{top + 16}" font-weight="600">{escape(panel.name)}</text>',
            f'<polyline points="{line}" fill="none" stroke="{LINE}" stroke-width="1.5"/>',
        ]
    )
