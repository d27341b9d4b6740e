"""Capital letters that say more than where a sentence begins: Polish and polish, Mb and MB, identifiers in mixed letters.

Hurried people write no capitals at all, so a small letter says little, and in most words none. It counts in the words listed
here, and in what no hurry writes: a name of an interface with its capitals elsewhere, an id in other letters.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from sentinel_gateway.core.guards.lexicon import words

UNIT: Final = re.compile(r"(?<![^\W\d_])(?i:[kmgt]b(?:ps|it)?|m[avwgm]|gm|pa|co)(?![^\W\d_])")
TELLING: Final = re.compile(r"[KMGT]b(?:ps|it)?|m[AVW]|M[gm]|Gm|pA|Co")
"""Units and elements that are others in other letters: Mb and MB, mW and MW."""
WORD: Final = re.compile(r"[^\W_]+")
INNER: Final = re.compile(r"[^\W_][A-Z]")
BETWEEN: Final = re.compile(r"[A-Za-z]\d+[A-Za-z]")
OPAQUE: Final = 6
"""Letters and digits of the shortest mixture that is no product's name but an id."""
CAPITALS: Final = 3
DIGITS: Final = "0123456789"
STRICT: Final = words("polish rust aids lent mass job nice reading")
"""Words that a capital makes another word, where the small one is met as often: it counts in every text."""
PROPER: Final = words(
    "apple turkey amazon orange target shell gap chase square stripe prime echo jaguar puma galaxy slack mercury",
    "bill mark will rose grace hope faith joy frank rob jack grant hunter mason bush rice cook pearl drew dawn sue art",
)
"""Names that are everyday words in small letters: the small letter counts where its writer used capitals elsewhere."""
CAPITONYMS: Final = STRICT | PROPER
EDGES: Final = ".,;:!?()[]{}\"'`*_"
ENDS: Final = frozenset(".?!:")
TITLED: Final = 0.6
FEW: Final = 3
"""Share and number of capitals inside sentences beyond which all words have one, for looks."""
SPEAKER: Final = "I"


class Letters(NamedTuple):
    """What the capital letters of a text say."""

    kept: tuple[str, ...] = ()
    """Units and ids, to the letter."""
    mixed: dict[str, str] = {}  # noqa: RUF012 - a default that nobody changes
    """Words with capitals inside: small letters -> as written."""
    senses: frozenset[str] = frozenset()
    """Capitonyms as they stand where no start of a sentence explains the capital."""


NONE: Final = Letters()


def letters(text: str, plain: list[str]) -> Letters:
    """Of a text and its words in small letters."""
    senses = frozenset[str]() if CAPITONYMS.isdisjoint(plain) else frozenset(_senses(text))
    if not INNER.search(text):
        kept = _units(text)
        return Letters(kept, senses=senses) if kept or senses else NONE
    inner = [word for word in WORD.findall(text) if not (word.isupper() or word[1:].islower() or word.islower())]
    ids = tuple(word for word in inner if _is_opaque(word))
    return Letters(_units(text) + ids, {word.lower(): word for word in inner}, senses)


def _units(text: str) -> tuple[str, ...]:
    """Which of its units are told apart by capitals, and where among them; nothing if there is none."""
    found = UNIT.findall(text)
    if not any(map(TELLING.fullmatch, found)):
        return ()
    return tuple(unit if TELLING.fullmatch(unit) else unit.lower() for unit in found)


def _is_opaque(word: str) -> bool:
    if len(word) < OPAQUE or word.isalpha() or (word[0].isdigit() and word.lstrip(DIGITS).isalpha()):
        return False
    return sum(map(str.isupper, word)) >= CAPITALS or BETWEEN.search(word) is not None


def _senses(text: str) -> Iterator[str]:
    chunks = text.split()
    starts = [True, *(chunk[-1] in ENDS for chunk in chunks)]
    cores = [chunk.strip(EDGES) for chunk in chunks]
    inside = [core[:1].isupper() for core, first in zip(cores, starts, strict=False) if not first and core != SPEAKER]
    if text.isupper() or sum(inside) > max(TITLED * len(inside), FEW):
        return
    cased = text.lower() != text
    for core, first in zip(cores, starts, strict=False):
        low = core.lower()
        if low in CAPITONYMS and (low == core or not first or core.isupper()) and (low in STRICT or cased):
            yield core if low == core else low.capitalize()


def differ(a: Letters, b: Letters) -> bool:
    """Is the same word written in letters that make it another?"""
    if a.kept != b.kept or any(b.mixed.get(low, word) != word for low, word in a.mixed.items()):
        return True
    only_a, only_b = a.senses - b.senses, b.senses - a.senses
    return any(word[0].swapcase() + word[1:] in only_b for word in only_a)
