"""Tables for spreadsheets: CSV whose cells no program takes for a formula, since names in them are anybody's. Pure."""

import csv
import io
from collections.abc import Iterable
from typing import Any, Final

CSV: Final = "text/csv; charset=utf-8"
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of one."""


def as_csv(heads: Iterable[str], rows: Iterable[Iterable[Any]]) -> bytes:
    """Texts that begin like a formula get an apostrophe before them; numbers stay what they are."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(heads)
    table.writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue().encode()


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
