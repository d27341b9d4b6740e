"""A known bug of another gateway, as a change of our code, and the tests that must notice it."""

from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGE = Path("src") / "sentinel_gateway"


class Edit(NamedTuple):
    """In a file of the package, what stands there once, and what takes its place."""

    file: str
    old: str
    new: str


class Bug(NamedTuple):
    """`like` names the public one, `what` tells what comes of it. `test` must fail, and `by` stands in what it says then."""

    name: str
    like: str
    what: str
    edits: tuple[Edit, ...]
    test: str
    by: str


def bug(name: str, like: str, what: str, *edits: tuple[str, str, str], test: str, by: str) -> Bug:
    return Bug(name, like, what, tuple(Edit(*edit) for edit in edits), test, by)


def faults(one: Bug, root: Path = ROOT) -> list[str]:
    """Why it can't be planted: what it changes does not stand there once."""
    found = []
    for file, old, new in one.edits:
        path = root / PACKAGE / file
        count = path.read_text().count(old) if path.is_file() else 0
        if count != 1:
            found.append(f"{one.name}: {file} has this {count} times, not once:\n{old}")
        elif old == new:
            found.append(f"{one.name}: nothing is changed in {file}")
    return found


def plant(one: Bug, root: Path) -> None:
    """Into a copy of the checkout's `src`, of which `root` is the folder."""
    for file, old, new in one.edits:
        path = root / PACKAGE / file
        path.write_text(path.read_text().replace(old, new))
