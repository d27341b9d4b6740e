"""Is it asked what is, was, will be, can be, should be or must be; and of all, of some, of what is good or best?

Each function reads two questions from the words on that ask them.
"""

from itertools import pairwise
from typing import Final

from sentinel_gateway.core.guards.lexicon import ARTICLES, LEADS, known, table, words
from sentinel_gateway.core.guards.voice import is_participle
from sentinel_gateway.core.guards.words import canonical

AUXILIARY: Final = {
    **dict.fromkeys(words("is are am do does"), "present"),
    **dict.fromkeys(words("was were did had"), "past"),
    **dict.fromkeys(words("will gonna"), "future"),
    **dict.fromkeys(words("can could may might"), "can"),
    **dict.fromkeys(words("should ought"), "should"),
    "must": "must",
    "would": "would",
    **dict.fromkeys(words("shall has have"), "open"),
}
"""The first of these in a question says what it asks for."""
OPEN: Final = "open"
"""It does not say."""
TENSES: Final = frozenset({"present", "past", "future"})
DOERS: Final = frozenset({"who", "what"})
HAVING: Final = frozenset({"has", "have"})
DOING: Final = frozenset({"do", "does"})
OBLIGED: Final = words("have has had need needs supposed required")
"""Before "to", these say "must"."""
EXPECT: Final = "expect"
"""What one can expect is what one should expect."""
BEEN: Final = words("been had gone come become")
"""Behind "have" these are participles, too."""
LEAST: Final = 3
"""Words of a question whose auxiliary and subject are followed by more."""
READ: Final = 6
"""So many words say it."""
POLITE: Final = words("i you u we one it this that there they he she someone somebody anyone anybody my your could might may")
"""With one of these "would" only asks more politely than "can"; what a dog would eat is not what it can."""
EFFECTS: Final = words("help reduce cause improve prevent affect")
"""What would do one of these can do it."""
ROUGHLY: Final = {"must": "should", "would": OPEN}
TOLERANT: Final = {
    "would": frozenset({"should", "must", "past", "past-must"}),
    "perfect": frozenset({"future", "can", "should", "must", "would", "future-must"}),
}
"""Of these, what else they are not."""

WHO_OF: Final = table("""
all every each everyone everybody everything
most
some any someone somebody something anyone anybody anything
few
many several
""")
"""Right behind the auxiliary, these say of how many it is asked."""
ALWAYS: Final = "always"
ENTIRE: Final = table("""
whole entire
much many lot lots alot plenty
""")
"""These say how much of it."""
ADDED: Final = words("so too very how as that thank thanks you not parking")
"""Behind these they say something else: "thanks a lot", "the parking lot"."""
DIFFERENT: Final = "different"
GRADES: Final = table("""
good great
better
best greatest ideal
""")


def answers_differ(a: tuple[str, ...], b: tuple[str, ...], *, alike: bool) -> bool:
    """Both ask for yes or no, of the same words if they are `alike`: may the one be yes and the other no?"""
    if _quantified(a, b) or _quantified(b, a) or (ALWAYS in a) != (ALWAYS in b) or _entire(a) != _entire(b):
        return True
    if alike and ((DIFFERENT in a) != (DIFFERENT in b) or (_has(a) and _is(b)) or (_has(b) and _is(a))):
        return True
    left, right = known(GRADES, a), known(GRADES, b)
    if left and right and left != right:
        return True
    one, other = _told(a), _told(b)
    if one == other or OPEN in {one, other}:
        return False
    if {one, other} == {"present", "must"}:
        return "must" in {a[0], b[0]}  # "Do I have to pay" is what is meant by "do I pay", too
    if "perfect" in {one, other} and "present" in {one, other}:
        return (b if one == "perfect" else a)[0] in DOING  # "Have you eaten", "do you eat"; but "has it", "is it been sent"
    if {one, other} == {"would", "can"}:
        return POLITE.isdisjoint((*a[:2], *b[:2])) and EFFECTS.isdisjoint((*a[:READ], *b[:READ]))
    return next((bool({one, other} & unlike) for lenient, unlike in TOLERANT.items() if lenient in {one, other}), True)


def roughly_differ(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    """One asks for yes or no and the other for more: the same, as far as it can be told."""
    one, other = (ROUGHLY.get(mode, mode) for mode in (_mode(a), _mode(b)))
    return one != other and OPEN not in {one, other}


def open_ones_differ(a: tuple[str, ...], b: tuple[str, ...], *, bounded: bool) -> bool:
    """The same of two that ask for more. `bounded`: for what has bounds, as how much and when."""
    one, other = _mode(a), _mode(b)
    if _is_undone(a, one) != _is_undone(b, other):
        return True
    if {one, other} <= TENSES:
        return one != other and not (_is_timeless(a) and _is_timeless(b))
    expected = EXPECT in a and EXPECT in b
    return bounded and not expected and "can" in {one, other} and not {"should", "must"}.isdisjoint({one, other})


def _quantified(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    """Is the first asked of all, or of some, and the second of others, or of the same without a word of how many?"""
    if len(a) < LEAST or a[1] not in WHO_OF:
        return False
    if a[1] == "any" and AUXILIARY[a[0]] == AUXILIARY[b[0]] == "can" and b[1:2] in {("a",), ("an",)}:
        return False  # "Can any citizen vote" is whether a citizen can
    other = next((word for word in b[1:] if word not in ARTICLES), "")
    return WHO_OF[a[1]] != WHO_OF[other] if other in WHO_OF else canonical(other) == canonical(a[2])


def _entire(asked: tuple[str, ...]) -> frozenset[str]:
    """Which of the words that say how much of it."""
    if ENTIRE.keys().isdisjoint(asked[:READ]):
        return frozenset()
    told = [word for word in asked[:READ] if word != "a"]
    return frozenset(ENTIRE[word] for before, word in pairwise(told) if word in ENTIRE and before not in ADDED)


def _has(asked: tuple[str, ...]) -> bool:
    return asked[0] in DOING and "have" in asked and LEADS.isdisjoint(asked)


def _is(asked: tuple[str, ...]) -> bool:
    return asked[0] in {"is", "are", "am"} and asked[1:2] != ("there",)


def _told(asked: tuple[str, ...]) -> str:
    mode = _mode(asked)
    if any(one in OBLIGED and other == "to" for one, other in pairwise(asked[:READ])):
        return "must" if mode in {"present", "must", "would", OPEN} else f"{mode}-must"
    if _is_undone(asked, mode):
        return f"{mode}-have"
    if asked and asked[0] in HAVING and any(map(_is_past, asked[2:READ])):
        return "perfect"
    return mode


def _is_undone(asked: tuple[str, ...], mode: str) -> bool:
    """Is it of the past what could or should have been?"""
    spoken = asked[:READ]
    return mode in {"can", "should"} and any(one == "have" and _is_past(other) for one, other in pairwise(spoken))


def _is_past(word: str) -> bool:
    return is_participle(word) or word in BEEN


def _is_timeless(asked: tuple[str, ...]) -> bool:
    """Is it "why", or "how" something is done? Then is, was and will be have one answer."""
    asked = asked[:5]
    return asked[:1] == ("why",) or (asked[:1] == ("how",) and {"be", "is", "are", "was", "were", "did"}.isdisjoint(asked))


def _mode(asked: tuple[str, ...]) -> str:
    """Does it ask for what is, was, will be, can be or should be?"""
    if not asked:
        return OPEN
    asked = asked[:5]
    if asked[:3] == ("is", "it", "possible") or (asked[:2] == ("is", "there") and "way" in asked):
        return "can"
    if "able" in asked:
        return "can"
    if asked[0] in DOERS and asked[1:2] and asked[1] not in AUXILIARY:
        return "past" if asked[1].endswith("ed") else "present" if asked[1].endswith("s") else OPEN
    return next((AUXILIARY[word] for word in asked if word in AUXILIARY), OPEN)
