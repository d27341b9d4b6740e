"""A text as the guards read it: canonical words in order, each with the part it plays.

Two texts are compared by what only one of them says, so reading makes equal what means the same: case, contractions,
inflection, spelling, synonyms, and words that say nothing alone. Every step is linear in the length of the text.
"""

import re
from collections import Counter
from functools import lru_cache
from typing import Final

import msgspec

from sentinel_gateway.core.guards import letters, numbers, signs, verbatim
from sentinel_gateway.core.guards.lexicon import (
    AUXILIARIES,
    FILLERS,
    FREED,
    KEPT_FORMS,
    LEADS,
    NEGATED,
    NEGATORS,
    NOT,
    PHRASES,
    SYNONYMS,
    TAILS,
    words,
)

OUTER: Final = ".,;:!?()[]{}<>\"'`*_~\u2026-\u2013\u2014¿¡|"
REMEMBERED: Final = 256
"""Readings, of some kilobytes each."""
SENTENCE_ENDS: Final = frozenset(".?!:")
UPRIGHT: Final = str.maketrans(
    {"\u2019": "'", "\u2018": "'", "\u201c": '"', "\u201d": '"', "«": '"', "»": '"'}
    | {"\u2013": "-", "\u2212": "-", "\u2014": " ", "\u2026": " "}
)
NEGATIVE: Final = re.compile(r"\(*-\d")
MILLIONS: Final = re.compile(r"[$€£]?\d[\d.,]*M")
PART: Final = re.compile(r"[^\W_]+(?:\.[^\W_]+)*(?:[+#]+(?!\w))?|[^\w\s]")
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
LETTER_A: Final = "letter-a"
LETTERED: Final = words("vitamin hepatitis")
"""After these, "a" is a letter."""
CAPITALISED: Final = numbers.CAPITALISED | {
    "US": "usa",
    "IT": "it-industry",
    "WHO": "who-organization",
    "Go": "golang",
    "A": LETTER_A,
}
"""Names that are everyday words in small letters."""
NUMBERED: Final = words("war part type phase volume chapter grade stage class level king")
"""After these, "I" is a number."""
DIRECTIONS: Final = words("off on up down out before after above below over under against ahead behind")
"""Leads that say something even if no word follows them."""
OVER: Final = ("over-", "under-")
"""With one of these a word is another: "over-hydrated"."""
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
USERS: Final = words("is are was were be been being get can could to should")
"""Before "used to", these say what a thing is for; else it says what once was."""
FORMERLY: Final = "formerly"
FREE: Final = "free"
PLANET: Final = "planet"
SECONDHAND: Final = "secondhand"
TRADED: Final = words("a an the my your buy sell buying selling")
"""Before "used", these say that somebody else had it."""
OWNING: Final = words("a an the my your our their his")
"""Before "sugar free", these say that it costs nothing, unless a word follows that it is free of."""
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
    signs: tuple[str, ...]
    """Operators and their like, and last the odd ones."""
    letters: letters.Letters
    """What its capital letters say."""


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
        signs=(*signs.marks(upright), signs.odd(upright)),
        letters=letters.letters(upright, plain),
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
    shouted = text.isupper()
    for place, chunk in enumerate(chunks, 1):
        alone = starts and 1 < place == len(chunks)  # a word that is a sentence by itself: "... of France? Atlantis"
        core = chunk if chunk.isalpha() else _core(chunk)
        if core.isalpha():
            low = core.lower()
            if core[0] != low[0] and not shouted and (not starts or alone or (len(core) > 1 and core.isupper())):
                low = numbers.FIRST if core == "I" and found and found[-1] in NUMBERED else CAPITALISED.get(core, low)
                capitals.append(low)
            elif low == "a" and found and found[-1] in LETTERED:
                low = LETTER_A
                capitals.append(low)
            low = numbers.ROMAN.get(low, low)
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
    low = (chunk[:-1] + "mn" if MILLIONS.fullmatch(chunk) else chunk).lower()
    if low.startswith(OVER) and low.count("-") == 1 and not numbers.has_digit(low):
        low = low.replace("-", "")
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
    for at, word in enumerate(plain):
        if (previous, word) in PHRASES and not _is_plain(plain, at):
            found[-1] = PHRASES[previous, word]
        elif word == "to" and previous in {"use", "used"} and not (found[-2:-1] and found[-2] in USERS):
            found[-1] = FORMERLY
        elif word == "used" and previous in TRADED:
            found.append(SECONDHAND)
        else:
            found.append(word)
        previous = word
    return found


def _is_plain(plain: list[str], at: int) -> bool:
    """Does the second word of a phrase stand by itself here: "is the drug free", not "a drug free zone"; "the planet Mars"?"""
    after = plain[at + 1 : at + 2]
    if plain[at] == PLANET:
        return plain[at - 1] == "the" and bool(after) and after[0] not in AUXILIARIES
    return (
        plain[at] == FREE and at > 1 and plain[at - 2] in OWNING and (not after or after[0] in LEADS) and plain[at - 1] in FREED
    )


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
DIRECTION_TOKENS: Final = frozenset(map(canonical, DIRECTIONS - {"up", "on", "over", "ahead", "behind"}))
