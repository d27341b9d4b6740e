"""The memory tier: what this process answered lately, by recency.

Expired entries are handed out as they are: `core.caching` judges them, on a clock that never jumps.
"""

from typing import Final

from cachebox import LRUCache

from sentinel_gateway.core.caching import Entry, Selector

OVERHEAD: Final = 800
"""Bytes that an entry takes beside its body, key and tags: the objects around them and its place in the table (measured)."""
LARGEST_SHARE: Final = 8
"""No entry takes more than one part in so many of all bytes, so a single answer can't empty the cache."""


class MemoryStore:
    """A `NearStore` of at most `max_entries` and `max_bytes`; whichever is reached first makes it evict."""

    def __init__(self, *, max_entries: int, max_bytes: int) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._largest = max_bytes // LARGEST_SHARE
        self._entries: LRUCache[str, Entry] = LRUCache(max(max_bytes, 1), getsizeof=_weight)

    def get(self, key: str) -> Entry | None:
        return self._entries.get(key)

    def put(self, entry: Entry) -> bool:
        """Keep the entry. One that is too large is not kept, and neither is the older answer that it replaces."""
        key = entry.key
        if _weight(key, entry) > self._largest:
            self._entries.pop(key, None)
            return False
        self._entries.insert(key, entry)
        if len(self._entries) > self._max_entries:
            self._entries.popitem()
        return self._max_entries > 0

    def clear(self, selector: Selector, now: float) -> int:
        if selector.everything:
            removed = len(self._entries)
            self._entries.clear()
            return removed
        entries = self._entries.values() if selector.keys is None else filter(None, map(self._entries.peek, selector.keys))
        keys = [entry.key for entry in entries if selector.matches(entry, now)]
        for key in keys:
            self._entries.pop(key)
        return len(keys)

    def held(self) -> list[Entry]:
        return list(self._entries.values())

    def size(self) -> tuple[int, int]:
        return len(self._entries), self._entries.current_size()

    def __repr__(self) -> str:
        entries, size = self.size()
        return f"<MemoryStore {entries}/{self._max_entries} entries, {size}/{self._max_bytes} bytes>"


def _weight(key: str, entry: Entry) -> int:
    weight = len(entry.body) + len(key) + len(entry.text) + OVERHEAD
    return weight + sum(map(len, entry.tags)) if entry.tags else weight
