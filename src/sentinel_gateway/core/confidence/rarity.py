"""How much a word tells: one that many questions hold tells little. Counted from the questions of a namespace as they come.

Of a word no more than a checksum is kept: what is learned outlives the questions, and must not repeat them.
"""

from collections.abc import Iterable
from math import log
from typing import Final
from zlib import crc32

import msgspec

WORDS: Final = 20_000


class Counts(msgspec.Struct, frozen=True):
    """Questions seen, and in how many of them each word stood, by the words' CRC-32."""

    questions: int = 0
    words: dict[int, int] = msgspec.field(default_factory=dict)


class Rarity:
    """Weights of words, 0 to 1: 1 for a word never seen, next to 0 for one that every question holds. Before all counts, 1.

    Where there are more words than `most`, all counts are halved, and those that reach zero go.
    """

    __slots__ = ("_most", "_questions", "_words")

    def __init__(self, counts: Counts | None = None, *, most: int = WORDS) -> None:
        self._most = most
        counts = counts or Counts()
        self._questions = counts.questions
        self._words = dict(counts.words)

    def __repr__(self) -> str:
        return f"<Rarity of {len(self._words)} words in {self._questions} questions>"

    def count(self, words: Iterable[str]) -> None:
        """One more question, with these words."""
        self._questions += 1
        for word in {crc32(word.encode()) for word in words}:
            self._words[word] = self._words.get(word, 0) + 1
        while len(self._words) > self._most:
            self._questions //= 2
            self._words = {word: times // 2 for word, times in self._words.items() if times > 1}

    def of(self, word: str) -> float:
        """The inverse document frequency, by that of a word never seen: so it means the same early and late."""
        whole = log(2 * self._questions + 2)
        return log((2 * self._questions + 2) / (2 * self._words.get(crc32(word.encode()), 0) + 1)) / whole

    def counts(self) -> Counts:
        """All of it, to be kept."""
        return Counts(self._questions, dict(self._words))
