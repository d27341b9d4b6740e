"""Is a question bound to the moment at which it is asked, or to who asks? Then its answer is not everybody's, or not for long.

Decided before anything is looked up, by the wording alone, for English. Only sentences that ask count: "I paid yesterday" is a
story, "what happened yesterday" is not. Precision comes first: what is missed here still meets the guards, of which `time` knows
the same words; what is caught wrongly costs a hit.
"""

import math
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, Literal

import msgspec

from sentinel_gateway.core.guards.asks import ASKS
from sentinel_gateway.core.guards.lexicon import words
from sentinel_gateway.core.guards.moments import NEWEST, NOW, TIMES, TODAY
from sentinel_gateway.core.guards.words import UPRIGHT

Bound = Literal["time-bound", "personal"]
"""Completes `uncacheable-<why>`."""
Treatment = Literal["usual", "exact", "brief", "never"]
"""As any other question; answered by the very same request alone; so, and kept for a short time only; not kept at all."""

LONGEST: Final = 1024
"""Characters. What is longer is a text to work on, not a question."""
MOST_WORDS: Final = 40
"""Of a sentence that asks."""
MOST_QUESTIONS: Final = 8
"""In one text. More would take longer than the path has."""

_SENTENCE: Final = re.compile(r"[^.?!;\n]+[.?!]*")
_WORD: Final = re.compile(r"[a-z]+|[0-9]+|'s\b")
_QUOTED: Final = re.compile(r'"[^"]*"|`[^`]*`')
_COURTESY: Final = re.compile(
    r"(?:(?:hi|hello|hey|please|so|ok|okay|and|but|also|just|kindly|(?:can|could|would|will) you|do you know|i was wondering|"
    r"(?:i|we) (?:want|need|would like|d like)(?: you)? to(?: know)?|let me know|(?:tell|give) me(?= (?:wh|how|if))) )+"
)
"""What stands before a question."""


def _one_of(words: Iterable[str]) -> str:
    return f"(?:{'|'.join(sorted(words))})"


# What binds a question to the moment. All patterns are held against words in small letters, one space apart, "'s" a word.

_MONTHS: Final = words("january february march april may june july august september october november december")
_DAYS: Final = words("monday tuesday wednesday thursday friday saturday sunday")
_SPAN: Final = _one_of(_MONTHS | _DAYS | words("morning afternoon evening night week weekend month quarter season year"))
_NO_TIME: Final = _one_of(
    words(
        "account accounts affairs in of through and or is that which carrying flow flowing flows density transformer",
        "transformers source divider ratio liabilities assets a an controlled limited",
    )
)
"""After these a current flows, or money does."""
_AGE: Final = _one_of(words("world age era society youth generation standard standards time times life kids children parents"))
_AHEAD: Final = re.compile(
    rf"\b{_one_of(TODAY)}\b(?! 's {_AGE}\b)|\btomorrow\b|\b(?:this|next|coming|upcoming) {_SPAN}\b"
    rf"|(?<!my )(?<!our )\b(?:{_one_of(NEWEST)}|most recent)\b|(?:\bthe|\bis|\bare|'s) current (?!{_NO_TIME}\b)[a-z]"
)
_BEHIND: Final = re.compile(rf"\b(?:yesterday|(?:last|previous) {_SPAN}|this morning|(?:minute|hour|day|week|month)s? ago)\b")
_PRESENT: Final = re.compile(
    r"\b(?:right now|at the moment|currently)\b|^is now\b|(?<!by )(?<!from )(?<!until )(?<!till )(?<!for )\bnow$"
)
"""What people say of themselves as often as of the world."""
_TIMING: Final = NOW | TIMES.keys() | words("this coming recent moment")
"""Without one of these nothing above matches."""
_FIRST: Final = words("i im ive my me we our us")
_HOW_TO: Final = re.compile(r"\bhow (?:do|can)\b")
_SUPPOSED: Final = words("if would compared")
"""What is only supposed is as true tomorrow."""
_PAST: Final = re.compile(r"\b(?:was|were|did|didn|wasn|had|have|ve|got|made|sent|bought|lost|told|paid|found|stole|\w+[^e]ed)\b")

# What changes from minute to minute though no word says so, by a word that each pattern needs.

_IS: Final = r"(?:is|are|'s|s)"
_TRADED: Final = words("gold silver oil petrol gasoline diesel bitcoin btc ethereum eth dogecoin xrp solana")
_MONEY: Final = words(
    "dollar dollars usd euro euros eur pound pounds gbp yen jpy rupee rupees inr peso pesos franc francs chf yuan cny won"
)
_SKY: Final = words("rain raining snow snowing hail sunny cloudy windy hot cold warm")


def _live(needs: Iterable[str], *patterns: str) -> dict[str, re.Pattern[str]]:
    return dict.fromkeys(needs, re.compile("|".join(patterns)))


_LIVE: Final = {
    **_live(
        ["weather"],
        rf"\b(?:what|how) ?(?:{_IS}|will|about) the weather\b",
        r"^(?:the )?weather (?:in|for|at)\b",
        r"\bweather (?:forecast|report) (?:in|for|at)\b",
    ),
    **_live(
        _SKY,
        rf"^(?:is|will) it (?:going to |gonna |be |still )*{_one_of(_SKY)}(?:$| (?:in|at|outside)\b)",
        r"\bhow (?:hot|cold|warm) is it (?:outside|in)\b",
    ),
    **_live(["temperature"], r"\btemperature outside\b"),
    **_live(
        ["stock", "share"],
        rf"^(?:what|how much) ?{_IS} (?:the )?(?:(?!an? )[a-z]+ ){{0,2}}(?:'s )?(?:stock|share) (?:price\b|trading at\b)",
        r"^(?:what|how|get|find|check|show).* (?:stock|share) price (?:of|for)\b",
    ),
    **_live(
        _TRADED,
        rf"\b(?:price|value) of (?:an? |one )?(?:ounce of |crude )?{_one_of(_TRADED)}(?:$| in [a-z]+$)",
        rf"^how much ?{_IS} (?:an? |one )?{_one_of(_TRADED)}(?: worth| trading at| going for)?$",
    ),
    **_live(
        ["exchange"],
        rf"^(?:what|whats|how) ?{_IS} (?:the |your )?(?:(?!an? )[a-z]+ ){{0,2}}exchange rates?\b"
        r"(?!.* (?:fee|work|determined|calculated|set)\b)",
    ),
    **_live(
        _MONEY,
        rf"^how (?:many|much) (?:[a-z]+ )?{_one_of(_MONEY)} (?:(?:is|are|there|in|for|(?:do|can) i get|equals?|an?|[0-9]+) )+"
        rf"(?:[a-z]+ )?{_one_of(_MONEY)}\b",
        rf"^convert [0-9]+ (?:[a-z]+ )?{_one_of(_MONEY)} (?:to|into|in) ",
    ),
    **_live(
        ["score"], rf"^(?:what|whats) ?(?:{_IS}|was)? the (?:final )?score(?:$| of the [a-z ]*(?:game|match)$| in the game\b)"
    ),
    **_live(["winning", "lead"], rf"^who ?{_IS} (?:winning|in the lead)\b"),
    **_live(
        ["traffic"],
        rf"^(?:what|how) ?{_IS} (?:the )?traffic(?:$| like| looking| on| to| in| near| at)\b",
        r"^is (?:there )?(?:any |much |a lot of |heavy )*traffic (?:on|to|in|near|at|heavy|bad)\b",
    ),
    **_live(
        ["flight", "train"],
        r"\bstatus of (?:the |flight |train )*(?:flight|train)\b",
        r"^(?:is|are|has|will|when will) (?:the )?(?:flight|train) [a-z0-9 ]*"
        r"(?:on time|delayed|late|cancelled|canceled|landed|land)$",
    ),
    **_live(["still"], r"^is (?:the )?(?:[a-z]+ ){1,3}still (?:open|down|closed)$"),
    **_live(
        ["news", "headlines"],
        r"^(?:what(?: is| are| 's|s)|show|tell|give|read|any|(?:are|is) there any)"
        r"(?: (?:me|us|the|in|on|today|'s|latest|top|breaking|new|some|local|world|sports?|happening|going|main|any))*"
        r" (?:news|headlines)(?: (?:about|on|from|in|for)\b.*)?$",
    ),
    **_live(
        ["time", "date", "day"],
        r"^what (?:time|day|date) is it\b(?! when)",
        rf"^(?:what|whats) ?{_IS}? ?the (?:time|date)(?: in [a-z ]+)?(?: please)?$",
    ),
}
_IN_GENERAL: Final = _MONTHS | words("usually typically generally normally average historically spring summer autumn fall winter")
"""With these it is the climate that is asked about."""

# What is the caller's own.

_THINGS: Final = [
    *words("order orders invoice invoices bill bills balance balances package packages parcel parcels shipment shipments refund"),
    *words("refunds delivery deliveries payment payments transaction transactions subscription booking bookings reservation"),
    *words("reservations appointment appointments ticket tickets claim claims application applications flight itinerary"),
    *words("calendar schedule agenda meeting meetings reminder reminders inbox email emails message messages alarm alarms"),
    *words("salary paycheck payslip income pto points rewards miles location name address grade grades"),
    *("credit score", "credit limit", "vacation days", "phone number", "account number"),
    *("to do list", "todo list", "shopping list"),
]
_THING: Final = _one_of(_THINGS)
_MINE: Final = rf"(?:my|our) (?:(?!my |our )[a-z]+ ){{0,3}}?{_THING}\b"
_OWN: Final = re.compile(
    rf"^(?:what|whats|where|wheres|when|which|who)\b(?: [a-z']+){{0,6}} {_MINE}"
    rf"|^how (?:much|many|big|high)\b(?: [a-z']+){{0,5}} {_MINE}"
    rf"|^(?:has|have|did|is|are|was|were|will|does) {_MINE}"
    rf"|^(?:show|list|check|track|read|tell|give|display|find|get|see|look|pull|view)(?: [a-z']+){{0,6}} {_MINE}"
    r"|^how (?:much|many)(?: [a-z]+)? (?:do|did|have) (?:i|we) (?:still |currently |already )?(?:owe|spend|spent)\b"
    rf"|^(?:do (?:i|we) have|did (?:i|we) get|have (?:i|we) got) (?:any |an? )?(?:new |more |other |unread )?{_THING}\b"
    r"|^(?:who|where) am i$"
)
_OWING: Final = words("owe spend spent am")
_FOR_ALL: Final = re.compile(
    r"\b(?:how (?:do|can|to|should|could|would|does|is|are)|why|should|could|would|if|ways?|steps?|means?|meaning|fees?|costs?|"
    r"reasons?|best|better|good|ideal|when i|happens?|need to|have to|able to|hand|to [a-z]+ (?:my|our)|"
    r"(?:can|may|must) (?:i|we)|where (?:do|does))\b"
)
"""With these, what to do is asked for, or what holds for everybody."""


_NEEDED: Final = frozenset(
    word.encode() for word in {*_TIMING, *_LIVE, *_OWING, *(thing.rpartition(" ")[2] for thing in _THINGS)}
)
"""Without one of these nothing is bound, which is so of most texts and told in a tenth of the time."""
_SPACED: Final = bytes(code if chr(code) in "abcdefghijklmnopqrstuvwxyz0123456789" else ord(" ") for code in range(256))


class Restriction(msgspec.Struct, frozen=True):
    """This question is not compared with others, and its answer is kept for `most` seconds (0: not at all; None: as any)."""

    why: Bound
    most: float | None = None

    @property
    def forbids(self) -> bool:
        """Is its answer for nobody else, now or later?"""
        return self.most == 0


class BoundRules(msgspec.Struct, frozen=True):
    """What becomes of bound questions. `brief` is a short time, in seconds."""

    personal: Treatment = "brief"
    time: Treatment = "brief"
    brief: float = 300.0


def restriction(text: str, rules: BoundRules) -> Restriction | None:
    """What holds for this question: of what it is bound to, the strictest; None for most."""
    found = bounds(text)
    if not found:
        return None
    treatments: tuple[tuple[Bound, Treatment], ...] = (("personal", rules.personal), ("time-bound", rules.time))
    seconds = {"exact": None, "brief": rules.brief, "never": 0.0}
    held = [Restriction(why, seconds[treatment]) for why, treatment in treatments if why in found and treatment != "usual"]
    return min(held, key=lambda each: math.inf if each.most is None else each.most, default=None)


def bounds(text: str) -> frozenset[Bound]:
    """What the question is bound to; empty for most."""
    if len(text) > LONGEST or _NEEDED.isdisjoint(text.lower().encode("utf-8", "surrogatepass").translate(_SPACED).split()):
        return frozenset()
    return frozenset(found for asked in islice(_questions(text), MOST_QUESTIONS) for found in _bounds(asked))


def _questions(text: str) -> Iterator[str]:
    """The sentences that ask, as the patterns take them."""
    for sentence in _SENTENCE.findall(_QUOTED.sub(" ", text.lower().translate(UPRIGHT))):
        said = " ".join(_WORD.findall(sentence))
        courtesy = _COURTESY.match(said)
        asked = said[courtesy.end() :] if courtesy else said
        if asked.count(" ") < MOST_WORDS and ("?" in sentence or asked.partition(" ")[0] in ASKS):
            yield asked


def _bounds(asked: str) -> Iterator[Bound]:
    said = frozenset(asked.split())
    own = not _FIRST.isdisjoint(said)
    if own and _OWN.search(asked) and not _FOR_ALL.search(asked):
        yield "personal"
    if (not _TIMING.isdisjoint(said) and _is_timed(asked, own=own)) or _is_live(asked, said):
        yield "time-bound"


def _is_timed(asked: str, *, own: bool) -> bool:
    """A story that somebody tells of himself has its time as well, and is not asked about it."""
    if not _SUPPOSED.isdisjoint(asked.split()):
        return False
    if own:
        return _AHEAD.search(asked) is not None and not _PAST.search(asked) and not _HOW_TO.search(asked)
    return any(moment.search(asked) for moment in (_AHEAD, _BEHIND, _PRESENT))


def _is_live(asked: str, said: frozenset[str]) -> bool:
    return _IN_GENERAL.isdisjoint(said) and any(_LIVE[word].search(asked) for word in said if word in _LIVE)
