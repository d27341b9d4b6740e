"""Who does what to whom: the same words in another order, or with another preposition.

What both texts say is compared in its order. A block may change its place if it keeps its preposition ("In 2019, who won?"),
the sides of "and" may change places, "the capital of France" is "France's capital", and a passive with "by" turns its verb's
sides around. Any other order is taken for another question.
"""

from collections import Counter
from itertools import pairwise
from typing import Final

from sentinel_gateway.core.guards import voice
from sentinel_gateway.core.guards.lexicon import FILLERS, KEPT_FORMS, NOT, words
from sentinel_gateway.core.guards.numbers import MARK
from sentinel_gateway.core.guards.voice import DONE, IRREGULAR
from sentinel_gateway.core.guards.words import LINK, Pair, Reading, canonical, stem

JOINING: Final = frozenset({"and", "or", "vs", "versus"})
OWNING: Final = ({"of", "'s"}, {"of", ""}, {"in", "'s"})
LONGEST_JOINED: Final = 3
BOTH: Final = 2
CLAUSE: Final = 3
"""Doer, verb, done to."""
LONGEST_MOVED: Final = 24
"""Tokens of a reordered stretch that are still looked at block by block."""
MARGIN: Final = 3
"""Blocks that change places may end or begin alike: "British English and American English"."""
BINDING: Final = frozenset({"than", "by", "'s", "from", *JOINING})
PASSIVE: Final = ({"by", ""}, {"by", LINK})
DOERS: Final = frozenset({"who", "what"})
CHOOSING: Final = frozenset({"which", "what"})
MANNER: Final = "ly"
"""The end of a word that may stand before or behind what is done."""
COPULAS: Final = words("is are was were be been being")
SEQUENCE: Final = words("then concatenate concat reverse group")
"""What says that the order is meant."""
CONTRARY: Final = frozenset(
    frozenset(couple.split("/"))
    for couple in words(
        "from/to from/into from/onto before/after over/under above/below in/out inside/outside with/against for/against up/down "
        "until/after till/after until/since before/since during/after during/before above/under over/below on/off and/or "
        "between/outside by/after on/under before/between ahead/behind near/outside to/against out/to by/to by/for by/of"
    )
)

Placed = tuple[str, str]
"""A token and what leads it."""


def differs(pair: Pair) -> bool:
    """Do the words that both texts hold play other parts in one than in the other?"""
    if voice.differ(pair):
        return True
    if pair.a.tokens == pair.b.tokens and pair.a.leads == pair.b.leads:
        return _told_apart(pair.a) and _twins(pair.a) != _twins(pair.b)
    a, b = _shared(pair.a, pair.only_a), _shared(pair.b, pair.only_b)
    if a and NOT in (a[0][0], b[0][0]):
        a, b = ([placed for placed in side if placed[0] != NOT] for side in (a, b))
    start = _agreeing(a, b)
    end = len(a) - _agreeing(a[start:][::-1], b[start:][::-1])
    kept = [*range(start), *range(end, len(a))]
    if any(_contrary(a[i][1], b[i][1]) for i in kept):
        return True
    if start == end or _turned(a[start:end], b[start:end]):
        return False
    if end - start > LONGEST_MOVED or _asks_doer(pair.a.plain) != _asks_doer(pair.b.plain):
        return True
    windows = ((max(start - before, 0), end + after) for before in range(MARGIN) for after in range(MARGIN))
    return not any(_moved(pair, a[left:right], b[left:right]) for left, right in windows)


def _told_apart(reading: Reading) -> bool:
    """Does it ask whether one word is another of the same meaning: "is a town a city"?"""
    if COPULAS.isdisjoint(reading.plain[:1]):
        return False
    placed = zip(reading.tokens, reading.tokens[1:], reading.leads[1:], strict=False)
    return any(one == other and lead not in JOINING for one, other, lead in placed)


def _twins(reading: Reading) -> list[str]:
    """Words whose meaning comes twice, as they are written and in their order."""
    often = {token for token, count in Counter(reading.tokens).items() if count > 1}
    return [stem(word) for word in reading.plain if canonical(word) in often]


def _agreeing(a: list[Placed], b: list[Placed]) -> int:
    """How many tokens from the start are the same in both?"""
    return next((i for i, ((left, _), (right, _)) in enumerate(zip(a, b, strict=True)) if left != right), len(a))


def _shared(reading: Reading, only: tuple[str, ...]) -> list[Placed]:
    """The tokens with their leads, less those that the other text lacks."""
    surplus = Counter(only)
    found: list[Placed] = []
    for placed in zip(reading.tokens, reading.leads, strict=True):
        if surplus[placed[0]] > 0:
            surplus[placed[0]] -= 1
        else:
            found.append(placed)
    return found


def _contrary(one: str, other: str) -> bool:
    """Do two leads of the same word turn its part around? "by" against nothing is a passive."""
    return one != other and (frozenset((one, other)) in CONTRARY or {one, other} in PASSIVE)


def _turned(a: list[Placed], b: list[Placed]) -> bool:
    """Active against passive: "Does Ann trust Bob?", "Is Bob trusted by Ann?"."""
    mirrored = len(a) == len(b) == CLAUSE and [token for token, _ in a] == [token for token, _ in reversed(b)]
    return mirrored and (a[-1][1] == "by") != (b[-1][1] == "by") and not (a[0][1] or b[0][1])


def _moved(pair: Pair, a: list[Placed], b: list[Placed]) -> bool:
    """Is `b` the two halves of `a` exchanged, in a way that keeps their parts?"""
    first = [token for token, _ in a]
    second = [token for token, _ in b]
    size = len(a)
    cuts = (cut for cut in range(1, size) if first[cut:] == second[: size - cut] and first[:cut] == second[size - cut :])
    return any(_keeps_parts(pair, a, b, cut) for cut in cuts)


def _keeps_parts(pair: Pair, a: list[Placed], b: list[Placed], cut: int) -> bool:
    """`a` is P + Q with P of `cut` tokens, `b` is Q + P."""
    (_, p_in_a), (_, q_in_a), (_, q_in_b), (_, p_in_b) = a[0], a[cut], b[0], b[len(b) - cut]
    if SEQUENCE.intersection(pair.a.plain):
        return False
    if q_in_a == p_in_b and q_in_a in JOINING:
        return max(cut, len(a) - cut) <= LONGEST_JOINED and not any(token.startswith(MARK) for token, _ in a)
    if {q_in_a, p_in_b} in OWNING:
        return True
    kept = (p_in_a == p_in_b) + (q_in_a == q_in_b)
    if kept == BOTH and not p_in_a and not q_in_a:
        both = (*pair.a.plain, *pair.b.plain)
        free = {canonical(word) for word in both if word.endswith(MANNER) and word not in KEPT_FORMS}
        free |= _participles(pair.a.plain) ^ _participles(pair.b.plain)
        return free.issuperset(token for token, _ in a[:cut]) or free.issuperset(token for token, _ in a[cut:])
    return kept == BOTH or (kept == 1 and BINDING.isdisjoint((p_in_a, p_in_b, q_in_a, q_in_b)))


def _participles(plain: tuple[str, ...]) -> set[str]:
    """What is done in a passive: "How is it calculated?" asks what "How do you calculate it?" asks."""
    if COPULAS.isdisjoint(plain):
        return set()
    return {canonical(word) for word in plain if word.endswith(DONE) or word in IRREGULAR}


def _asks_doer(plain: tuple[str, ...]) -> bool:
    """Is the question word its own subject: "who bought", "which team won", not "who did they buy"?"""
    if any(word in DOERS and following not in FILLERS for word, following in pairwise(plain)):
        return True
    chosen = zip(plain, plain[1:], plain[2:], strict=False)
    return any(word in CHOOSING and what not in FILLERS and following.endswith(DONE) for word, what, following in chosen)
