"""Who does it, and to whom it is done, where only the form of the verb says so: "Can I sue?", "Can I be sued?"."""

from typing import Final

from sentinel_gateway.core.guards.lexicon import ARTICLES, AUXILIARIES, LEADS, words
from sentinel_gateway.core.guards.words import Pair, canonical

DONE: Final = "ed"
DOING: Final = "ing"
IRREGULAR: Final = words(
    "made built kept sent sold paid read set reset put cut found held taught caught bought written taken given known grown drawn",
    "driven spoken broken chosen stolen done told seen shown spent won lost met run begun sung eaten bitten beaten",
    "hit hurt hidden forgiven forgotten left sworn torn worn thrown shot struck",
)
BEING: Final = words("is are am was were be been being get gets got getting gotten")
BASES: Final = {
    "told": "tell", "given": "give", "known": "know", "found": "find", "forgiven": "forgive", "beaten": "beat", "bitten": "bite",
    "hidden": "hide", "shot": "shoot", "struck": "strike", "sworn": "swear", "torn": "tear",
}  # fmt: skip
"""Of those that are no form of their verb to `canonical`, the verb."""
SOON: Final = 5
"""Words in which one may follow the other."""
OWNED: Final = ARTICLES | words("my your his her our their")
PASSED_OVER: Final = AUXILIARIES | OWNED | {"not", "cannot"}
MIDDLE: Final = frozenset(
    map(
        canonical,
        words(
            "ship close open start stop begin end change break update decline cancel freeze lock move load save sell expire grow",
            "cook boil increase decrease improve complete process show launch clear store",
            "form develop release premiere air stream finish resume pause install download upload update sync connect load",
            "transfer transmit spread heal dissolve melt shrink stretch crack evaporate condense dry burn fade divide split",
            "separate merge mix combine rotate expand settle unlock restart reboot activate evolve",
        ),
    )
)
"""Of these, what is done to a thing is what the thing does: "the shop closes", "the shop is closed"."""


def differ(pair: Pair) -> bool:
    """Does the same one do in one text what is done to them in the other?"""
    a, b = _suffered(pair.a.plain), _suffered(pair.b.plain)
    return a != b and not ((a - b).isdisjoint(_done(pair.b.plain)) and (b - a).isdisjoint(_done(pair.a.plain)))


def _suffered(plain: tuple[str, ...]) -> set[tuple[str, str]]:
    """(To whom, what) of each passive: a participle soon behind "be" or "get", not after a preposition."""
    found: set[tuple[str, str]] = set()
    if BEING.isdisjoint(plain):
        return found
    who, apart = "to", SOON
    for word in plain:
        if apart < SOON and is_participle(word) and who not in LEADS and canonical(word) not in MIDDLE:
            found.add((who, canonical(BASES.get(word, word))))
        apart = 0 if word in BEING else apart + 1
        who = who if word in PASSED_OVER else word
    return found


def _done(plain: tuple[str, ...]) -> set[tuple[str, str]]:
    """(Who, what) of each word that may be what they do: no participle, and behind "be" no noun: "is there a fee charge"."""
    found: set[tuple[str, str]] = set()
    who, before, auxiliary = "to", "", ""
    for word in plain:
        if before not in OWNED and not is_participle(word) and (auxiliary not in BEING or word.endswith(DOING)):
            found.add((who, canonical(word)))
        who = who if word in PASSED_OVER else word
        before, auxiliary = word, word if word in AUXILIARIES else auxiliary
    return found


def is_participle(word: str) -> bool:
    return word.endswith(DONE) or word in IRREGULAR
