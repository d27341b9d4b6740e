"""`sentinel keys`: client keys made, listed, revoked and rotated, in the data folder itself, whether or not a gateway runs."""

import argparse
import re
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import partial
from pathlib import Path
from typing import Any, Final

from sentinel_gateway.cli.line import WRONG_USE, Commands, add_command, add_config_option, add_json_option

UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
LIMITS: Final = (("rpm", "requests_per_minute"), ("tpm", "tokens_per_minute"), ("concurrency", "concurrency"))
"""How the options are called, and the limits."""
MOST_DIGITS: Final = 12
_DURATION: Final = re.compile(r"(\d{1,5})([smhdw])", re.ASCII)


def add(commands: Commands) -> None:
    """Declare the command and those below it."""
    line = add_command(commands, keys)
    line.set_defaults(command=None)
    below = line.add_subparsers(title="commands", metavar="COMMAND")
    _add_create(below)
    _add_list(below)
    _add_revoke(below)
    _add_rotate(below)
    _add_budget(below)


def keys() -> int:
    """Make, list, revoke and rotate client keys, and say what each may spend.

    They are kept in the data folder. A running gateway needs no restart: it follows within a second.

    Examples:
      sentinel keys
      sentinel keys create --name 'mobile app' --rpm 600
      sentinel keys list

    """
    return WRONG_USE


def _add_create(commands: Commands) -> None:
    line = add_command(commands, create)
    line.add_argument("--name", required=True, metavar="NAME", help="What people call it.")
    line.add_argument("--tenant", metavar="TENANT", help="Whose it is: no tenant sees another's answers. Default: default.")
    line.add_argument(
        "--scope",
        action="append",
        metavar="SCOPE",
        help="inference (asks models), read (metrics, costs) or admin (its tenant's keys and stored answers); may be repeated. "
        "Default: inference.",
    )
    line.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="MODEL",
        help="A model that it may use, or the beginning of names, such as 'gpt-*'; may be repeated. Default: all.",
    )
    line.add_argument("--expires", type=_moment, metavar="WHEN", help="In 30d, 12h, or on a date such as 2030-01-31 (UTC).")
    line.add_argument("--trial", action="store_true", help="Mark it as a trial.")
    for prefix, whose in (("", "of the key"), ("user-", "of each end user, by the field 'user'")):
        line.add_argument(f"--{prefix}rpm", type=_count, metavar="N", help=f"Requests a minute {whose}.")
        line.add_argument(f"--{prefix}tpm", type=_count, metavar="N", help=f"Tokens a minute {whose}.")
        line.add_argument(f"--{prefix}concurrency", type=_count, metavar="N", help=f"Requests at once {whose}.")
    _add_spans(line)
    explained = "Most wrong answers to reworded questions, 0 to 1; it can only be stricter than cache.max_wrong_hit_rate."
    line.add_argument("--max-wrong-hit-rate", type=_share, metavar="SHARE", help=explained)
    line.add_argument("--once", action="store_true", help="Make none where a good one of this name and tenant is there already.")
    explained = (
        "Write the key to this file, for its owner and group, instead of showing it; none is made where it holds a good one."
    )
    line.add_argument("--to", type=Path, metavar="FILE", help=explained)
    add_config_option(line)
    add_json_option(line)


def _add_list(commands: Commands) -> None:
    line = add_command(commands, list_)
    line.add_argument("--search", default="", metavar="TEXT", help="Only names that begin so, in whatever case.")
    line.add_argument("--tenant", metavar="TENANT", help="Only this tenant's.")
    add_config_option(line)
    add_json_option(line)


def _add_revoke(commands: Commands) -> None:
    line = add_command(commands, revoke)
    line.add_argument("key", metavar="KEY", help="Its id, such as key_0123456789abcdef, or - for a key on standard input.")
    add_config_option(line)
    add_json_option(line)


def _add_rotate(commands: Commands) -> None:
    line = add_command(commands, rotate)
    line.add_argument("key", metavar="KEY", help="Its id, such as key_0123456789abcdef.")
    explained = "How long the old key lives on. Default: 24h."
    line.add_argument("--overlap", type=duration, default=timedelta(days=1), metavar="TIME", help=explained)
    add_config_option(line)
    add_json_option(line)


def _add_budget(commands: Commands) -> None:
    line = add_command(commands, budget)
    line.add_argument("key", metavar="KEY", help="Its id, such as key_0123456789abcdef.")
    _add_spans(line)
    add_config_option(line)
    add_json_option(line)


def _add_spans(line: argparse.ArgumentParser) -> None:
    for span in ("day", "month"):
        explained = f"USD that it may spend a {span} of UTC. Default: budget.{span} of the configuration, or any amount."
        line.add_argument(f"--budget-{span}", type=_usd, metavar="USD", help=explained)


def create(config: Path | None, *, as_json: bool, once: bool, to: Path | None, **asked: Any) -> int:
    """Make a key and show it, this once.

    Only a keyed hash of it is kept: one that is lost can't be shown again, only replaced.

    Examples:
      sentinel keys create --name 'mobile app'
      sentinel keys create --name nightly --tenant acme --expires 90d --tpm 50000
      sentinel keys create --name team --budget-day 5 --budget-month 100
      sentinel keys create --name ops --scope read --scope admin --json
      sentinel keys create --name prometheus --scope read --to read-key

    """
    from sentinel_gateway.cli import key_desk
    from sentinel_gateway.core.access import DEFAULT_TENANT, Grant, faults
    from sentinel_gateway.core.budgets import Budget
    from sentinel_gateway.core.limits import Limits

    now = datetime.now(UTC)
    limits, user_limits = (Limits(**{name: asked[prefix + option] for option, name in LIMITS}) for prefix in ("", "user_"))
    grant = Grant(
        name=asked["name"],
        tenant=DEFAULT_TENANT if asked["tenant"] is None else asked["tenant"],
        scopes=frozenset(asked["scope"] or ["inference"]),
        models=tuple(asked["model"]),
        expires=None if asked["expires"] is None else _at(asked["expires"], now),
        trial=asked["trial"],
        limits=limits,
        user_limits=user_limits,
        max_wrong_hit_rate=asked["max_wrong_hit_rate"],
        budget=Budget(asked["budget_day"], asked["budget_month"]),
    )
    for field, sentence in faults(grant, now.timestamp()):
        print(f"sentinel keys create: argument {_option(field)}: {sentence} (see sentinel keys create --help)", file=sys.stderr)
        return WRONG_USE
    return key_desk.run(partial(key_desk.create, grant=grant, once=once, to=to), config, as_json=as_json)


def list_(config: Path | None, *, as_json: bool, search: str, tenant: str | None) -> int:
    """Show the keys, in the order of their names.

    Examples:
      sentinel keys list
      sentinel keys list --tenant acme --search mob
      sentinel keys list --json

    """
    from sentinel_gateway.cli import key_desk

    return key_desk.run(partial(key_desk.list_keys, search=search, tenant=tenant), config, as_json=as_json)


def revoke(config: Path | None, *, as_json: bool, key: str) -> int:
    """End a key for good, within a second.

    A key that turned up where it should not be can be given itself, on standard input.

    Examples:
      sentinel keys revoke key_0123456789abcdef
      sentinel keys revoke - <found.txt

    """
    from sentinel_gateway.cli import key_desk

    return key_desk.run(partial(key_desk.revoke, wanted=key), config, as_json=as_json)


def rotate(config: Path | None, *, as_json: bool, key: str, overlap: timedelta) -> int:
    """Make a key with the same rights, which takes the place of an old one.

    The new one is shown this once. The old one lives on for a while, so that programs can change over.

    Examples:
      sentinel keys rotate key_0123456789abcdef
      sentinel keys rotate key_0123456789abcdef --overlap 2h

    """
    from sentinel_gateway.cli import key_desk

    return key_desk.run(partial(key_desk.rotate, wanted=key, overlap=overlap.total_seconds()), config, as_json=as_json)


def budget(config: Path | None, *, as_json: bool, key: str, budget_day: int | None, budget_month: int | None) -> int:
    """Say what a key may spend from now on, within a second.

    What was spent stays spent. A budget that is not named ends.

    Examples:
      sentinel keys budget key_0123456789abcdef --budget-day 5 --budget-month 100
      sentinel keys budget key_0123456789abcdef

    """
    from sentinel_gateway.cli import key_desk
    from sentinel_gateway.core.budgets import Budget, faults

    asked = Budget(budget_day, budget_month)
    for span, sentence in faults(asked):
        print(f"sentinel keys budget: argument --budget-{span}: {sentence} (see sentinel keys budget --help)", file=sys.stderr)
        return WRONG_USE
    return key_desk.run(partial(key_desk.rebudget, wanted=key, budget=asked), config, as_json=as_json)


def _usd(text: str) -> int:
    from sentinel_gateway.core.budgets import nano

    try:
        return nano(Decimal(text))
    except (InvalidOperation, ValueError):
        raise argparse.ArgumentTypeError(f"'{text}' is no amount of USD: write one such as 5 or 0.25") from None


def duration(text: str) -> timedelta:
    """A time as it is written on the line: 90s, 30m, 12h, 7d or 4w."""
    if not (found := _DURATION.fullmatch(text)):
        raise argparse.ArgumentTypeError(f"'{text}' is no time: write 90s, 30m, 12h, 7d or 4w")
    return timedelta(**{UNITS[found[2]]: int(found[1])})


def _moment(text: str) -> timedelta | datetime:
    if _DURATION.fullmatch(text):
        return duration(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        fix = "write 90s, 30m, 12h, 7d or 4w, or a date such as 2030-01-31"
        raise argparse.ArgumentTypeError(f"'{text}' is neither a time nor a date: {fix}") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _at(moment: timedelta | datetime, now: datetime) -> float:
    return (now + moment if isinstance(moment, timedelta) else moment).timestamp()


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS):
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number")
    return int(text)


def _share(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no number: write one from 0 to 1, such as 0.005") from None


def _option(field: str) -> str:
    """The option that a field of a grant comes from."""
    place, _, name = field.partition(".")
    if not name:
        return f"--{place.removesuffix('s') if place in {'scopes', 'models'} else place.replace('_', '-')}"
    if place == "budget":
        return f"--budget-{name}"
    options = {limit: option for option, limit in LIMITS}
    return f"--{'user-' if place == 'user_limits' else ''}{options[name]}"
