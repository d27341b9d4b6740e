"""What an index in process holds: the questions of all scopes, by age, by expiry, and by scope. It waits for nothing."""

import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

from sentinel_gateway.core.caching import Head
from sentinel_gateway.vectors._rows import Numbers, Rows, Signs

PERIOD: Final = 900
"""Seconds: questions that expire in the same quarter of an hour are swept away together."""
SWEPT_AT_ONCE: Final = 8
"""Steps of sweeping for each question that is added: more than come in go out, and nobody notices."""


class Scope:
    """The questions of one scope: those that wait for a vector, the oldest first, and the rows of those that have one."""

    __slots__ = ("rows", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[str, Head] = {}
        self.rows: Rows | None = None


class Questions:
    """At most `max_questions`, with `max_bytes` of text. The oldest make room for new ones."""

    def __init__(self, *, dimension: int, max_questions: int, max_bytes: int, now: float) -> None:
        self._dimension = dimension
        self._max_questions = max_questions
        self._max_bytes = max_bytes
        self._heads: OrderedDict[str, Head] = OrderedDict()
        self._scopes: dict[str, Scope] = {}
        self._expiring: dict[int, set[str]] = {}
        self._swept_until = _period(now)
        self._bytes = 0
        self.vectors = 0

    def __len__(self) -> int:
        return len(self._heads)

    def __contains__(self, head: Head) -> bool:
        return self._heads.get(head.key) == head

    def holds(self, key: str) -> bool:
        return key in self._heads

    def get(self, key: str) -> Head | None:
        return self._heads.get(key)

    def rows(self, scope: str) -> Rows | None:
        found = self._scopes.get(scope)
        return None if found is None else found.rows

    def waiting(self, scope: str, limit: int) -> tuple[Head, ...]:
        found = self._scopes.get(scope)
        return () if found is None else tuple(islice(found.waiting.values(), limit))

    def walk(self) -> Iterator[tuple[Head, Numbers | None]]:
        """All of them, with the numbers of their vectors as they are now. Others may come and go between two steps."""
        for scope in list(self._scopes.values()):
            for head in list(scope.waiting.values()):
                yield head, None
            rows = scope.rows
            place = 0 if rows is None else len(rows)
            while rows is not None and (place := min(place, len(rows)) - 1) >= 0:  # what is removed moves rows that were met
                yield rows.at(place)

    def add(self, head: Head, now: float) -> bool:
        """Take a question, in place of an older one under the same key; False if it isn't taken."""
        self.forget(head.key)
        self._sweep(now)
        weight = sys.getsizeof(head.text)
        if not head.scope or head.expires <= now or weight > self._max_bytes or not self._max_questions:
            return False
        while len(self._heads) >= self._max_questions or self._bytes + weight > self._max_bytes:
            self.forget(next(iter(self._heads)))
        self._heads[head.key] = head
        self._bytes += weight
        self._expiring.setdefault(_period(head.expires), set()).add(head.key)
        scope = self._scopes.get(head.scope)
        if scope is None:
            scope = self._scopes[head.scope] = Scope()
        scope.waiting[head.key] = head
        return True

    def attach(self, head: Head, numbers: Numbers, signs: Signs) -> None:
        """Give a question that is held its vector."""
        scope = self._scopes[head.scope]
        if scope.waiting.pop(head.key, None) is not None:
            self.vectors += 1
        if scope.rows is None:
            scope.rows = Rows(self._dimension)
        scope.rows.put(head, numbers, signs)

    def forget(self, key: str) -> None:
        head = self._heads.pop(key, None)
        if head is None:
            return
        self._bytes -= sys.getsizeof(head.text)
        self._forget_expiry(head)
        scope = self._scopes[head.scope]
        if scope.waiting.pop(key, None) is None and scope.rows is not None:
            scope.rows.remove(key)
            self.vectors -= 1
            if not len(scope.rows):
                scope.rows = None
        if not scope.waiting and scope.rows is None:
            del self._scopes[head.scope]

    def forget_newest(self) -> None:
        self.forget(next(reversed(self._heads)))

    def forget_next(self, selected: Callable[[Head], bool]) -> bool:
        """Forget the oldest if it is selected, or else make it the newest: as many steps as there are questions see each once."""
        key, head = next(iter(self._heads.items()))
        if selected(head):
            self.forget(key)
            return True
        self._heads.move_to_end(key)
        return False

    def _forget_expiry(self, head: Head) -> None:
        period = _period(head.expires)
        keys = self._expiring[period]
        keys.discard(head.key)
        if not keys:
            del self._expiring[period]

    def _sweep(self, now: float) -> None:
        for _ in range(SWEPT_AT_ONCE):
            if self._swept_until >= _period(now):
                return
            keys = self._expiring.get(self._swept_until)
            if keys is None:
                self._swept_until += 1
            else:
                self.forget(keys.pop())


def _period(seconds: float) -> int:
    return int(seconds // PERIOD)
