"""Rows as people and their programs read them: moments in ISO 8601, times in seconds, money in USD to the last digit.

One format, one writer; each takes rows as they come, so that a ledger of any size goes through little memory.
"""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import IO, Any, Final, Literal

import msgspec
import sqlalchemy as sa

from sentinel_gateway.ledger.tables import METADATA

Format = Literal["csv", "jsonl", "parquet"]
ROWS: Final = 5000
"""Read at a time."""
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
NANO: Final = Decimal(10**9)
MICROS: Final = 10**6

MONEY: Final = {"cost": "cost_usd", "saved": "saved_usd", "reserved": "reserved_usd"}
TIMES: Final = {"duration": "seconds", "upstream": "upstream_seconds", "first_byte": "first_byte_seconds"} | {
    "first_token": "first_token_seconds"
}
"""Columns, and what they are called where they hold no whole numbers."""

Row = dict[str, Any]
Table = Literal["requests", "attempts", "days"]


def rows(connection: sa.Connection, name: Table, *, since: int | None, until: int | None) -> Iterator[Row]:
    """The rows from one moment (microseconds since 1970) to before another, in their order."""
    table = METADATA.tables[name]
    moment = next(iter(table.primary_key.columns))
    asked = sa.select(table).order_by(*table.primary_key.columns)
    if since is not None:
        asked = asked.where(moment >= since)
    if until is not None:
        asked = asked.where(moment < until)
    shown = _shown(table)
    for row in connection.execution_options(yield_per=ROWS).execute(asked):
        yield {called: make(value) for (called, make), value in zip(shown, row, strict=True)}


def _shown(table: sa.Table) -> list[tuple[str, Callable[[Any], Any]]]:
    return [_column(column.name) for column in table.columns]


def _column(name: str) -> tuple[str, Callable[[Any], Any]]:
    if name in {"at", "day"}:
        return name, moment
    if name in MONEY:
        return MONEY[name], lambda nano: Decimal(nano) / NANO
    if name in TIMES:
        return TIMES[name], lambda micros: micros / MICROS
    return name, lambda value: value


def moment(micros: int) -> datetime:
    """A moment of the ledger; those beyond all calendars are the last one."""
    try:
        return EPOCH + timedelta(microseconds=micros)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def plain(amount: Decimal) -> str:
    """An amount without an exponent."""
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def write(found: Iterable[Row], names: list[str], file: IO[bytes], format_: Format) -> int:
    """Write them; how many. Parquet needs the extra of that name."""
    return WRITERS[format_](found, names, file)


def names_of(name: Table) -> list[str]:
    """How the columns are called outside."""
    return [called for called, _ in _shown(METADATA.tables[name])]


def _csv(found: Iterable[Row], names: list[str], file: IO[bytes]) -> int:
    writer = csv.writer(_Encoded(file))
    writer.writerow(names)
    count = 0
    for count, row in enumerate(found, 1):  # noqa: B007 - counted
        writer.writerow(map(_cell, row.values()))
    return count


class _Encoded:
    """A file of bytes, for text."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(text.encode())


def _cell(value: Any) -> Any:
    match value:
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case Decimal():
            return plain(value)
        case bool():
            return str(value).lower()
        case str() if value.startswith(("=", "+", "-", "@", "\t", "\r")):
            return f"'{value}"  # a spreadsheet would take it for a formula
    return value


def _jsonl(found: Iterable[Row], _: list[str], file: IO[bytes]) -> int:
    encode = msgspec.json.Encoder(decimal_format="number").encode
    count = 0
    for count, row in enumerate(found, 1):  # noqa: B007 - counted
        file.write(encode(_readable(row)) + b"\n")
    return count


def _readable(row: Mapping[str, Any]) -> Row:
    return {name: Decimal(plain(value)) if isinstance(value, Decimal) else value for name, value in row.items()}


def _parquet(found: Iterable[Row], names: list[str], file: IO[bytes]) -> int:
    import pyarrow as pa  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra, and large
    from pyarrow import parquet  # noqa: PLC0415

    money = set(MONEY.values())
    kinds = {"at": pa.timestamp("us", "UTC"), "day": pa.timestamp("us", "UTC"), "stream": pa.bool_()}
    kinds |= dict.fromkeys(money, pa.decimal128(38, 9))
    kinds |= dict.fromkeys([*TIMES.values(), "similarity"], pa.float64())
    whole = ("status", "attempts", "number", "count", *(name for name in names if name.endswith("_tokens")))
    kinds |= dict.fromkeys(whole, pa.int64())
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in names])
    left, count = iter(found), 0
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        while some := list(islice(left, ROWS)):
            writer.write_table(pa.Table.from_pylist(some, schema))
            count += len(some)
    return count


WRITERS: Final[Mapping[Format, Callable[[Iterable[Row], list[str], IO[bytes]], int]]] = {
    "csv": _csv,
    "jsonl": _jsonl,
    "parquet": _parquet,
}
