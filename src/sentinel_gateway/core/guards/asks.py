"""What is asked for: who or when or why, can or should, was or is, to do or to tell, and in which form.

These words say nothing of the subject, so the words of two texts may all agree and the answers still differ.
"""

from itertools import pairwise
from typing import Final, NamedTuple

from sentinel_gateway.core.guards.lexicon import known, table, words
from sentinel_gateway.core.guards.numbers import MARK
from sentinel_gateway.core.guards.words import Pair, Reading

WH: Final = words("who whom whose what which when where why how whats")
AUXILIARY: Final = {
    **dict.fromkeys(words("is are am do does"), "present"),
    **dict.fromkeys(words("was were did had"), "past"),
    **dict.fromkeys(words("will gonna"), "future"),
    **dict.fromkeys(words("can could may might"), "can"),
    **dict.fromkeys(words("should must ought"), "should"),
    **dict.fromkeys(words("would shall has have"), "open"),
}
"""The first of these in a question says whether it asks for what is, was, will be, can be or should be."""
TENSES: Final = frozenset({"present", "past", "future"})
DOERS: Final = frozenset({"who", "what"})
REPORTING: Final = words("i need want trying my the there it we our a an this when if after while")
REPORTED: Final = frozenset({"tell", "what", "how", "why", "where"})
"""Whoever reports a trouble wants to hear why and how to mend it."""
HELP: Final = frozenset({"tell", "how", "polar"})
TOLD: Final = frozenset({"tell", "what"})
MEASURES: Final = {"many": "how-many", "much": "how-much", "long": "how-long", "often": "how-often", "far": "how-far",
    "old": "how-old",
                   "tall": "how-tall", "big": "how-big", "high": "how-tall", "come": "why", "fast": "how-fast"}  # fmt: skip
WHAT_OF: Final = {
    **dict.fromkeys(words("time date year day month"), "when"),
    **dict.fromkeys(words("place"), "where"),
    **dict.fromkeys(words("reason reasons importance significance makes causes cause caused"), "why"),
    **dict.fromkeys(words("way ways method methods step steps process procedure should can best"), "how"),
    **dict.fromkeys(words("price cost costs fee amount"), "how-much"),
    **dict.fromkeys(words("number"), "how-many"),
    **dict.fromkeys(words("age"), "how-old"),
    **dict.fromkeys(words("height"), "how-tall"),
    **dict.fromkeys(words("distance"), "how-far"),
}
"""What a "what" with this word asks for besides "what"."""
REQUESTS: Final = words(
    "tell explain describe show give help let know say list name recommend suggest someone write provide define"
)
ASKS: Final = (
    WH | AUXILIARY.keys() | REQUESTS | words("check track find get display read look pull view see any wheres convert weather")
)
"""With one of these a sentence begins that asks, whether or not it ends in a question mark."""
ASKED: Final = words("you someone anyone anybody somebody")
POLITE: Final = words("please quick question can could would will you i hi hello hey want need like to kindly do so ok now just")

ACTIONS: Final = words(
    "cancel delete remove transfer send pay close lock unlock block freeze buy sell book order dispute",
    "file increase raise decrease",
    "lower move stop shut submit withdraw deposit refund return activate deactivate disable enable",
    "upgrade downgrade reset update",
    "change renew terminate reserve schedule reschedule deploy restart reboot wire approve reject",
    "subscribe unsubscribe post publish",
    "drop kill revoke",
)
OWN: Final = words("my our me us mine")

FORMS: Final = table("""
json
xml
yaml
csv
html
markdown
latex
tabular
bullet bullets bulleted
poem haiku limerick rhyme sonnet
essay
tweet
sql
regex
outline
numbered
briefly brief concise concisely
detail detailed details comprehensive thorough
layman beginner beginners
formal formally
informal informally casual casually
summarize summarise summary sum tldr
translate translation
rewrite paraphrase rephrase
compare comparison contrast
define definition
prove proof
critique criticize
classify categorize
extract
debug
refactor
optimize optimise
recipe recipes
yes
""")
"""What changes the form of an answer, or what is done with the subject."""
REPLYING: Final = words("answer reply respond")
TASKS: Final = words(
    "explain describe check shorten simplify improve expand correct proofread annotate verify edit",
    "continue finish comment document",
    "analyze analyse discuss solve complete format fix outline read write",
)


class Ask(NamedTuple):
    """Where a text asks, and how."""

    at: int
    """The place of the word that asks; -1 if there is none."""
    polar: bool
    """Is it an auxiliary at the start of a clause, so that yes or no is an answer?"""


def kinds_differ(pair: Pair) -> bool:
    """Do the question words want different things, or does one text ask for what is and the other for what was or should be?"""
    a, b = pair.a, pair.b
    if (a.plain, a.starts) == (b.plain, b.starts):
        return False
    left, right = _ask(a), _ask(b)
    if _kinds(a.plain, left).isdisjoint(_kinds(b.plain, right)):
        return True
    one, other = _mode(a.plain, left), _mode(b.plain, right)
    if one == other or "open" in {one, other}:
        return False
    return (
        left.polar
        or right.polar
        or ({one, other} <= TENSES and not (_is_timeless(a.plain, left) and _is_timeless(b.plain, right)))
    )


def _is_timeless(plain: tuple[str, ...], ask: Ask) -> bool:
    """Is it "why", or "how" something is done? Then is, was and will be have one answer."""
    asked = plain[ask.at : ask.at + 5]
    return asked[:1] == ("why",) or (asked[:1] == ("how",) and {"be", "is", "are", "was", "were", "did"}.isdisjoint(asked))


def _ask(reading: Reading) -> Ask:
    """The first question: a question word before an auxiliary, or an auxiliary at a clause's start; else any question word."""
    plain = reading.plain
    size = len(plain)
    polar = next((i for i in reading.starts if i < size and plain[i] in AUXILIARY and not _is_request(plain[i:])), size)
    asking = () if WH.isdisjoint(plain) else tuple(i for i, word in enumerate(plain) if word in WH)
    firm = (i for i in asking if plain[i] in {"how", "whats"} or (i + 1 < size and plain[i + 1] in AUXILIARY))
    first = next(firm, size)
    if polar < first:
        return Ask(polar, polar=True)
    return Ask(first if first < size else asking[0] if asking else -1, polar=False)


def _is_request(plain: tuple[str, ...]) -> bool:
    """Does it begin as "Can you tell me", which asks for more than yes or no?"""
    return len(plain) > 1 and plain[1] in ASKED and not REQUESTS.isdisjoint(plain[2:5])


def _kinds(plain: tuple[str, ...], ask: Ask) -> frozenset[str]:
    """What may be asked for. "tell" is a request without a question word."""
    if ask.polar:
        told = TOLD if plain[ask.at + 1 : ask.at + 3] == ("there", "any") else frozenset[str]()
        return told | frozenset({"polar", *(WHAT_OF[word] for word in plain[ask.at + 2 : ask.at + 5] if word in WHAT_OF)})
    if ask.at < 0:
        return REPORTED if plain[:1] and plain[0] in REPORTING else HELP if plain[:1] == ("help",) else TOLD
    word, following = plain[ask.at], plain[ask.at + 1 : ask.at + 2]
    if word == "how":
        return frozenset({MEASURES.get(following[0], "how") if following else "how"})
    if word in {"what", "which", "whats"}:
        asked = {"what", "tell", *(WHAT_OF[other] for other in plain if other in WHAT_OF)}
        if plain.count("do") > 1:
            asked.add("how")  # "What do I do to become"
        return frozenset(asked | {"who", "where", "when"} if word == "which" else asked)
    return frozenset({"who" if word in {"whom", "whose"} else word})


def _mode(plain: tuple[str, ...], ask: Ask) -> str:
    """Does it ask for what is, was, will be, can be or should be? "open" if it doesn't say."""
    if ask.at < 0:
        return "open"
    asked = plain[ask.at : ask.at + 5]
    if asked[:3] == ("is", "it", "possible") or (asked[:2] == ("is", "there") and "way" in asked):
        return "can"
    if "able" in asked:
        return "can"
    if asked[0] in DOERS and asked[1:2] and asked[1] not in AUXILIARY:
        return "past" if asked[1].endswith("ed") else "present" if asked[1].endswith("s") else "open"
    return next((AUXILIARY[word] for word in asked if word in AUXILIARY), "open")


def acts(pair: Pair) -> bool:
    """Is either an order to do something to what is the caller's own? Nothing was done when the stored answer is served."""
    return _orders(pair.a) or _orders(pair.b)


def _orders(reading: Reading) -> bool:
    own = not OWN.isdisjoint(reading.plain) or any(token.startswith(MARK) for token in reading.tokens)
    return own and not ACTIONS.isdisjoint(_first_words(reading))


def _first_words(reading: Reading) -> list[str]:
    """The first word of each clause that is no politeness: the verb, where the clause is an order."""
    plain = reading.plain
    return [next((word for word in plain[i : i + 5] if word not in POLITE), "") for i in reading.starts]


def forms_differ(pair: Pair) -> bool:
    """Is another form of answer asked for, or its words, or something else to be done with the subject?"""
    a, b = pair.a, pair.b
    if known(FORMS, a.plain) != known(FORMS, b.plain) or _dictated(a.plain) != _dictated(b.plain):
        return True
    return _tasks_differ(_task(a), _task(b))


def _dictated(plain: tuple[str, ...]) -> bool:
    """Does it say what to say: "answer with", "reply with"?"""
    return "with" in plain and any(before in REPLYING and word == "with" for before, word in pairwise(plain))


def _tasks_differ(one: str, other: str) -> bool:
    return bool(one and other) and one != other


def _task(reading: Reading) -> str:
    """The verb of an order about a text; the empty string if it is no such order."""
    return next((word for word in _first_words(reading) if word in TASKS), "")
