"""A provider's own account of what was used, held against the ledger: by model and by day.

What providers export differs in names and shapes, not in what it says; columns are known by any of the names below, and those
that are not there are not compared.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from sentinel_gateway.ledger.tables import DAY, attempts, days

NANO: Final = 10**9
MICROS: Final = 10**6
MILLIS_FROM: Final = 10**11
"""A number of a moment as large as this counts milliseconds."""
MOST_QUOTED: Final = 60
"""Characters of a cell."""
MOST: Final = 10**12
"""No row of an account says more of anything, in USD or in tokens."""

NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "day": (
        *("date", "day", "usage_date", "usage_date_utc", "utc_date"),
        *("start_time", "start_time_iso", "timestamp", "bucket_start", "starting_at", "time"),
    ),
    "model": ("model", "model_id", "model_name", "model_version", "snapshot_id", "slug", "line_item"),
    "requests": ("requests", "num_model_requests", "num_requests", "request_count", "n_requests", "count"),
    "prompt_tokens": ("prompt_tokens", "input_tokens", "tokens_in", "n_context_tokens_total", "usage_input_tokens"),
    "completion_tokens": ("completion_tokens", "output_tokens", "tokens_out", "n_generated_tokens_total", "usage_output_tokens"),
    "cost": ("cost_usd", "cost", "amount_value", "amount", "usd", "total_cost", "usage"),
}
"""What we call a column, and what providers do; of several the first that is there."""
INPUT: Final = (
    *("uncached_input_tokens", "cache_read_input_tokens"),
    *(f"cache_creation_ephemeral_{time}_input_tokens" for time in ("5m", "1h")),
    *(f"usage_input_tokens_{kind}" for kind in ("no_cache", "cache_read", "cache_write", "cache_write_5m", "cache_write_1h")),
    *("input_cache_hit_tokens", "input_cache_miss_tokens"),
)
"""Where nobody says how many tokens of input there were in all: their kinds, as Anthropic and DeepSeek count each for itself."""
CURRENCIES: Final = ("currency", "amount_currency")
CENTS: Final = "cost_type"
"""Anthropic's report of costs, which has this column, says an `amount` in cents."""
NO_MODEL: Final = "(no model)"
"""Of what a provider bills beside its models, such as searches."""
SUMS: Final = ("requests", "prompt_tokens", "completion_tokens", "cost")
SNAPSHOT: Final = re.compile(r"(.+?)[-@](\d{4}-\d{2}-\d{2}|\d{8}|\d{4})$")
"""A model's name with the day that it is of."""


class Unreadable(Exception):
    """The file can't be used; its words are for whoever gave it."""


class Amounts(msgspec.Struct):
    """Of one model on one day. `cost` in nano-USD; None is not told."""

    requests: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: int | None = None


Account = dict[tuple[date, str], Amounts]


class Drift(msgspec.Struct, frozen=True):
    """One model on one day: what the provider says (`theirs`), what the ledger says, and how far that is apart."""

    day: date
    model: str
    theirs: Amounts
    ours: Amounts

    def share(self, name: str) -> float | None:
        """By what part of theirs ours is more (below 0: less); None where they don't say, infinite where theirs is nothing."""
        theirs, ours = getattr(self.theirs, name), getattr(self.ours, name) or 0
        if theirs is None:
            return None
        if theirs == 0:
            return float("inf") if ours else 0.0
        return float(Decimal(ours - theirs) / theirs)

    def worst(self) -> float:
        """The largest of all shares, without its sign."""
        return max((abs(share) for name in SUMS if (share := self.share(name)) is not None), default=0.0)


def read_account(content: bytes) -> Account:
    """CSV, a line of JSON for each row, or one document of JSON with a list in it; raises `Unreadable`."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unreadable("is no text: give it as CSV or JSON") from None
    account: Account = {}
    for number, row in enumerate(_rows(text), 1):
        named = {str(name).strip().lower().replace(" ", "_"): value for name, value in row.items()}
        _add(account, _by_kind(named), number)
    if not account:
        raise Unreadable("holds no usage")
    if all(model == NO_MODEL for _, model in account):
        fix = f"ask for the usage by model, and call it one of {', '.join(NAMES['model'])}"
        raise Unreadable(f"has no column with a model: {fix}")
    return account


def _rows(text: str) -> Iterator[Mapping[Any, Any]]:
    if text.lstrip().startswith(("{", "[")):
        try:
            yield from _objects([msgspec.json.decode(text)])
        except (msgspec.DecodeError, RecursionError):
            try:
                yield from _objects([msgspec.json.decode(line) for line in text.splitlines() if line.strip()])
            except (msgspec.DecodeError, RecursionError) as exc:
                raise Unreadable(f"begins as JSON and is none ({exc})") from None
        return
    try:
        yield from csv.DictReader(io.StringIO(text, newline=None))
    except csv.Error as exc:
        raise Unreadable(f"can't be read as CSV ({exc})") from None


def _objects(documents: Iterable[Any]) -> Iterator[Mapping[Any, Any]]:
    """The rows in documents: lists, and objects around them (`data`, `results`), which pass on what they know (`start_time`)."""
    for document in documents:
        if isinstance(document, list):
            yield from _objects(document)
        elif isinstance(document, dict):
            inner = next((document[name] for name in ("data", "results") if isinstance(document.get(name), list)), None)
            if inner is None:
                yield _flat(document)
            else:
                around = {name: value for name, value in document.items() if not isinstance(value, list | dict)}
                yield from (around | dict(row) for row in _objects(inner))


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """`{"amount": {"value": 1}}` has a column `amount_value`."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        flat |= {f"{name}_{inner}": part for inner, part in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def _by_kind(row: dict[str, Any]) -> dict[str, Any]:
    """DeepSeek has a row for each kind of tokens: how many (`amount`) of what (`type`) at which `price`."""
    if not {"type", "price", "amount"} <= row.keys():
        return row
    counted = {name: value for name, value in row.items() if name != "amount"}
    return counted | {str(row["type"]): row["amount"]}


def _add(account: Account, row: Mapping[str, Any], number: int) -> None:
    said = {name: value for name, value in row.items() if value not in (None, "")}
    found = {name: next((known for known in names if known in said), None) for name, names in NAMES.items()}
    if found["day"] is None:
        raise Unreadable(f"row {number} has no column with a day: call it one of {', '.join(NAMES['day'])}")
    told = {name: _number(said[known], number) for name in SUMS if (known := found[name]) is not None}
    kinds = [_number(said[kind], number) for kind in INPUT if kind in said]
    if kinds:
        told.setdefault("prompt_tokens", sum(kinds, Decimal()))
    if "cost" in told:
        told["cost"] *= _nano_usd(row, found["cost"], number)
    if found["model"] is None and not any(told.values()):  # a day on which nothing was used, as OpenAI tells of it
        return
    line = NO_MODEL if found["model"] is None else str(said[found["model"]])
    model = line.partition(",")[0].rpartition("/")[2]  # of "gpt-4o, input", a line of a bill
    amounts = account.setdefault((_day(said[found["day"]], number), model), Amounts())
    for name, amount in told.items():
        setattr(amounts, name, (getattr(amounts, name) or 0) + int(amount.to_integral_value()))


def _nano_usd(row: Mapping[str, Any], column: str | None, number: int) -> int:
    """How many nano-USD one of what stands in a row's column of costs is."""
    for name in CURRENCIES:
        if str(row.get(name) or "usd").lower() != "usd":
            raise Unreadable(f"row {number} has a cost in {_quoted(row[name])}, and the ledger counts USD")
    return NANO // 100 if column == "amount" and CENTS in row else NANO


def _number(said: Any, number: int) -> Decimal:
    try:
        amount = Decimal(str(said).replace(",", "").replace("$", "").strip())
    except InvalidOperation:
        raise Unreadable(f"row {number} has {_quoted(said)} where a number should be") from None
    if not amount.is_finite() or amount.copy_abs() > MOST:
        raise Unreadable(f"row {number} has {_quoted(said)} where a number should be")
    return amount


def _quoted(said: Any) -> str:
    """What stands in a cell, as far as anybody would read it."""
    text = str(said)
    return repr(text if len(text) <= MOST_QUOTED else f"{text[:MOST_QUOTED]}...")


def _day(said: Any, number: int) -> date:
    text = str(said).strip()
    try:
        if re.fullmatch(r"\d{9,13}(\.\d+)?", text):
            seconds = float(text)
            return datetime.fromtimestamp(seconds / 1000 if seconds >= MILLIS_FROM else seconds, UTC).date()
        when = datetime.fromisoformat(text)
        return (when.astimezone(UTC) if when.tzinfo else when).date()
    except (ValueError, OverflowError):
        raise Unreadable(f"row {number} has {_quoted(said)} where a day (2026-01-31) should be") from None


def compare(theirs: Account, connection: sa.Connection, provider: str | None) -> list[Drift]:
    """Each model and day of theirs or of ours, within the days that theirs tells of; what differs most first."""
    first, last = min(day for day, _ in theirs), max(day for day, _ in theirs)
    ours = _ours(connection, first, last, provider)
    known = {model for _, model in ours}
    named: Account = {}
    for (day, model), amounts in theirs.items():
        key = day, _known_as(model, known)
        named[key] = _sum(named[key], amounts) if key in named else amounts
    if provider is None:  # of models that the file never speaks of it says nothing
        ours = {key: amounts for key, amounts in ours.items() if key[1] in {model for _, model in named}}
    nothing = Amounts(0, 0, 0, 0)
    said = [name for name in SUMS if any(getattr(amounts, name) is not None for amounts in theirs.values())]
    silent = Amounts(**dict.fromkeys(said, 0))
    drifts = [Drift(*key, named.get(key, silent), ours.get(key, nothing)) for key in named.keys() | ours.keys()]
    return sorted(drifts, key=lambda drift: (-drift.worst(), drift.day, drift.model))


def _known_as(model: str, known: set[str]) -> str:
    """As the ledger calls it: providers name the snapshot that served, or the model as people write it (`Claude Haiku 4.5`)."""
    if model in known:
        return model
    family, of = _snapshot(model)
    by_snapshot = {_snapshot(name): name for name in sorted(known)}
    for same in ((family, of), (family, "")):
        if same in by_snapshot:
            return by_snapshot[same]
    dated = [name for (kin, _), name in by_snapshot.items() if kin == family]
    return dated[0] if not of and len(dated) == 1 else model


def _snapshot(model: str) -> tuple[str, str]:
    """A model however it is written, and the day that it is of, empty without one."""
    name = re.sub(r"[ ._]", "-", model.lower())
    dated = SNAPSHOT.fullmatch(name)
    return (dated[1], dated[2].replace("-", "")) if dated else (name, "")


def _sum(one: Amounts, other: Amounts) -> Amounts:
    told = {name: (getattr(one, name), getattr(other, name)) for name in SUMS}
    return Amounts(**{name: None if a is None and b is None else (a or 0) + (b or 0) for name, (a, b) in told.items()})


def _ours(connection: sa.Connection, first: date, last: date, provider: str | None) -> Account:
    """In one question, as what retention takes meanwhile would else count twice."""
    account: Account = {}
    low, high = (_micros(day) for day in (first, last))
    parts: list[sa.Select[Any]] = []
    for table, moment, count in ((attempts, attempts.c.at, sa.func.count()), (days, days.c.day, sa.func.sum(days.c["count"]))):
        length: sa.ColumnElement[int] = sa.literal_column(str(DAY))
        day = (moment - moment % length).label("day")
        sums = (count, *(sa.func.sum(table.c[name]) for name in SUMS[1:]))
        asked = sa.select(day, table.c.target, *sums).where(moment >= low, moment < high + DAY).group_by(day, table.c.target)
        if table is days:
            asked = asked.where(days.c.kind == "attempt", days.c.outcome.in_(BILLED))
        else:
            asked = asked.where(attempts.c.ending.in_(BILLED))
        if provider is not None:
            asked = asked.where(table.c.provider == provider)
        parts.append(asked)
    for at, model, *amounts in connection.execute(sa.union_all(*parts)):
        key = datetime.fromtimestamp(at // MICROS, UTC).date(), model.rpartition("/")[2]
        found = Amounts(*map(int, amounts))
        account[key] = _sum(account[key], found) if key in account else found
    return account


BILLED: Final = ("answered", "left", "broken", "lost", "orphan", "timeout")
"""Endings after which a provider may have billed the call."""


def _micros(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * MICROS
