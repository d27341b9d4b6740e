"""Are two questions worded differently throughout, or one sentence in which something was put in place of something else?

Who asks the same in words of their own changes the small words as well: "where do I find", "could you tell me", "is there". Who
asks something else often keeps the sentence and changes one word: "gold card" for "platinum card", "before" for "after". There an
embedding is blind, and a difference in words is all that tells.
"""

from collections import Counter
from typing import Final

from sentinel_gateway.core.guards.words import Pair, canonical

APART: Final = 7
"""Words that only one of the two holds, both sides together; no fewer than the words that both hold."""
EACH: Final = 2
"""Of them each holds so many at least: what merely adds something narrows the question."""
SMALL: Final = 3
"""So many carry no meaning by themselves (articles, auxiliaries, question words), at least one on each side."""


def reworded(pair: Pair) -> bool:
    """Do they differ in so many words, of all kinds, on both sides?"""
    a, b = Counter(map(canonical, pair.a.plain)), Counter(map(canonical, pair.b.plain))
    sides = max((a - b).total(), len(pair.only_a)), max((b - a).total(), len(pair.only_b))
    small = sides[0] - len(pair.only_a), sides[1] - len(pair.only_b)
    return sum(sides) >= max(APART, (a & b).total()) and min(sides) >= EACH and sum(small) >= SMALL and min(small) > 0
