"""`sentinel eval`."""

import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from sentinel_gateway.cli.edge import loader, refuse
from sentinel_gateway.cli.findings import add_output_options, deliver, made, refuse_input
from sentinel_gateway.cli.line import Commands, add_command, add_config_option, add_json_option
from sentinel_gateway.cli.progress import Progress
from sentinel_gateway.errors import ConfigurationError


def add(commands: Commands) -> None:
    """Declare the command."""
    line = add_command(commands, eval_)
    line.add_argument("files", nargs="+", metavar="FILE", help="Questions with known answers; - is standard input.")
    add_config_option(line)
    compared = "Compare with a similarity and no guards, such as cosine:0.85; may be given several times."
    line.add_argument("--baseline", action="append", default=[], type=_cosine, metavar="RULE", dest="baselines", help=compared)
    line.add_argument("--category", default="category", metavar="COLUMN", help="Tell its values apart. Default: category.")
    add_output_options(line)
    add_json_option(line)


def _cosine(said: str) -> float:
    import argparse

    rule, _, number = said.partition(":")
    try:
        least = float(number)
    except ValueError:
        least = -1.0
    if rule != "cosine" or not 0 <= least <= 1:
        raise argparse.ArgumentTypeError(f"'{said}' is no baseline: write cosine:0.85, or another similarity from 0 to 1")
    return least


def eval_(files: list[str], config: Path | None, html: Path | None, *, as_json: bool, **task: Any) -> int:
    """Measure hits and wrong hits on questions whose answers are known.

    A file is TSV whose first line names the columns, or JSON lines, plain or gzipped. Its columns say what it is:

      text_a text_b label   pairs; label is 1 where the answer to the one may
                            serve the other, else 0
      query class           a stream, in its order; questions of one class have
                            one answer, and an empty class (or oos) has none

    These names are taken as well: question1 question2 is_duplicate; cached_query probe_query label; text intent. Other columns
    are left alone, but for "category", whose values are told apart. Lines that can't be used are listed by number.

    Works with the model that is built in, by the settings in force, and asks nobody. Exit code 0, or 2 if a file can't be used.

    Examples:
      sentinel eval pairs.tsv --baseline cosine:0.85
      sentinel eval stream.jsonl.gz --html report.html
      sentinel eval pairs.tsv --json --limit 2000

    """
    import asyncio

    import msgspec

    from sentinel_gateway.evaluation.evaluate import Task, evaluate
    from sentinel_gateway.evaluation.reports import evaluation_report
    from sentinel_gateway.evaluation.rows import Unusable

    try:
        settings = loader(config)().settings
        with closing(Progress(sys.stderr)) as progress:
            found = asyncio.run(evaluate(files, Task(**task), settings, progress))
    except ConfigurationError as error:
        return refuse(error, as_json=as_json)
    except Unusable as error:
        return refuse_input(str(error), as_json=as_json)
    figures = msgspec.json.format(msgspec.json.encode({"ok": True, "files": found}))
    return deliver(evaluation_report(found, made()), figures, html, as_json=as_json)
