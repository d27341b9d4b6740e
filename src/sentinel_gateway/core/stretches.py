"""What requests came to within stretches of time: how the cache took part, what was saved and what was spent. Pure."""

from collections.abc import Iterable, Iterator
from typing import Final, Self

import msgspec

OUTCOMES: Final = ("exact", "semantic", "miss")
"""Those that the cache decided. All others, `failed` too, are `other`."""


def add_figures(to: msgspec.Struct, other: msgspec.Struct, names: Iterable[str]) -> None:
    """Add those of another to one's own."""
    for name in names:
        setattr(to, name, getattr(to, name) + getattr(other, name))


class Stretch(msgspec.Struct, array_like=True, gc=False):
    """The requests that began within a stretch of time. `start` in Unix seconds, money in nano-USD.

    `other` are those that the cache did not decide: failed, bypassed, shared with another. `tokens_saved` are those of stored
    answers; `tokens_used` and `spent` are what providers took within the stretch.
    """

    start: int
    exact: int = 0
    semantic: int = 0
    miss: int = 0
    other: int = 0
    saved: int = 0
    tokens_saved: int = 0
    spent: int = 0
    tokens_used: int = 0

    @property
    def total(self) -> int:
        """Requests that the cache decided."""
        return self.exact + self.semantic + self.miss

    def count(self, outcome: str, requests: int) -> None:
        """Count requests by the cache's part in them."""
        name = outcome if outcome in OUTCOMES else "other"
        setattr(self, name, getattr(self, name) + requests)

    def add(self, other: Self) -> None:
        """Add another's figures to these."""
        add_figures(self, other, self.__struct_fields__[1:])


class Part(msgspec.Struct, array_like=True, gc=False):
    """What came to one key of a tenant for one model on a day (`start`): what shares are put together from. As in `Share`."""

    start: int
    tenant: str
    key: str
    model: str
    requests: int = 0
    hits: int = 0
    calls: int = 0
    tokens: int = 0
    spent: int = 0
    saved: int = 0

    def add(self, other: Self) -> None:
        """Add another's figures to these."""
        add_figures(self, other, self.__struct_fields__[4:])


class Share(msgspec.Struct, gc=False):
    """What came to one tenant, key or model, or to all, on a day (UTC; its start in Unix seconds). Money in nano-USD.

    `requests` are those that ended well, `hits` the ones of them that a stored answer was for; `calls` are of providers.
    """

    day: int
    name: str
    requests: int = 0
    hits: int = 0
    calls: int = 0
    tokens: int = 0
    spent: int = 0
    saved: int = 0

    def add(self, other: Self | Part) -> None:
        """Add another's figures to these."""
        add_figures(self, other, self.__struct_fields__[2:])


def by_name(shares: Iterable[Share]) -> list[Share]:
    """Those of each name in one, the dearest first."""
    found: dict[str, Share] = {}
    for one in shares:
        found.setdefault(one.name, Share(one.day, one.name)).add(one)
    return sorted(found.values(), key=lambda one: (-one.spent, -one.saved, one.name))


def filled(found: list[Stretch], since: int, until: int, seconds: int) -> list[Stretch]:
    """With those in which nothing came, so that a line drawn through them falls to nothing there. `since` is the start of one."""
    there = {one.start: one for one in found}
    return [there.get(start) or Stretch(start) for start in range(since, until, seconds)]


def runs(starts: Iterable[int], step: int, longest: int) -> Iterator[tuple[int, int]]:
    """Neighbours in one, from its start to its end, none longer than this. `starts` are in their order, a step each at least."""
    begin = after = -1
    for start in starts:
        if start != after or after - begin >= longest:
            if begin >= 0:
                yield begin, after
            begin = start
        after = start + step
    if begin >= 0:
        yield begin, after
