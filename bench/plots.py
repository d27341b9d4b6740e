"""Charts as files of their own, for pages: drawn as those of `sentinel eval`, with the names of their lines in the picture.

A picture is legible in light and dark, whatever the page around it does: it has its own ground.
"""

from html import escape
from typing import Final

from sentinel_gateway.evaluation.chart import DASHES, HEIGHT, WIDTH, Chart, svg
from sentinel_gateway.evaluation.document import COLOURS, DRAWN

ROW: Final = 20
"""Pixels that the name of a line takes in height."""
TITLE: Final = 34
SIZES: Final = (
    "text{font:13px system-ui,sans-serif;fill:var(--dim)}"
    ".title{font-weight:600;font-size:15px;fill:var(--text)}.ground{fill:var(--back)}"
)


def picture(chart: Chart) -> str:
    """The chart as a file of SVG that needs nothing else."""
    drawn = svg(chart).partition('<ul class="keys">')[0]
    below = TITLE + HEIGHT
    height = below + ROW * len(chart.series) + 10
    names = "".join(_name(number, series.name, below + ROW * number) for number, series in enumerate(chart.series))
    placed = drawn.replace("<svg ", f'<svg x="0" y="{TITLE}" width="{WIDTH}" height="{HEIGHT}" ', 1)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">'
        f"<title>{escape(chart.title)}</title><style>{COLOURS}{DRAWN}{SIZES}</style>"
        f'<rect class="ground" width="{WIDTH}" height="{height}" rx="6"/>'
        f'<text class="title" x="14" y="23">{escape(chart.title)}</text>{placed}{names}</svg>\n'
    )


def _name(number: int, name: str, top: float) -> str:
    kind = number % len(DASHES)
    line = f'<line class="line c{kind}" stroke-dasharray="{DASHES[kind]}" x1="64" x2="100" y1="{top + 9}" y2="{top + 9}"/>'
    return f'{line}<text x="110" y="{top + 13}">{escape(name)}</text>'
