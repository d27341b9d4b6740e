"""Looking through what is kept: which entries, in which order, and where a page ends.

A page is made with bounded work. So it may hold fewer entries than were asked for, or none, and still tell where the next begins:
only a page without a next one is the last.
"""

from collections.abc import Iterable
from typing import Annotated, Final, Literal

import msgspec

from sentinel_gateway.core.caching import Entry, Head, Selector

FOREVER: Final = 253_402_300_800.0
"""The end of a pinned entry, in Unix seconds: the year 10000. No lifetime that anybody can ask for comes near."""
MOST_PINNED: Final = 1_000
"""Entries: what is pinned is never evicted, so it takes room from all others for good."""
MARK_LENGTH: Final = 4_096

Order = Literal["created", "expires"]
State = Literal["live", "pinned", "expired", "all"]


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Behind which entry a page begins: by what it is ordered, and which of those that are equal in that it is."""

    at: float
    mark: Annotated[str, msgspec.Meta(max_length=MARK_LENGTH)]


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries, and in which order. `newer_than`: made in the last so many seconds; `words` must all be in the question."""

    selector: Selector = Selector()
    newer_than: float | None = None
    words: tuple[str, ...] = ()
    state: State = "live"
    order: Order = "created"
    rising: bool = False

    def matches(self, head: Head, now: float) -> bool:
        """The meaning of a view, which every store's own query must agree with. Words are compared without regard to case."""
        return (
            self.selector.matches(head, now)
            and (self.newer_than is None or now - head.created < self.newer_than)
            and _is_in(self.state, head, now)
            and (not self.words or _has_words(head.text, self.words))
        )

    def place_of(self, head: Head) -> tuple[float, str]:
        """Where an entry stands in this order, where entries are told apart by their keys."""
        return head.created if self.order == "created" else head.expires, head.key


class Page(msgspec.Struct, frozen=True):
    """Entries in their order; `next` None: there are no more."""

    heads: tuple[Head, ...]
    next: Place | None = None


def page_of(heads: Iterable[Head], view: View, now: float, *, after: Place | None, most: int) -> Page:
    """Of entries that are all at hand, in no order."""
    found = sorted((head for head in heads if view.matches(head, now)), key=view.place_of, reverse=not view.rising)
    if after is not None:
        edge = after.at, after.mark
        found = [head for head in found if (view.place_of(head) > edge if view.rising else view.place_of(head) < edge)]
    shown = tuple(one.head() if isinstance(one, Entry) else one for one in found[:most])
    return Page(shown, Place(*view.place_of(shown[-1])) if len(found) > most > 0 else None)


class Selection(msgspec.Struct, frozen=True):
    """What a clear would remove: how many entries, and some of them."""

    count: int = 0
    sample: tuple[Head, ...] = ()


def is_pinned(head: Head) -> bool:
    """Does it never end?"""
    return head.expires >= FOREVER


def _is_in(state: State, head: Head, now: float) -> bool:
    match state:
        case "live":
            return head.expires > now
        case "pinned":
            return is_pinned(head)
        case "expired":
            return head.expires <= now
        case _:
            return True


def _has_words(text: str, words: tuple[str, ...]) -> bool:
    folded = text.casefold()
    return all(word.casefold() in folded for word in words)
