"""`sentinel ledger`: what was asked, what it cost, and whether the provider says the same."""

import sys
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from sentinel_gateway.cli.edge import loader, refuse
from sentinel_gateway.cli.findings import refuse_input
from sentinel_gateway.cli.line import WRONG_USE, Commands, add_command, add_config_option, add_json_option
from sentinel_gateway.errors import ConfigurationError, StoreDown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sentinel_gateway.ledger.reconcile import Drift
    from sentinel_gateway.ledger.sql import Database
    from sentinel_gateway.settings.model import Settings

FORMATS: Final = ("csv", "jsonl", "parquet")
TABLES: Final = ("requests", "attempts", "days")
DRIFTED: Final = 1
"""Exit code where the accounts differ by more than is tolerated."""
TOLERANCE: Final = 0.01
MICROS: Final = 1_000_000


def add(commands: Commands) -> None:
    """Declare the command and those below it."""
    line = add_command(commands, ledger)
    line.set_defaults(command=None)
    below = line.add_subparsers(title="commands", metavar="COMMAND")
    _add_export(below)
    _add_reconcile(below)


def ledger() -> int:
    """Export the ledger, and hold it against a provider's account.

    It is read where it is kept, whether or not a gateway runs: what was asked a moment ago is there a second later.

    Examples:
      sentinel ledger export --table attempts --since 2026-01-01 --output january.csv
      sentinel ledger reconcile usage.csv --provider openai

    """
    return WRONG_USE


def _add_export(commands: Commands) -> None:
    line = add_command(commands, export)
    line.add_argument("--format", dest="format_", default="csv", type=_one_of(FORMATS), metavar="FORMAT", help=_either(FORMATS))
    line.add_argument("--table", default="requests", type=_one_of(TABLES), metavar="TABLE", help=_either(TABLES))
    line.add_argument(
        "--since", type=_moment, metavar="WHEN", help="From this day on, or this moment (2026-01-31T12:00Z), in UTC."
    )
    line.add_argument("--until", type=_moment, metavar="WHEN", help="Up to before this day or moment.")
    line.add_argument("--output", type=Path, metavar="FILE", help="Where to. Default: standard output.")
    add_config_option(line)


def _add_reconcile(commands: Commands) -> None:
    line = add_command(commands, reconcile)
    line.add_argument("file", type=Path, metavar="FILE", help="The provider's usage export: CSV or JSON.")
    line.add_argument("--provider", metavar="NAME", help="Compare its calls only, and all of them. Default: models in the file.")
    line.add_argument(
        "--tolerance",
        type=_tolerance,
        default=TOLERANCE,
        metavar="SHARE",
        help="Most that they may differ by. Default: 0.01, 1 %%.",
    )
    add_config_option(line)
    add_json_option(line)


def export(format_: Any, table: Any, since: int | None, until: int | None, *, output: Path | None, config: Path | None) -> int:
    """Write the rows of the ledger as CSV, JSON lines or Parquet.

    requests has one row a request, attempts one a call of a provider, with its cost; days the sums of rows that are no longer
    kept one by one. Amounts are USD, exact to the ninth decimal; moments are UTC.

    Examples:
      sentinel ledger export > requests.csv
      sentinel ledger export --table attempts --format jsonl --since 2026-01-31
      sentinel ledger export --format parquet --output requests.parquet

    """
    try:
        if format_ == "parquet":
            _require_parquet()
        with _opened(config) as database:
            from sentinel_gateway.ledger import export as exporting

            with database.reading() as connection, _target(output) as file:
                found = exporting.rows(connection, table, since=since, until=until)
                exporting.write(found, exporting.names_of(table), file, format_)
    except ConfigurationError as error:
        return refuse(error)
    except BrokenPipeError:  # whoever read it has seen enough
        raise
    except (StoreDown, _Refused, OSError) as error:
        return refuse_input(str(error), as_json=False)
    return 0


def reconcile(file: Path, provider: str | None, tolerance: float, config: Path | None, *, as_json: bool) -> int:
    """Hold a provider's usage export against the ledger, by model and day.

    The file is what the provider lets you download, or its usage API's answer: CSV or JSON with a day, a model, and any of
    requests, input tokens, output tokens and cost. Exit code 0, 1 where they differ by more than is tolerated, 2 if the file
    can't be used.

    Examples:
      sentinel ledger reconcile usage.csv --provider openai
      sentinel ledger reconcile usage.json --tolerance 0.001 --json

    """
    from sentinel_gateway.ledger.reconcile import Unreadable, compare, read_account

    try:
        theirs = read_account(_read(file))
        with _opened(config) as database, database.reading() as connection:
            drifts = compare(theirs, connection, provider)
    except ConfigurationError as error:
        return refuse(error, as_json=as_json)
    except Unreadable as error:
        return refuse_input(f"{file} {error}", as_json=as_json)
    except (StoreDown, _Refused, OSError) as error:
        return refuse_input(str(error), as_json=as_json)
    within = all(drift.worst() <= tolerance for drift in drifts)
    if as_json:
        _print_json(drifts, within=within)
    else:
        _print_table(drifts, tolerance)
    return 0 if within else DRIFTED


class _Refused(Exception):
    """What was asked can't be done; says why."""


@contextmanager
def _opened(config: Path | None) -> "Iterator[Database]":
    """The ledger of the settings in force, with what gateways that have ended had no time to copy."""
    settings: Settings = loader(config)().settings
    from sentinel_gateway.ledger.books import FOLDER, make_database
    from sentinel_gateway.ledger.copier import copy_left_behind

    url = None if settings.database_url is None else settings.database_url.get_secret_value()
    with closing(make_database(settings.data_dir, url)) as database:
        copy_left_behind(settings.data_dir / FOLDER, database, _tell)
        yield database


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as exc:
        raise _Refused(f"{file} can't be opened: {exc.strerror or exc}") from exc


def _tell(event: str, **fields: object) -> None:
    if "reason" in fields:
        print(f"sentinel: {event}: {fields['reason']}", file=sys.stderr)


@contextmanager
def _target(output: Path | None) -> "Iterator[IO[bytes]]":
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        with _replaced(output) as file:
            yield file
    except BrokenPipeError:  # it was a pipe, such as /dev/fd/3: as with standard output
        raise
    except OSError as exc:
        raise _Refused(f"{output} can't be written: {exc.strerror or exc}") from exc


@contextmanager
def _replaced(output: Path) -> "Iterator[IO[bytes]]":
    if output.exists() and not output.is_file():  # a device or a pipe
        with output.open("wb") as file:
            yield file
        return
    part = output.with_name(f"{output.name}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(output)  # what was there before stays until all of this is
    finally:
        part.unlink(missing_ok=True)


def _require_parquet() -> None:
    from importlib.util import find_spec

    if find_spec("pyarrow") is None:
        fix = "pip install 'sentinel-gateway[parquet]', or choose csv or jsonl"
        raise _Refused(f"Parquet needs the package pyarrow, which is not installed: {fix}")


def _print_json(drifts: "list[Drift]", *, within: bool) -> None:
    import msgspec

    from sentinel_gateway.ledger.reconcile import SUMS

    shown = [
        {"day": drift.day, "model": drift.model, "provider_says": _usd(drift.theirs), "ledger_says": _usd(drift.ours)}
        | {"drift": {name: drift.share(name) for name in SUMS}}
        for drift in drifts
    ]
    print(msgspec.json.format(msgspec.json.encode({"ok": within, "data": shown})).decode())


def _usd(amounts: Any) -> dict[str, Any]:
    """As told outside: the cost in USD."""
    from sentinel_gateway.core.pricing import usd

    return {
        "requests": amounts.requests,
        "prompt_tokens": amounts.prompt_tokens,
        "completion_tokens": amounts.completion_tokens,
        "cost_usd": None if amounts.cost is None else usd(amounts.cost),
    }


def _print_table(drifts: "list[Drift]", tolerance: float) -> None:
    from sentinel_gateway.ledger.reconcile import SUMS

    rows = [("day", "model", *(name.replace("_", " ") for name in SUMS))]
    rows += [(str(drift.day), drift.model, *(_share(drift.share(name)) for name in SUMS)) for drift in drifts]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    beyond = sum(drift.worst() > tolerance for drift in drifts)
    print(
        f"\n{len(drifts)} compared, {beyond} differ by more than {tolerance:.2%}. Above 0 the ledger says more than the provider."
    )


def _share(share: float | None) -> str:
    if share is None:
        return "-"
    return "not theirs" if share == float("inf") else f"{share:+.3%}" if share else "0"


def _one_of(known: tuple[str, ...]) -> Any:
    import argparse

    def check(said: str) -> str:
        if said not in known:
            raise argparse.ArgumentTypeError(f"'{said}' is none of {', '.join(known)}")
        return said

    return check


def _tolerance(said: str) -> float:
    import argparse

    with suppress(ValueError):
        if (share := float(said)) >= 0:  # which "nan" is not
            return share
    raise argparse.ArgumentTypeError(f"'{said}' is no share, such as 0.001")


def _either(known: tuple[str, ...]) -> str:
    return f"{', '.join(known[:-1])} or {known[-1]}. Default: {known[0]}."


def _moment(said: str) -> int:
    """Microseconds since 1970."""
    import argparse
    from datetime import UTC, datetime

    try:
        when = datetime.fromisoformat(said)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{said}' is no day (2026-01-31) and no moment (2026-01-31T12:00Z)") from None
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * MICROS)
