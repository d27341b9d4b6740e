"""What two questions have in common, as numbers.

From the search, from answers compared before, and from the words as the guards read them. Each number is of the order of 1, so
that one strength of shrinkage serves nearly all. Time is linear in the texts, but for the order of words (n log n).
"""

from bisect import bisect_left
from math import log
from typing import Final

import msgspec

from sentinel_gateway.core.confidence.rarity import Rarity
from sentinel_gateway.core.guards import Guard, doubts
from sentinel_gateway.core.guards.words import Reading, read

QUESTION_WORDS: Final = frozenset({"who", "whom", "whose", "what", "which", "when", "where", "why", "how"})
NEAR: Final = 0.8
"""Where a cosine begins to say "the same", and what is much or little from there on."""
SPREAD: Final = 0.1
LEAST_DISTANCE: Final = 0.01
"""Below this, vectors don't tell texts apart: an index rounds, too."""
WIDEST_GAP: Final = 3.0
"""Also where there is no second neighbour at all."""
LONELY: Final = 0.3
"""Neighbours that are farther away than this, or none, say no more."""
NEIGHBOURS: Final = 5
"""So many count where an average over neighbours is asked for."""
NAMES: Final = (
    "similarity",
    "distance",
    "gap",
    "near_asked",
    "near_stored",
    "agreeing",
    "disagreeing",
    "overlap",
    "unmatched_asked",
    "unmatched_stored",
    "question_word",
    "order",
    "trigrams",
    "length",
    "doubt_question",
    "doubt_order",
    "doubt_words",
)
"""What stands at each place of `features`."""


class Surroundings(msgspec.Struct, frozen=True):
    """What is known around a stored question.

    Cosines: of the asked question with it; with the nearest other one; on average with the `NEIGHBOURS` nearest; and that average
    for the stored question, from when it was asked. 0 where there is none.

    `agreeing` and `disagreeing`: how many of the other neighbours' answers are known to say the same as this one, or not to
    (`kinship`), as shares.
    """

    similarity: float
    second: float = 0.0
    mean_near_asked: float = 0.0
    mean_near_stored: float = 0.0
    agreeing: float = 0.0
    disagreeing: float = 0.0


def features(
    asked: str, stored: str, surroundings: Surroundings, rarity: Rarity, *, objecting: frozenset[Guard] | None = None
) -> tuple[float, ...]:
    """One finite number for each of `NAMES`. `rarity` says how much a word tells, `objecting` which soft guards object.

    None: that is still to be found out.
    """
    return (*searched(surroundings), *worded(asked, stored, rarity, objecting=objecting))


def searched(surroundings: Surroundings) -> tuple[float, ...]:
    """The first of them: what the search tells, and answers that were compared."""
    near = surroundings.similarity
    return (
        (near - NEAR) / SPREAD,
        -log(max(1.0 - near, LEAST_DISTANCE) / (1.0 - NEAR)),
        min(max(near - surroundings.second, 0.0) / SPREAD, WIDEST_GAP),
        (max(surroundings.mean_near_asked, LONELY) - NEAR) / SPREAD,
        (max(surroundings.mean_near_stored, LONELY) - NEAR) / SPREAD,
        surroundings.agreeing,
        surroundings.disagreeing,
    )


def worded(asked: str, stored: str, rarity: Rarity, *, objecting: frozenset[Guard] | None = None) -> tuple[float, ...]:
    """The others: what the words tell, in 0.1 ms for a question of some 10 words, 0.35 ms for the longest."""
    a, b = read(asked), read(stored)
    words_a, words_b = set(a.tokens), set(b.tokens)
    shared = sum(map(rarity.of, words_a & words_b))
    only_a = [rarity.of(word) for word in words_a - words_b]
    only_b = [rarity.of(word) for word in words_b - words_a]
    whole = shared + sum(only_a) + sum(only_b)
    if objecting is None:
        objecting = doubts(asked, stored)
    return (
        shared / whole if whole else 1.0,
        max(only_a, default=0.0),
        max(only_b, default=0.0),
        float(_question_words(a) == _question_words(b)),
        _order(a.tokens, b.tokens),
        _trigrams(asked, stored),
        abs(log((len(a.plain) + 1) / (len(b.plain) + 1))),
        float("question" in objecting),
        float("order" in objecting),
        float("words" in objecting),
    )


def _question_words(text: Reading) -> frozenset[str]:
    return QUESTION_WORDS.intersection(text.plain)


def _order(a: tuple[str, ...], b: tuple[str, ...]) -> float:
    """The share of the common words that stand in the same order; 1 without any."""
    places = {word: place for place, word in reversed(list(enumerate(b)))}
    met = [places[word] for word in dict.fromkeys(a) if word in places]
    rising: list[int] = []
    for place in met:
        at = bisect_left(rising, place)
        rising[at : at + 1] = [place]
    return len(rising) / len(met) if met else 1.0


def _trigrams(a: str, b: str) -> float:
    """The share of runs of three letters that both have."""
    left, right = _runs(a), _runs(b)
    return len(left & right) / len(left | right)


def _runs(text: str) -> set[str]:
    padded = f"  {text.lower()} "
    return {padded[start : start + 3] for start in range(len(padded) - 2)}
