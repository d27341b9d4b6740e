"""`sentinel cache`: what a running gateway keeps, looked through, pinned, ended and cleared."""

import argparse
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sentinel_gateway.cli.keys import duration
from sentinel_gateway.cli.line import WRONG_USE, Commands, Line, add_command, add_config_option, add_json_option

if TYPE_CHECKING:
    from sentinel_gateway.cli.remote import Remote

ENTRIES: Final = "/admin/cache/entries"
FILTERS: Final = (
    ("tenant", "TENANT", "Whose request brought it."),
    ("namespace", "NAME", "Of x-cache-namespace."),
    ("model", "MODEL", "Which answered, such as openai/gpt-4o."),
    ("tag", "TAG", "One of x-cache-tags."),
    ("writer", "KEY", "The id of the key that asked."),
)
PER_PAGE: Final = 200
MOST: Final = 100_000
WIDEST: Final = 80


def add(commands: Commands) -> None:
    """Declare the command and those below it."""
    line = add_command(commands, cache)
    line.set_defaults(command=None)
    below = line.add_subparsers(title="commands", metavar="COMMAND")
    _add_list(below)
    for command in (show, pin, expire, remove):
        line = add_command(below, command)
        _add_common(line, entry=True)
    line = add_command(below, unpin)
    line.add_argument(
        "--ttl", type=duration, default=timedelta(days=1), metavar="TIME", help="How long it is still kept. Default: 24h."
    )
    _add_common(line, entry=True)
    _add_clear(below)
    _add_common(add_command(below, stats))


def cache() -> int:
    """Look through the stored answers of a running gateway.

    The gateway holds its files, so it is asked over HTTP, with the admin key in SENTINEL_ADMIN_KEY.

    Examples:
      sentinel cache list --words 'onion soup'
      sentinel cache clear --tag news --dry-run
      sentinel cache stats

    """
    return WRONG_USE


def _add_common(line: Line, *, entry: bool = False) -> None:
    if entry:
        line.add_argument("id", metavar="ID", help="The entry's id, as 'sentinel cache list' shows it.")
    line.add_argument("--url", metavar="URL", help="The gateway. Default: the address of its configuration.")
    add_config_option(line)
    add_json_option(line)


def _add_filters(line: Line) -> None:
    for name, value, explained in FILTERS:
        line.add_argument(f"--{name}", metavar=value, help=explained)
    line.add_argument("--older-than", type=duration, metavar="TIME", help="Made longer ago than that, such as 7d.")


def _add_list(commands: Commands) -> None:
    line = add_command(commands, list_)
    _add_filters(line)
    line.add_argument("--newer-than", type=duration, metavar="TIME", help="Made less long ago than that.")
    line.add_argument("--words", metavar="WORDS", help="Which the question must all contain.")
    line.add_argument("--like", metavar="TEXT", help="Questions of the same meaning, the nearest first.")
    line.add_argument("--state", metavar="STATE", help="live, pinned, expired or all. Default: live.")
    line.add_argument("--sort", metavar="ORDER", help="created, -created, expires or -expires. Default: the newest first.")
    line.add_argument("--limit", type=_count, default=50, metavar="N", help="Most entries to show. Default: 50.")
    _add_common(line)


def _add_clear(commands: Commands) -> None:
    line = add_command(commands, clear)
    _add_filters(line)
    line.add_argument("--similar-to", metavar="TEXT", help="Answers to questions like this one.")
    line.add_argument("--min-similarity", type=float, metavar="COSINE", help="How similar, 0 to 1.")
    line.add_argument("--dry-run", action="store_true", help="Clear nothing, and show what would be.")
    _add_common(line)


def list_(config: Path | None, *, as_json: bool, url: str | None, limit: int, **asked: Any) -> int:
    """Show what is stored, the newest first.

    Examples:
      sentinel cache list --tag news --older-than 7d
      sentinel cache list --like 'How do I reset my password?'
      sentinel cache list --state pinned --json

    """
    from sentinel_gateway.cli import remote

    return remote.run(partial(_list, asked=_plain(asked), limit=limit, as_json=as_json), config, url)


def show(id: str, config: Path | None, *, as_json: bool, url: str | None) -> int:  # noqa: A002 - as it is called on the line
    """Show one stored answer, with its question and its text where they may be read.

    Example:
      sentinel cache show 5c0e5b8d3c6f4d0f8f4e1d0a8f0b6a54...

    """
    return _act("GET", id, "", config, as_json=as_json, url=url)


def pin(id: str, config: Path | None, *, as_json: bool, url: str | None) -> int:  # noqa: A002 - as above
    """Keep a stored answer for good.

    Example:
      sentinel cache pin 5c0e5b8d3c6f4d0f8f4e1d0a8f0b6a54...

    """
    return _act("POST", id, "/pin", config, as_json=as_json, url=url)


def unpin(id: str, config: Path | None, *, as_json: bool, url: str | None, ttl: timedelta) -> int:  # noqa: A002 - as above
    """Have a pinned answer end again.

    Example:
      sentinel cache unpin 5c0e5b8d3c6f4d0f8f4e1d0a8f0b6a54... --ttl 2h

    """
    from sentinel_gateway.cli import remote

    body = {"ttl": ttl.total_seconds()}
    return remote.run(partial(_acted, method="POST", path=f"{ENTRIES}/{id}/unpin", body=body, as_json=as_json), config, url)


def expire(id: str, config: Path | None, *, as_json: bool, url: str | None) -> int:  # noqa: A002 - as above
    """End a stored answer now, pinned or not.

    Example:
      sentinel cache expire 5c0e5b8d3c6f4d0f8f4e1d0a8f0b6a54...

    """
    return _act("POST", id, "/expire", config, as_json=as_json, url=url)


def remove(id: str, config: Path | None, *, as_json: bool, url: str | None) -> int:  # noqa: A002 - as above
    """Remove one stored answer from every tier of every node.

    Example:
      sentinel cache remove 5c0e5b8d3c6f4d0f8f4e1d0a8f0b6a54...

    """
    return _act("DELETE", id, "", config, as_json=as_json, url=url)


def clear(config: Path | None, *, as_json: bool, url: str | None, **asked: Any) -> int:
    """Clear what fits all that is given, on all nodes; with nothing given, everything.

    Examples:
      sentinel cache clear --tag news --dry-run
      sentinel cache clear --model openai/gpt-4o --older-than 30d
      sentinel cache clear --similar-to 'Is my bank insolvent?'

    """
    from sentinel_gateway.cli import remote

    return remote.run(partial(_clear, body=_plain(asked), as_json=as_json), config, url)


def stats(config: Path | None, *, as_json: bool, url: str | None) -> int:
    """Show what the cache has decided, and the state of each service.

    Example:
      sentinel cache stats --json

    """
    from sentinel_gateway.cli import remote

    return remote.run(partial(_stats, as_json=as_json), config, url)


def _act(method: str, id_: str, action: str, config: Path | None, *, as_json: bool, url: str | None) -> int:
    from sentinel_gateway.cli import remote

    return remote.run(partial(_acted, method=method, path=f"{ENTRIES}/{id_}{action}", as_json=as_json), config, url)


def _acted(remote: "Remote", *, method: str, path: str, as_json: bool, body: Any = None) -> None:
    told = remote.ask(method, path, body=body)
    _tell(told, as_json=as_json, lines=_described(told))


def _list(remote: "Remote", *, asked: dict[str, Any], limit: int, as_json: bool) -> None:
    found: list[dict[str, Any]] = []
    cursor, complete, more = None, True, True
    while more and len(found) < limit:
        query = asked | {"cursor": cursor, "limit": min(limit - len(found), PER_PAGE)}
        page = remote.ask("GET", ENTRIES, query=query)
        found += page["data"]
        cursor, complete = page["next"], page["complete"]
        more = cursor is not None
    lines = [_row(entry) for entry in found] or ["Nothing that fits."]
    if not complete:
        lines.append("Some questions are still being compared: ask again in a moment.")
    if more:
        lines.append(f"There are more: see them with --limit {limit * 2}.")
    _tell(found, as_json=as_json, lines=lines)


def _clear(remote: "Remote", *, body: dict[str, Any], as_json: bool) -> None:
    told = remote.ask("POST", "/admin/cache/clear", body={name: value for name, value in body.items() if value is not None})
    cleared = [f"{told['cleared']} cleared."] if "cleared" in told else []
    _tell(told, as_json=as_json, lines=[f"{told['message']}.", *cleared, *map(_row, told.get("sample", ()))])


def _stats(remote: "Remote", *, as_json: bool) -> None:
    told = remote.ask("GET", "/admin/stats")
    _tell(told, as_json=as_json, lines=[f"{name:<16}{value}" for part in told.values() for name, value in part.items()])


def _tell(told: Any, *, as_json: bool, lines: list[str]) -> None:
    import json

    print(json.dumps(told, indent=2) if as_json else "\n".join(lines))


def _row(entry: dict[str, Any]) -> str:
    end = "pinned" if entry["pinned"] else f"until {_date(entry['expires'])}"
    near = f"  {entry['similarity']:.3f}" if "similarity" in entry else ""
    question = " ".join((entry["question"] or "").split())
    shown = question if len(question) <= WIDEST else f"{question[: WIDEST - 1]}…"
    return f"{entry['id']}  {entry['model']}  {end}{near}\n    {_printable(shown) or '-'}"


def _described(told: dict[str, Any]) -> list[str]:
    shown = {name: value for name, value in told.items() if name not in {"answer", "text", "question"}}
    dated = shown | {name: _date(shown[name]) for name in ("created", "expires") if name in shown}
    texts = [(name, told[name]) for name in ("question", "text") if told.get(name)]
    return [
        *(f"{name:<20}{_value(value)}" for name, value in dated.items()),
        *(f"\n{name}:\n{_printable(text)}" for name, text in texts),
    ]


def _value(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _printable(text: str) -> str:
    """What others have written gets no say over a terminal."""
    return "".join(sign if sign.isprintable() or sign == "\n" else " " for sign in text)


def _plain(asked: dict[str, Any]) -> dict[str, Any]:
    return {name: value.total_seconds() if isinstance(value, timedelta) else value for name, value in asked.items()}


def _date(at: float | None) -> str:
    return "never" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MOST):
        raise argparse.ArgumentTypeError(f"'{text}' is no number from 1 to {MOST}")
    return int(text)
