"""What is configured, as those see it who ask about it."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import msgspec

Source = Literal["default", "preset", "file", "dotenv", "environment", "flag"]
"""Where a value comes from. `preset`: a provider that is known by its name fills it in."""


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One setting. Values are JSON, secrets masked; `place` is where it was written, such as `sentinel.yaml:7`.

    `by_restart`: a change takes effect at the next start. `waits`: so does the value that is told here; until then the one of
    the start holds.
    """

    name: str
    about: str
    value: Any
    default: Any
    source: Source
    place: str
    by_restart: bool
    waits: bool


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A setting that would be another, and its places now and then; a `before` or `after` of None is none, or no such setting."""

    name: str
    before: Any
    after: Any
    place: str
    by_restart: bool


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What a configuration would change, were it in force; or what is wrong with it, by place and sentence.

    `mark` stands for all of its values: two that are the same have the same, in this process.
    """

    faults: Sequence[tuple[str, str]] = ()
    changes: Sequence[Change] = ()
    notes: Sequence[str] = ()
    mark: str = ""


class ConfigurationDesk(Protocol):
    """The configuration in force, and others held against it."""

    @property
    def files(self) -> Sequence[str]:
        """The files that were read for the one in force."""
        ...

    def settings(self) -> Sequence[Setting]:
        """Every setting in force."""
        ...

    async def check(self, draft: str | None) -> Checked:
        """What the files and the environment say now, or what they would say with this text in place of the file."""
        ...
