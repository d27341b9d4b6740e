"""What is asked for: who or when or why, can or should, was or is, to do or to tell, and in which form.

These words say nothing of the subject, so the words of two texts may all agree and the answers still differ.
"""

from itertools import pairwise
from typing import Final, NamedTuple

from sentinel_gateway.core.guards import modes
from sentinel_gateway.core.guards.lexicon import known, table, words
from sentinel_gateway.core.guards.numbers import MARK
from sentinel_gateway.core.guards.words import Pair, Reading

WH: Final = words("who whom whose what which when where why how whats")
REPORTING: Final = words("i need want trying my the there it we our a an this when if after while")
REPORTED: Final = frozenset({"tell", "what", "how", "why", "where"})
"""Whoever reports a trouble wants to hear why and how to mend it."""
HELP: Final = frozenset({"tell", "how", "polar"})
TOLD: Final = frozenset({"tell", "what"})
MEASURES: Final = {"many": "how-many", "much": "how-much", "long": "how-long", "often": "how-often", "far": "how-far",
    "old": "how-old",
                   "tall": "how-tall", "big": "how-big", "high": "how-tall", "come": "why", "fast": "how-fast"}  # fmt: skip
BOUNDED: Final = frozenset(MEASURES.values()) - {"why"} | {"when"}
"""Of these, what can be, what should be and what must be are three answers."""
ASKERS: Final = words("i we you u one")
"""Whom they can ask is whom they should ask, but not whom they must; who can vote is not who should."""
EATEN: Final = words("eat drink feed")
"""What one can eat is not what one should eat, unless it is for something: "to lose weight", "for a cold"."""
PURPOSE: Final = words("to for")
LIKENESS: Final = frozenset({("look", "like"), ("looks", "like"), ("feel", "like"), ("feels", "like")})
OPINED: Final = words("opinion opinions thoughts view views")
OPINIONS: Final = OPINED | words("think thinks believe believes feel feels")
ABOUT: Final = frozenset({"of", "about", "on"})
COMING: Final = words("come comes coming came is are was were")
USES: Final = words("use uses purpose")
CLAUSES: Final = words("if whether that when")
READ: Final = 6
"""Words in which "know" or "tell" makes it a question of signs."""
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
    WH
    | modes.AUXILIARY.keys()
    | REQUESTS
    | words("check track find get display read look pull view see any wheres convert weather")
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
    kinds = _kinds(a.plain, left) & _kinds(b.plain, right)
    if not kinds:
        return True
    asked = a.plain[left.at :] if left.at >= 0 else (), b.plain[right.at :] if right.at >= 0 else ()
    if left.polar and right.polar:
        return modes.answers_differ(*asked, alike=a.tokens == b.tokens)
    if left.polar or right.polar:
        return modes.roughly_differ(*asked)
    return modes.open_ones_differ(*asked, bounded=_is_bounded(kinds, *asked))


def _is_bounded(kinds: frozenset[str], a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    """Is it asked for what has bounds: how much, when, who does, what to eat? Then it matters whether it can or should be."""
    if "who" in kinds:
        return ASKERS.isdisjoint((*a[2:3], *b[2:3])) or "must" in (*a[1:2], *b[1:2])
    return not BOUNDED.isdisjoint(kinds) or (
        "what" in kinds and all(PURPOSE.isdisjoint(one) and not EATEN.isdisjoint(one) for one in (a, b))
    )


def _ask(reading: Reading) -> Ask:
    """The first question: a question word before an auxiliary, or an auxiliary at a clause's start; else any question word."""
    plain = reading.plain
    size = len(plain)
    polar = next((i for i in reading.starts if i < size and plain[i] in modes.AUXILIARY and not _is_request(plain[i:])), size)
    asking = () if WH.isdisjoint(plain) else tuple(i for i, word in enumerate(plain) if word in WH)
    firm = (i for i in asking if plain[i] in {"how", "whats"} or (i + 1 < size and plain[i + 1] in modes.AUXILIARY))
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
    special = _special(word, plain[ask.at :])
    if special and TOLD.isdisjoint(special):
        return special
    if word == "how":
        return frozenset({MEASURES.get(following[0], "how") if following else "how"})
    if word in {"what", "which", "whats"}:
        asked = {"what", "tell", *special, *(WHAT_OF[other] for other in plain if other in WHAT_OF)}
        if plain.count("do") > 1:
            asked.add("how")  # "What do I do to become"
        return frozenset(asked | {"who", "where", "when"} if word == "which" else asked)
    return frozenset({"who" if word in {"whom", "whose"} else word})


def _special(word: str, asked: tuple[str, ...]) -> frozenset[str]:
    """What small words make of a question word: "how do you know if", "what does it look like", "where is it from".

    With `TOLD` among it, the question may be of the usual kinds as well: "what is the best way to use it".
    """
    if word == "how" and asked[1:2] and asked[1] not in MEASURES:
        signs = any(one == "know" or (one == "tell" and other in CLAUSES) for one, other in pairwise(asked[2:READ]))
        return frozenset({"how-known"} if signs and "let" not in asked else ())
    if word == "where" and asked[-1] == "from":
        return frozenset({"where-from"} if not COMING.isdisjoint(asked[1:]) else {"where", "where-from"})
    return _special_what(asked) if word in {"what", "whats"} else frozenset()


def _special_what(asked: tuple[str, ...]) -> frozenset[str]:
    couples = list(pairwise(asked))
    if not LIKENESS.isdisjoint(couples):
        return frozenset({"what-like"})
    if asked[-1] == "like" or ("like", "to") in couples:
        return frozenset({"what-like", *TOLD})
    if asked[-2:] == ("used", "for"):
        return frozenset({"what-for"})
    if asked[-1] == "for" or not USES.isdisjoint(asked):
        return frozenset({"what-for", *TOLD})
    if any(one in OPINIONS and other in ABOUT for one, other in couples):
        return frozenset({"opinion"} if OPINED.isdisjoint(asked) else {"opinion", *TOLD})
    return frozenset()


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
