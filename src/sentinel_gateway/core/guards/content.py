"""What no other guard looks at: any other word of one text against another word of the other.

Slips of the keyboard make no other word, unless the words themselves are what is asked for: how one is spelled, what it means.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from sentinel_gateway.core.guards import numbers
from sentinel_gateway.core.guards.lexicon import ARTICLES, AUXILIARIES, DEEDS, FILLERS, LEADS, SOFT, table, words
from sentinel_gateway.core.guards.words import Pair, Reading, canonical

MANY: Final = 10
"""Words with a meaning. Among more, one that is added hardly moves the vector, though it may turn the question round."""
CONFUSABLE: Final = words(
    "trial trail angel angle casual causal marital martial diary dairy calm clam desert dessert latter later diner dinner",
    "biter bitter carol coral silver sliver board broad united untied aloud allowed planed planned comma coma tinny tiny super",
    "supper",
)
"""Words that look like slips of each other."""
MENTIONING: Final = words(
    "spell spells spelled spelling spelt misspelled pronounce pronounced pronunciation rhyme rhymes syllable syllables",
    "vowel vowels consonant consonants letters plural singular tense synonym synonyms antonym antonyms opposite conjugate",
    "anagram palindrome etymology word words noun verb adjective adverb translate translation say said",
    "mean meaning meanings definition define defined stand stands acronym abbreviation",
)
"""Where these stand, other words are what is asked for: how they are spelled, what they mean, what they are elsewhere."""
SCAFFOLDING: Final = MENTIONING | FILLERS | LEADS | {"means"}
GRAMMAR: Final = words("sentence grammatical grammatically punctuation comma commas apostrophe")
"""Where these stand, every small word counts."""
BETWEEN: Final = "between"
AND: Final = "and"
MOST_APART: Final = 5
HEARERS: Final = words("you u me us someone somebody anyone anybody one it this that there")
"""Who is asked: what they do for the asker is not what the question is about."""
NEUTRAL: Final = HEARERS | words("i we")
NOBODY: Final = AUXILIARIES | LEADS | words("not never also still just even")
ATTITUDES: Final = words("think believe feel want try know say")
"""What somebody thinks is not what is: "does she think that it works" against "does it work"."""
SPOKEN: Final = DEEDS | ATTITUDES
SAME: Final = table("""
think thinks thought believe believes feel feels
want wants like wish wishes
explain describe
""")
"""Each of these words -> that of the same deed or attitude."""
STATED: Final = frozenset({"think", "say"})
VIEWS: Final = words("view views opinion opinions stance thoughts")
"""These are what somebody thinks or says of something."""
LEAST_SLIPPED: Final = 4
MOST_SLIPS: Final = 4
UNDOUBLED: Final = re.compile(r"(.)\1")


def differs(pair: Pair) -> bool:
    """Does each text hold a word that the other lacks, beyond slips of the keyboard? In a long text, does either?"""
    if _deeds_differ(_deeds(pair.a.plain), _deeds(pair.b.plain)) or _mentions_differ(pair.a.plain, pair.b.plain):
        return True
    if _attitudes_differ(pair.a.plain, pair.b.plain) or _attitudes_differ(pair.b.plain, pair.a.plain):
        return True
    left = [word for word in pair.only_a if not word.startswith(numbers.MARK)]
    right = [word for word in pair.only_b if not word.startswith(numbers.MARK)]
    if bool(left) != bool(right) and max(len(pair.a.tokens), len(pair.b.tokens)) > MANY:
        return True
    if left and not right:
        right = _soft(pair.b, pair.a)
    elif right and not left:
        left = _soft(pair.a, pair.b)
    if any(len(word) == 1 and word.isalnum() for word in (*left, *right)):
        return True
    if max(len(left), len(right)) > MOST_SLIPS:
        return bool(left and right)
    for word in tuple(left):
        twin = next((other for other in right if slipped(word, other)), None)
        if twin is not None:
            left.remove(word)
            right.remove(twin)
    return bool(left and right)


def _deeds(plain: tuple[str, ...]) -> set[str]:
    """What the questions in a text have somebody do, where that is a filler."""
    if DEEDS.isdisjoint(plain):
        return set()
    return {SAME.get(deed, deed) for doer, deed in _done(plain) if deed in DEEDS and doer not in HEARERS}


def _done(plain: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """(Who, what) for each filler that is a verb in a question."""
    for before, auxiliary, doer, deed in zip(("", *plain), plain, plain[1:], plain[2:], strict=False):
        if deed in SPOKEN and auxiliary in AUXILIARIES and doer not in NOBODY:
            yield doer, "know" if (before, deed) == ("how", "tell") else deed  # "how can I tell if", "how do I know if"


def _attitudes_differ(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    """Is it asked in one what others think, want or try, and in the other what is?"""
    if ATTITUDES.isdisjoint(a):
        return False
    told = {_attitude(deed) for doer, deed in _done(a) if deed in ATTITUDES and doer not in NEUTRAL}
    if not VIEWS.isdisjoint(b):
        told -= STATED
    return bool(told) and told.isdisjoint(map(_attitude, b))


def _attitude(word: str) -> str:
    return SAME.get(word) or canonical(word)


def _deeds_differ(one: set[str], other: set[str]) -> bool:
    return bool(one and other) and one != other


def _mentions_differ(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    """Is it words that are asked for, and are they others, though of one meaning?"""
    if _apart(a) != _apart(b):
        return True
    if not GRAMMAR.isdisjoint(a) or not GRAMMAR.isdisjoint(b):
        dropped = GRAMMAR
    elif not MENTIONING.isdisjoint(a) or not MENTIONING.isdisjoint(b):
        dropped = SCAFFOLDING
    else:
        return False
    left, right = Counter(a), Counter(b)
    return any(word not in dropped for word in left - right) and any(word not in dropped for word in right - left)


def _apart(plain: tuple[str, ...]) -> frozenset[str]:
    """The small words whose difference is asked for: "between who and whom"."""
    if BETWEEN not in plain:
        return frozenset()
    at = plain.index(BETWEEN) + 1
    told = [word for word in plain[at : at + MOST_APART] if word not in ARTICLES]
    return frozenset(word for before, word in zip((AND, *told), told, strict=False) if before == AND and word in FILLERS)


def _soft(reading: Reading, other: Reading) -> list[str]:
    """Fillers of one text in whose place the other may have a word of its own."""
    return [word for word in reading.plain if word in SOFT and word not in other.plain]


def slipped(one: str, other: str) -> bool:
    """Do the words differ as a typing slip does: two neighbouring letters exchanged, or a letter doubled?"""
    if min(len(one), len(other)) < LEAST_SLIPPED or CONFUSABLE.issuperset((one, other)):
        return False
    if numbers.ROMAN_LETTERS.issuperset(one) and numbers.ROMAN_LETTERS.issuperset(other):
        return False
    return UNDOUBLED.sub(r"\1", one) == UNDOUBLED.sub(r"\1", other) or _exchanged(one, other)


def _exchanged(one: str, other: str) -> bool:
    at = next((i for i, (left, right) in enumerate(zip(one, other, strict=False)) if left != right), 0)
    return one[:at] + one[at : at + 2][::-1] + one[at + 2 :] == other
