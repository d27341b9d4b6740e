"""What `eval` and `replay` share: how figures leave, and how input that can't be used is told."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sentinel_gateway import __version__

if TYPE_CHECKING:
    import argparse

    from sentinel_gateway.evaluation.document import Document

UNUSABLE: Final = 2
"""Exit code for input that can't be used."""
EXPLAIN_HTML: Final = "Write the report as one page, with plots, to this file as well."
EXPLAIN_LIMIT: Final = "Read no more than the first N."


def add_output_options(line: "argparse.ArgumentParser") -> None:
    """What both take."""
    line.add_argument("--limit", type=_count, metavar="N", help=EXPLAIN_LIMIT)
    line.add_argument("--html", type=Path, metavar="FILE", help=EXPLAIN_HTML)


def _count(said: str) -> int:
    import argparse

    if not said.isdecimal() or int(said) < 1:
        raise argparse.ArgumentTypeError(f"'{said}' is no whole number above 0")
    return int(said)


def made() -> str:
    """When, and by what, for the head of a report."""
    from datetime import UTC, datetime

    return f"Made {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by Sentinel {__version__}, on this machine: nothing was sent anywhere."


def deliver(document: "Document", figures: bytes, html: Path | None, *, as_json: bool) -> int:
    """The page, if one is wanted, and on standard output the figures or what they say; the exit code."""
    from sentinel_gateway.evaluation.document import page, text

    if html is not None:
        try:
            html.write_text(page(document), encoding="utf-8", errors="replace")
        except OSError as exc:
            return refuse_input(f"{html} can't be written: {exc.strerror}", as_json=as_json)
    print(figures.decode() if as_json else text(document))
    return 0


def refuse_input(fault: str, *, as_json: bool) -> int:
    """Say what is wrong; the exit code."""
    if as_json:
        print(json.dumps({"ok": False, "error": fault}, indent=2))
    else:
        from sentinel_gateway.evaluation.document import plain

        print(f"sentinel: {plain(fault)}", file=sys.stderr)  # it may quote the file
    return UNUSABLE
