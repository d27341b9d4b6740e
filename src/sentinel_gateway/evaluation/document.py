"""A report as headings, sentences, tables and charts, and its two forms: text for a terminal, a page for a browser.

The page is one file: no script, nothing from elsewhere. Whatever stands in it is escaped here, and nowhere else.
"""

import textwrap
from collections.abc import Iterator, Sequence
from html import escape
from typing import Final, NamedTuple

from sentinel_gateway.evaluation.chart import Chart, svg

COLUMNS: Final = 100
"""Of text."""
SHOWN: Final = 240
"""Characters of a text that is quoted on a terminal; a page has all of it."""


class Table(NamedTuple):
    """Rows of cells under their heads. The first column names the row, the others hold figures, or `words`."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: bool = False


class Quotes(NamedTuple):
    """Things to be read: a line about each, and texts with their labels."""

    items: Sequence[tuple[str, Sequence[tuple[str, str]]]]


class Section(NamedTuple):
    """A heading and what stands below it; a string is a paragraph."""

    title: str
    blocks: Sequence[str | Table | Chart | Quotes]


class Document(NamedTuple):
    """The whole report. `made`: when and by what."""

    title: str
    made: str
    sections: Sequence[Section]


def text(document: Document) -> str:
    """For a terminal. Charts are for pages."""
    lines = [plain(document.title)]
    for section in document.sections:
        title = plain(section.title)
        lines += ["", title, "-" * len(title)]
        for block in section.blocks:
            lines += _text(block)
    return "\n".join(lines)


def _text(block: str | Table | Chart | Quotes) -> Iterator[str]:
    match block:
        case str():
            yield from textwrap.wrap(plain(block), COLUMNS) or [""]
        case Table():
            yield from _columns(block)
        case Quotes():
            for about, texts in block.items:
                yield f"* {plain(about)}"
                for label, said in texts:
                    yield from _below(f"{label}: {textwrap.shorten(said, SHOWN)}")
        case Chart():
            return


def _below(said: str) -> list[str]:
    return textwrap.wrap(plain(said), COLUMNS, initial_indent="    ", subsequent_indent="      ")


def _columns(table: Table) -> Iterator[str]:
    if table.words:
        for first, *others in table.rows:
            yield plain(first)
            for head, cell in zip(table.heads[1:], others, strict=True):
                yield from _below(f"{head}: {cell}")
        return
    rows = [[plain(cell) for cell in row] for row in (table.heads, *table.rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(table.heads))]
    for row in rows:
        cells = [
            cell.rjust(width) if place else cell.ljust(width) for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def plain(said: str) -> str:
    """On one line, and without what a terminal would obey."""
    return " ".join("".join(char if char.isprintable() else " " for char in said).split())


def page(document: Document) -> str:
    """One file of HTML."""
    body = "".join(map(_section, document.sections))
    title = escape(document.title)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>{HEAD}<style>{STYLE}</style></head>'
        f"<body><main><h1>{title}</h1><p>{escape(document.made)}</p>{body}</main></body></html>\n"
    )


def _section(section: Section) -> str:
    return f"<section><h2>{escape(section.title)}</h2>{''.join(map(_html, section.blocks))}</section>"


def _html(block: str | Table | Chart | Quotes) -> str:
    match block:
        case str():
            return f"<p>{escape(block)}</p>"
        case Table():
            heads = "".join(f'<th scope="col">{escape(head)}</th>' for head in block.heads)
            rows = "".join(_row(row, block.heads) for row in block.rows)
            kind = "words" if block.words else "figures"
            table = f'<table class="{kind}"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'
            return f'<div class="wide" tabindex="0">{table}</div>'
        case Chart():
            return f"<figure><figcaption>{escape(block.title)}</figcaption>{svg(block)}</figure>"
        case Quotes():
            return f"<ol>{''.join(_quote(about, texts) for about, texts in block.items)}</ol>"


def _row(row: Sequence[str], heads: Sequence[str]) -> str:
    first, *others = row
    told = zip(heads[1:], others, strict=True)
    cells = "".join(f'<td data-head="{escape(head)}">{escape(cell)}</td>' for head, cell in told)
    return f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>'


def _quote(about: str, texts: Sequence[tuple[str, str]]) -> str:
    said = "".join(f"<dt>{escape(label)}</dt><dd>{escape(text)}</dd>" for label, text in texts)
    return f"<li>{escape(about)}<dl>{said}</dl></li>"


HEAD: Final = (
    '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="referrer" content="no-referrer">'
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
)
"""Nothing is fetched, and nothing runs, whatever stands in the report."""
COLOURS: Final = """
:root{color-scheme:light dark;--back:#fff;--text:#1b1f24;--dim:#57606a;--rule:#d0d7de;
--c0:#0550ae;--c1:#b35900;--c2:#1a7f37;--c3:#8250df;--c4:#cf222e;--c5:#57606a}
@media (prefers-color-scheme:dark){:root{--back:#0d1117;--text:#e6edf3;--dim:#9198a1;--rule:#30363d;
--c0:#79c0ff;--c1:#ffa657;--c2:#7ee787;--c3:#d2a8ff;--c4:#ff7b72;--c5:#9198a1}}
"""
DRAWN: Final = """
svg text{fill:var(--dim);font-size:13px}
.grid{stroke:var(--rule)}.mark{stroke:var(--dim);stroke-dasharray:3 3}.line{fill:none;stroke-width:2}
.c0{stroke:var(--c0)}.c1{stroke:var(--c1)}.c2{stroke:var(--c2)}.c3{stroke:var(--c3)}.c4{stroke:var(--c4)}.c5{stroke:var(--c5)}
"""
"""What charts are drawn with."""
STYLE: Final = (
    COLOURS
    + DRAWN
    + """
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--text);font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
main{max-width:72rem;margin:0 auto;padding:1rem}p,ol{max-width:48rem}
h1{font-size:1.5rem;line-height:1.2}h2{font-size:1.15rem;margin-top:2rem;border-bottom:1px solid var(--rule)}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem}
th,td{padding:.3rem .6rem;border-bottom:1px solid var(--rule);text-align:left;vertical-align:top;overflow-wrap:normal}
thead th{color:var(--dim);font-weight:600}tbody th{font-weight:400}
.figures td,.figures thead th:not(:first-child){text-align:right;font-variant-numeric:tabular-nums}
.figures td{white-space:nowrap}
.words td:last-child{min-width:14rem}
@media (max-width:36rem){thead{display:none}table,tbody,tr,tbody th{display:block}
tr{padding:.5rem 0;border-bottom:1px solid var(--rule)}tbody th{font-weight:600}th,td{border:0;padding:.1rem 0}
.words td{display:block}.figures td{display:inline-block;margin-right:1rem}
td::before{content:attr(data-head) ": ";color:var(--dim)}}
figure{margin:1rem 0;max-width:36rem}figcaption{font-weight:600}
svg{width:100%;height:auto;display:block}
.keys{list-style:none;padding:0;display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;font-size:.9rem}
.keys svg{display:inline;width:32px;height:8px;vertical-align:middle}
dl{margin:.2rem 0 1rem}dt{color:var(--dim);font-size:.85rem}dd{margin:0 0 .3rem;white-space:pre-wrap}
"""
)
