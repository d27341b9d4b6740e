"""How much a word tells: one that many questions hold tells little. Counted from the questions of a namespace as they come.

Of a word no more than a keyed checksum is kept: what is learned outlives the questions, and must not repeat them. Without the
key nobody can try words against it.
"""

from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from math import log
from typing import Final

import msgspec

WORDS: Final = 20_000
MARK_BYTES: Final = 8


class Counts(msgspec.Struct, frozen=True):
    """Questions seen, and in how many of them each word stood, by the words' checksums."""

    questions: int = 0
    words: dict[int, int] = msgspec.field(default_factory=dict)


class Rarity:
    """Weights of words, 0 to 1: 1 for a word never seen, next to 0 for one that every question holds. Before all counts, 1.

    Where there are more words than `most`, all counts are halved, and those that reach zero go. `key`: at most 64 bytes. Another
    thread may ask while one counts: it may see a question counted in part.
    """

    __slots__ = ("_key", "_most", "_questions", "_words")

    def __init__(self, counts: Counts | None = None, *, most: int = WORDS, key: bytes = b"") -> None:
        self._most = most
        self._key = key
        counts = counts or Counts()
        self._questions = counts.questions
        self._words = dict(counts.words)

    def __repr__(self) -> str:
        return f"<Rarity of {len(self._words)} words in {self._questions} questions>"

    def __len__(self) -> int:
        return len(self._words)

    def marks(self, words: Iterable[str]) -> tuple[int, ...]:
        """Their checksums, each once: all that leaves this node of a question's words."""
        return tuple({_mark(word, self._key) for word in words})

    def count(self, words: Iterable[str]) -> None:
        """One more question, with these words."""
        self.add(self.marks(words))

    def add(self, marks: Iterable[int]) -> None:
        """One more question, with the words of these checksums."""
        self._questions += 1
        for mark in marks:
            self._words[mark] = self._words.get(mark, 0) + 1
        while len(self._words) > self._most:
            self._questions //= 2
            self._words = {mark: times // 2 for mark, times in self._words.items() if times > 1}

    def of(self, word: str) -> float:
        """The inverse document frequency, by that of a word never seen: so it means the same early and late."""
        whole = 2 * self._questions + 2
        return log(whole / (2 * self._words.get(_mark(word, self._key), 0) + 1)) / log(whole)

    def counts(self) -> Counts:
        """All of it, to be kept."""
        return Counts(self._questions, dict(self._words))


@lru_cache(maxsize=8192)
def _mark(word: str, key: bytes) -> int:
    return int.from_bytes(blake2b(word.encode(), digest_size=MARK_BYTES, key=key).digest())
