"""The clears that this node knows of: a store that comes back from before them has to be cleared again."""

from collections import OrderedDict
from typing import Final

from msgspec.structs import replace

from sentinel_gateway.core.caching import Selector

REMEMBERED_SECONDS: Final = 3600.0
WIDE: Final = 20
"""Clears that name no entries: each takes a look at all that is stored."""
NAMED: Final = 10_000
"""Entries that the others name."""
NONE: Final[frozenset[str]] = frozenset()
SKEW_SECONDS: Final = 10.0
"""What was made so shortly after a clear may have been made before it, by another node's clock."""


class Clears:
    """Those of the last hour, and of these the latest: at most `WIDE`, and as many more as name `NAMED` entries together."""

    def __init__(self) -> None:
        self._wide: OrderedDict[Selector, float] = OrderedDict()
        self._narrow: OrderedDict[Selector, float] = OrderedDict()
        self._named = 0

    def __len__(self) -> int:
        return len(self._wide) + len(self._narrow)

    def note(self, selector: Selector, now: float) -> None:
        """This is being cleared."""
        if selector.keys == NONE:
            return
        if selector.everything:
            self._wide.clear()
            self._narrow.clear()
            self._named = 0
        clears = self._wide if selector.keys is None else self._narrow
        if selector not in clears:
            self._named += len(selector.keys or ())
        clears[selector] = now
        clears.move_to_end(selector)
        while len(self._wide) > WIDE or _is_over(self._wide, now):
            self._wide.popitem(last=False)
        while self._named > NAMED or _is_over(self._narrow, now):
            forgotten, _ = self._narrow.popitem(last=False)
            self._named -= len(forgotten.keys or ())

    def since(self, now: float) -> list[tuple[Selector, float]]:
        """What was cleared in the last hour, and when."""
        known = [*self._wide.items(), *self._narrow.items()]
        return [(selector, at) for selector, at in known if at >= now - REMEMBERED_SECONDS]


def as_of(selector: Selector, at: float, now: float) -> Selector:
    """What was to be cleared then, and nothing that was made later."""
    return replace(selector, older_than=now - at - SKEW_SECONDS + (selector.older_than or 0.0))


def _is_over(clears: OrderedDict[Selector, float], now: float) -> bool:
    return bool(clears) and next(iter(clears.values())) < now - REMEMBERED_SECONDS
