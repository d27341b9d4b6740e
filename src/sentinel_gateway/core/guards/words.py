"""A text as the guards read it: canonical words in order, each with the part it plays.

Two texts are compared by what only one of them says, so reading makes equal what means the same: case, contractions,
inflection, spelling, synonyms, and words that say nothing alone. Every step is linear in the length of the text.
"""

import re
from collections import Counter
from functools import lru_cache
from typing import Final

import msgspec

from sentinel_gateway.core.guards import numbers, verbatim
from sentinel_gateway.core.guards.lexicon import (
    ACTORS,
    AUXILIARIES,
    DEEDS,
    FILLERS,
    KEPT_FORMS,
    LEADS,
    NEGATED,
    NEGATORS,
    NOT,
    PHRASES,
    SOFT,
    SYNONYMS,
    TAILS,
    words,
)

OUTER: Final = ".,;:!?()[]{}<>\"'`*_~\u2026-\u2013\u2014¿¡|"
MANY: Final = 10
"""Words with a meaning. Among more, one that is added hardly moves the vector, though it may turn the question round."""
REMEMBERED: Final = 256
"""Readings, of some kilobytes each."""
SENTENCE_ENDS: Final = frozenset(".?!:")
UPRIGHT: Final = str.maketrans(
    {"\u2019": "'", "\u2018": "'", "\u201c": '"', "\u201d": '"', "«": '"', "»": '"'}
    | {"\u2013": "-", "\u2212": "-", "\u2014": " ", "\u2026": " "}
)
NEGATIVE: Final = re.compile(r"-\d")
PART: Final = re.compile(r"[^\W_]+(?:\.[^\W_]+)*[+#]*|[^\w\s]")
SYMBOLS: Final = frozenset(
    {
        "<",
        ">",
        "<=",
        ">=",
        "==",
        "!=",
        "=",
        "%",
        "|",
        "||",
        "&&",
        "->",
        "=>",
        "++",
        "--",
        "+=",
        "-=",
        "*=",
        "/=",
        "≤",
        "≥",
        "≠",
        "^",
    }
)
CAPITALISED: Final = numbers.CAPITALISED | {
    "US": "usa",
    "IT": "it-industry",
    "WHO": "who-organization",
    "Go": "golang",
    "A": "letter-a",
}
"""Names that are everyday words in small letters."""
DIRECTIONS: Final = frozenset({"off", "on", "up", "down", "out", "before", "after", "above", "below", "over", "under", "against"})
"""Leads that say something even if no word follows them."""
CLAUSE_ENDS: Final = frozenset(",;-")
ASIDES: Final = (" or why not", " whether or not", " or not")
SPELLINGS: Final = (
    ("isation", "ize"),
    ("ization", "ize"),
    ("ise", "ize"),
    ("yse", "yze"),
    ("is", "ize"),
    ("iz", "ize"),
    ("ical", "ic"),
)
LONG: Final = 6
"""Letters of a word that can lose -ly, -e or a double l and still be told from others."""
LEAST_PLURAL: Final = 4
CONFUSABLE: Final = words(
    "trial trail angel angle casual causal marital martial diary dairy calm clam desert dessert latter later diner dinner",
    "biter bitter carol coral silver sliver board broad united untied aloud allowed planed planned comma coma tinny tiny super",
    "supper",
)
"""Words that look like slips of each other."""
LEAST_SLIPPED: Final = 4
MOST_SLIPS: Final = 4
UNDOUBLED: Final = re.compile(r"(.)\1")
USERS: Final = words("is are was were be been being get can could to should")
"""Before "used to", these say what a thing is for; else it says what once was."""
FORMERLY: Final = "formerly"
LINK: Final = "="
"""The lead of a token before which an auxiliary stands: "cats are dogs"."""
TITLE_SHARE: Final = 0.6
CONTRACTIONS: Final = {
    "can't": ("not",),
    "won't": ("will", "not"),
    "shan't": ("shall", "not"),
    "ain't": ("not",),
    "let's": ("let", "us"),
}
UNMARKED: Final = {
    bare: (bare[:-2], "not")
    for bare in words("isnt arent wasnt werent dont doesnt didnt hasnt havent hadnt wouldnt couldnt shouldnt cant wont")
}
"""Contractions as hurried people write them."""


class Reading(msgspec.Struct, frozen=True, gc=False):
    """One text, read. `tokens` and `leads` have the same length."""

    text: str
    starts: tuple[int, ...]
    """Where in `plain` a sentence or a clause begins."""
    plain: tuple[str, ...]
    """All words in small letters, contractions resolved."""
    tokens: tuple[str, ...]
    """What carries meaning, canonical: words, `numbers.MARK` + quantities, `NOT`."""
    leads: tuple[str, ...]
    """Before each token: its preposition or conjunction, or the empty string."""
    names: frozenset[str]
    """Tokens with a capital letter that no sentence start explains."""
    spans: tuple[str, ...]
    """What must be the same to the letter: quotations, code, addresses, paths."""


class Pair(msgspec.Struct, frozen=True, gc=False):
    """Two readings and what each says that the other doesn't, in order."""

    a: Reading
    b: Reading
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]


@lru_cache(maxsize=REMEMBERED)
def read(text: str) -> Reading:
    """`text` as the guards compare it. A question is held against several stored ones, so the last few are remembered."""
    upright = text.translate(UPRIGHT)
    for aside in ASIDES:
        upright = upright.replace(aside, " ")
    plain, starts, capitals = _plain(upright)
    tokens, leads = _tokens(numbers.fold(_phrases(plain)))
    return Reading(
        text=upright,
        starts=tuple(starts),
        plain=tuple(plain),
        tokens=tuple(tokens),
        leads=tuple(leads),
        names=frozenset(map(canonical, capitals)),
        spans=verbatim.spans(upright),
    )


def pair(a: Reading, b: Reading) -> Pair:
    if a.tokens == b.tokens:
        return Pair(a, b, (), ())
    left, right = Counter(a.tokens), Counter(b.tokens)
    return Pair(a, b, tuple((left - right).elements()), tuple((right - left).elements()))


def _plain(text: str) -> tuple[list[str], list[int], list[str]]:
    """The words in small letters; where a clause begins; and the words that are capitalised for what they are."""
    found: list[str] = []
    clauses = [0]
    capitals: list[str] = []
    chunks = text.split()
    starts = True
    for chunk in chunks:
        core = chunk if chunk.isalpha() else _core(chunk)
        if core.isalpha():
            low = core.lower()
            if core[0] != low[0] and not starts:
                low = CAPITALISED.get(core, low)
                capitals.append(low)
            if low in UNMARKED:
                found += UNMARKED[low]
            else:
                found.append(low)
        else:
            _split(core or chunk, found)
        last = chunk[-1]
        starts = last in SENTENCE_ENDS
        if starts or last in CLAUSE_ENDS:
            clauses.append(len(found))
    return found, clauses, [] if len(capitals) > TITLE_SHARE * len(chunks) else capitals


def _core(chunk: str) -> str:
    """The chunk without the punctuation around it, but with the sign of a negative number."""
    core = chunk.strip(OUTER)
    return "-" + core if NEGATIVE.match(chunk) else core


def _split(chunk: str, found: list[str]) -> None:
    """The words of a chunk that has more than letters: contractions, hyphens, digits, symbols."""
    low = chunk.lower()
    if low in SYMBOLS or low in numbers.OPERATORS:
        found.append(low)
    elif numbers.has_digit(low):
        found += numbers.pieces(low)
    elif "'" in low:
        found += _contraction(low)
    else:
        found += [part for part in PART.findall(low) if part[0].isalnum() or part in numbers.CURRENCIES]


def _contraction(low: str) -> tuple[str, ...]:
    if low in CONTRACTIONS:
        return CONTRACTIONS[low]
    head, _, tail = low.partition("'")
    if tail == "t" and head.endswith("n"):
        return (head[:-1], "not")
    if not head:
        return ()
    if tail == "s" and head not in FILLERS:
        return (head, "'s")
    return (head,) if tail in TAILS else tuple(part for part in PART.findall(low) if part.isalnum())


def _phrases(plain: list[str]) -> list[str]:
    """Pairs of words that mean one, as one."""
    found: list[str] = []
    previous = ""
    for word in plain:
        if (previous, word) in PHRASES:
            found[-1] = PHRASES[previous, word]
        elif word == "to" and previous in {"use", "used"} and not (found[-2:-1] and found[-2] in USERS):
            found[-1] = FORMERLY
        else:
            found.append(word)
        previous = word
    return found


def _tokens(found: list[str]) -> tuple[list[str], list[str]]:
    tokens: list[str] = []
    leads: list[str] = []
    lead = ""
    for word in [*found, "of"]:
        if word in LEADS:
            if lead in DIRECTIONS:
                tokens.append(canonical(lead))
                leads.append("")
            lead = word
        elif word in AUXILIARIES and not lead and tokens:
            lead = LINK
        elif word and word not in FILLERS:
            meaning = (NOT, canonical(NEGATED[word])) if word in NEGATED else (NOT,) if word in NEGATORS else (canonical(word),)
            tokens += meaning
            leads += (lead, "")[: len(meaning)]
            lead = ""
    return tokens, leads


@lru_cache(maxsize=8192)
def canonical(word: str) -> str:
    """The word that stands for `word`, whatever its form, spelling or synonym."""
    base = stem(word)
    return FAMILIES.get(word) or FAMILIES.get(base, base)


def stem(word: str) -> str:
    """`word` without what English adds for number, tense or manner. Equal for the forms of a word; not always a word."""
    if word in KEPT_FORMS or not word.isalpha():
        return word
    base = _singular(word)
    for ending in ("ing", "ed"):
        if base.endswith(ending) and not base.endswith("eed") and _has_vowel(base[: -len(ending)]):
            base = _verb(base[: -len(ending)])
            break
    else:
        if base.endswith("ly") and len(base) >= LONG:
            base = base[:-2]
    base = _american(base)
    if base.endswith(("e", "ll")) and len(base) >= LONG:
        base = base[:-1]
    return base


def _singular(word: str) -> str:
    if len(word) < LEAST_PLURAL or not word.endswith("s") or word.endswith(("ss", "us", "is", "ics")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes", "zes")):
        return word[:-2]
    return word[:-1]


def _has_vowel(part: str) -> bool:
    return len(part) > 1 and any(letter in "aeiouy" for letter in part)


def _verb(base: str) -> str:
    """The verb whose -ing or -ed was cut: double consonants single, a lost e restored where the word is short."""
    if base[-1] == base[-2] and base[-1] not in "lsz":
        return base[:-1]
    short = len(base) < LONG - 1
    if short and base[-1] in "vzcu":
        return base + "e"
    closed = base[-1] not in "aeiouwxy" and base[-2] in "aeiou" and base[-3:-2] not in tuple("aeiou")
    one_syllable = sum(letter in "aeiouy" for letter in base) == 1
    return base + "e" if short and closed and one_syllable else base


def _american(base: str) -> str:
    """One spelling of -ise, -isation and their like."""
    for ending, kept in SPELLINGS:
        if len(base) > len(ending) + 3 and base.endswith(ending):
            return base[: -len(ending)] + kept
    return base


FAMILIES: Final = {stem(word): stem(meaning) for word, meaning in SYNONYMS.items()} | {
    word: stem(meaning) for word, meaning in SYNONYMS.items()
}
DIRECTION_TOKENS: Final = frozenset(map(canonical, DIRECTIONS - {"up", "on", "over"}))


def content_differs(pair: Pair) -> bool:
    """Does each text hold a word that the other lacks, beyond slips of the keyboard? In a long text, does either?"""
    if _deeds_differ(_deeds(pair.a.plain), _deeds(pair.b.plain)):
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
    asked = zip(plain, plain[1:], plain[2:], strict=False)
    return {deed for auxiliary, doer, deed in asked if deed in DEEDS and doer in ACTORS and auxiliary in AUXILIARIES}


def _deeds_differ(one: set[str], other: set[str]) -> bool:
    return bool(one and other) and one != other


def _soft(reading: Reading, other: Reading) -> list[str]:
    """Fillers of one text in whose place the other may have a word of its own."""
    return [word for word in reading.plain if word in SOFT and word not in other.plain]


def slipped(one: str, other: str) -> bool:
    """Do the words differ as a typing slip does: two neighbouring letters exchanged, or a letter doubled?"""
    if min(len(one), len(other)) < LEAST_SLIPPED or CONFUSABLE.issuperset((one, other)):
        return False
    return UNDOUBLED.sub(r"\1", one) == UNDOUBLED.sub(r"\1", other) or _exchanged(one, other)


def _exchanged(one: str, other: str) -> bool:
    at = next((i for i, (left, right) in enumerate(zip(one, other, strict=False)) if left != right), 0)
    return one[:at] + one[at : at + 2][::-1] + one[at + 2 :] == other
