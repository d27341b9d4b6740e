"""Yes or no, and which end: negations, opposites, comparatives, quantifiers.

These guards may not be softened. A negation counts by parity, so that "unavailable" equals "not available".
"""

import re
from itertools import pairwise
from typing import Final

from sentinel_gateway.core.guards.language import ENGLISH, guess
from sentinel_gateway.core.guards.lexicon import AUXILIARIES, FILLERS, LEADS, NOT, known, table, words
from sentinel_gateway.core.guards.words import DIRECTION_TOKENS, SECONDHAND, Pair, Reading, canonical

PREFIXES: Final = ("un", "in", "im", "il", "ir", "non", "dis", "de")
"""One text has the word, the other the word with one of these before it: a negation."""

OPPOSITES: Final = """
buy|purchase|get - sell
before|prior|until - after|following|since|once
increase|raise|more|grow|rise|gain|climb|expand|widen|surge - decrease|reduce|lower|less|fewer
increase|raise|more|grow|rise|gain|climb|expand|widen|surge - shrink|drop|fall|lose|decline|narrow
most|maximum|max|maximal|maximize|greatest|highest - least|minimum|min|minimal|minimize|fewest|smallest|lowest
normal|typical|usual - abnormal|atypical|unusual
first|start|begin|earliest|initial|launch|beginning|oldest - last|end|stop|latest|final|finish|ending|newest|close|terminate
open|unlock|reopen - shut|close|lock|closed|locked|block|freeze
enable|activate|allow|on|permit|start|turnon - disable|deactivate|forbid|off|ban|prohibit|block|deny|stop|turnoff|prevent|avoid
upload|push|export|send|outgoing|outbound|outbox - download|pull|import|receive|incoming|inbound|inbox
above|over|exceed|upper|top|up|upstairs|upward|higher|ascending|ascend - below|under|lower|bottom
above|over|exceed|upper|top|up|upstairs|upward|higher|ascending|ascend - down|downstairs|downward|descending
big|bigger|biggest|large|larger|largest|great|huge|giant - small|smaller|smallest|tiny|little|mini
high|higher|highest|tall|taller|tallest - low|lower|lowest|short|shorter|shortest
long|longer|longest|extend|lengthen - short|shorter|shortest|shorten|brief
fast|faster|fastest|quick|quicker|accelerate|quickest|hurry - slow|slower|slowest|decelerate
good|better|best|improve|great|positive|well|excellent|enhance - bad|worse|worst|worsen|negative|poor|badly|terrible|awful|evil
hot|hotter|hottest|warm|warmer|heat|heating|warmest|summer - cold|colder|coldest|cool|cooler|cooling|coolest|freeze|winter
old|older|oldest|elder|ancient|senior - young|younger|youngest|new|newer|newest|modern|junior
rich|richer|richest - poor|poorer|poorest
strong|stronger|strongest|strengthen - weak|weaker|weakest|weaken
heavy|heavier|heaviest - light|lighter|lightest
cheap|cheaper|cheapest|inexpensive|affordable|free - expensive|costly|dearest|paid|priciest|pricey|charge
easy|easier|easiest|simple|simpler - hard|harder|hardest|difficult|complex|complicated
near|nearer|nearest|close|closer|closest - far|farther|farthest|further|furthest|distant
early|earlier|earliest|soon - late|later|latest|delayed
inside|in|into|indoor|internal|inner|import|domestic - outside|out|outdoor|external|outer|export|foreign|international
north|northern - south|southern
east|eastern - west|western
left|leftmost - right|rightmost
male|man|men|boy|husband|father|son|brother|king|uncle|mr|gentleman|dad - female|woman|women|girl|wife|mother|daughter
male|man|men|boy|husband|father|son|brother|king|uncle|mr|gentleman|dad - sister|queen|aunt|mrs|ms|lady|mom
add|include|insert|plus|with|append|attach|install|create|save|mount|assign - remove|exclude|subtract|minus|without
add|include|insert|plus|with|append|attach|install|create|save|mount|assign - detach|uninstall|delete|drop|discard|unmount
accept|approve|agree|confirm|admit - reject|decline|refuse|disagree|deny|cancel|dispute
win|winner|victory|succeed|success|pass|passed - lose|loser|defeat|fail|failure|failed
love|like|enjoy|adore - hate|dislike|despise|loathe
push - pull
give|lend|donate - take|borrow|receive|steal
borrow|borrower|debtor|debt|debit|liability|owe|withdraw|withdrawal|spend|expense|loss - lend|lender|creditor|credit|asset
borrow|borrower|debtor|debt|debit|liability|owe|withdraw|withdrawal|spend|expense|loss - deposit|save|income|revenue|profit|own
arrive|arrival|enter|entrance|entry|come|join|check-in|board|hire - depart|departure|leave|exit|go
arrive|arrival|enter|entrance|entry|come|join|check-in|board|hire - quit|check-out|alight|fire|leaving
connect|attach|link|login|subscribe|register|signup|lock|bind - disconnect|detach|unlink|logout
connect|attach|link|login|subscribe|register|signup|lock|bind - unsubscribe|unregister|cancel|unlock|unbind
encrypt|encode|compress|zip|serialize|pack|wrap - decrypt|decode|decompress|unzip|deserialize|unpack|unwrap
cause|trigger|create|worsen - cure|prevent|stop|heal|treat|fix
safe|secure|harmless|protected - dangerous|unsafe|harmful|risky|insecure|vulnerable
legal|lawful|allowed|permitted - illegal|unlawful|forbidden|banned|prohibited
public|open|shared - private|closed|secret|confidential
true|correct|right|accurate|real|genuine - false|incorrect|wrong|inaccurate|fake
full|fill|occupied - empty|drain|vacant
happy|happier|happiest - sad|sadder|saddest|unhappy
present|attend|appear|show|visible|reveal - absent|miss|disappear|hide|hidden|invisible|conceal
alive|live|born|birth|life - dead|die|death|kill
day|daytime|daily - night|nighttime|nightly
morning|breakfast|sunrise - evening|dinner|sunset
friend|ally - enemy|foe
question - answer
ask - answer|reply
parent|parents - child|children
employer|boss|manager - employee|worker|staff
teacher|teach - student|learn
import - export
positive - negative
advantage|benefit|pro|pros|strength|upside - disadvantage|drawback|con|cons|risk|weakness|downside|harm
single|unmarried - married|divorced
marry|married|marriage|wedding - divorce|divorced
single|one-way - return|round-trip|multiple
required|mandatory|compulsory|must|necessary|needed - optional|voluntary|unnecessary|can
temporary - permanent
manual|manually - automatic|automatically
input|source|producer|server|read|load|sender - output|target|consumer|client|write|unload|receiver
read - write
horizontal|horizontally|row|width|wide|wider - vertical|vertically|column|height|narrow|narrower
multiply - divide
add|sum - subtract|multiply|divide
public - private
taxable|taxed - tax-free|untaxed|exempt
cover|covered|included|include - excluded|exclude|exempt
waive|waived|refund|refunded|reimburse|free - charge|charged|impose
active|passively|busy - passive|actively|idle
bull|bullish|long|call - bear|bearish|short|put
forward|forwards|next|ahead|following|future - backward|backwards|previous|behind|past|preceding
wet|rain|rainy|damp - dry|sun|sunny
liquid - solid|gas
thick|thicker|fat - thin|thinner|slim
deep|deeper - shallow|shallower
loud|louder|noisy - quiet|quieter|silent
clean|cleaner - dirty|dirtier
healthy|healthier - sick|ill|unhealthy
soft|softer - hard|harder
odd - even
sharp - blunt|dull
ascending|ascend|asc - descending|descend|desc
religious|sacred - secular|atheist
optimistic|optimist - pessimistic|pessimist
brave - cowardly|coward
generous - stingy|selfish
humble - arrogant|proud
hope|hopeful - despair|hopeless
attack|offense|offensive - defend|defense|defensive
victim - attacker|perpetrator
supply - demand
theory|theoretical - practice|practical
guilty - innocent
natural - artificial|synthetic
major|majority|primary - minor|minority|secondary
common - rare|uncommon
simple - complex
ancestor - descendant
predecessor - successor
prefix - suffix
plaintiff - defendant
landlord - tenant
uppercase - lowercase
synchronous|sync - asynchronous|async
local|locally - remote|remotely|global
static - dynamic
mutable - immutable
vegetarian|vegan|plant - meat
wholesale - retail
front - back|rear
"""
"""One line: words of one end - words of the other."""
LIMITING: Final = words(
    "only unless except excluding exclude avoid prevent stop quit instead refuse deny ban formerly least maximum",
    "minimum above below half twice opposite almost nearly former ex hide hidden undo redo",
    "besides aside exception ignore ignoring omit skip regardless",
    "vice deputy interim co anti pseudo semi fake counterfeit",
    "raw uncooked undercooked pregnant pregnancy breastfeeding newborn infant toddler deceased dead decaf",
    "baby in-law net gross median beta stainless secondhand",
)
"""Words that turn or narrow what is asked even when only one text has them."""
LIMITING_ABROAD: Final = frozenset(
    map(
        canonical,
        words(
            "nicht kein keine keinen keinem keiner nie niemals nichts pas ne jamais rien aucun aucune não nunca nada jamás",
            "mai nessun nessuno nessuna niet geen nooit inte aldrig ikke aldri değil hiç tidak bukan nu nici",
            "ohne sans sin sem senza zonder utan uden uten tanpa fără bez",
            "aus nadie ninguno ninguna ningún tampoco nem nenhum nenhuma ninguém niente nulla ingen inget inga intet",
            "belum jangan yok không nije není",
        ),
    )
)
"""The same in the other languages that are told apart: no more is known of them, and embeddings hardly see these."""
ENGLISH_TOO: Final = words("sin aus nu mai pas")
"""Of them, words that English has as well."""
LEAST_ENGLISH: Final = 2
SAID_USED: Final = frozenset({SECONDHAND})
TURNING: Final = frozenset(map(canonical, LIMITING)) | LIMITING_ABROAD
NARROWING: Final = {"expired": ("expir",), "frozen": ("froze", "freez", "thaw", "defrost")}
"""Words that make another thing of what they stand before; and how words begin that say as much elsewhere: "has it expired"."""

CONDITIONS: Final = table("""
because due
though although despite
until till
even
only
unless
""")
"""What ties a clause to the rest: with another of these, or without it, another thing is asked."""
UNKNOWING: Final = re.compile(r"\s*(?:i(?:'m| am)? )?(?:not|don'?t|do not) (?:know|understand|sure)\b", re.IGNORECASE)
CLAUSE_JOINS: Final = words("and but or while whereas yet that")

ALL: Final = words("all every both entire always")
SOME: Final = words("some few several sometimes")
TOO: Final = "too"
ENOUGH: Final = words("enough sufficiently")
SCARCE: Final = words("few little")
"""With an "a" they are some, without one they are hardly any."""
BARE: Final = AUXILIARIES | LEADS | words("there very so too as")
"""Before a word of the last kind, these leave no room for an "a"."""
LISTING: Final = words("what which how tell")
"""Who asks "what are few ways" or "how in few days" has only left out the "a"."""
STILL_BARE: Final = BARE - LEADS - words("is are")
"""Also where it is asked so."""
EACH: Final = words("each every")
ANY: Final = "any"
AMOUNTS: Final = ALL | SCARCE | EACH | {TOO}
"""Of two texts that differ in how many or how much, one has a word of these."""


def _ends() -> dict[str, frozenset[str]]:
    """Each canonical word -> the words it must not be exchanged for."""
    found: dict[str, set[str]] = {}
    for line in OPPOSITES.strip().splitlines():
        one, other = ({canonical(word) for word in side.split("|")} for side in line.split(" - "))
        for word in one:
            found.setdefault(word, set()).update(other - {word})
        for word in other:
            found.setdefault(word, set()).update(one - {word})
    return {word: frozenset(ends) for word, ends in found.items()}


ENDS: Final = _ends()


def negated(pair: Pair) -> bool:
    """Is one text an odd number of negations away from the other, or does one limit what the other doesn't?"""
    if known(CONDITIONS, pair.a.plain) != known(CONDITIONS, pair.b.plain):
        return True
    if pair.a.tokens == pair.b.tokens:  # "I don't know why it works", but "why does it not work"
        return _wonders(pair.a) != _wonders(pair.b)
    turns = pair.only_a.count(NOT) + pair.only_b.count(NOT)
    turns += _prefixed(pair.only_a, pair.only_b, pair.b.plain) + _prefixed(pair.only_b, pair.only_a, pair.a.plain)
    if turns % 2 == 1 or _turned(pair.only_a, pair.a, pair.b) or _turned(pair.only_b, pair.b, pair.a):
        return True
    if _narrowed(pair.a, pair.b) or _narrowed(pair.b, pair.a):
        return True
    return _scattered(pair.a, pair.only_a) or _scattered(pair.b, pair.only_b) or _aims_differ(pair)


def _wonders(reading: Reading) -> bool:
    """Is it what its asker doesn't know that is negated in it, and not what is asked?"""
    return UNKNOWING.match(reading.text) is not None


def _turned(only: tuple[str, ...], one: Reading, other: Reading) -> bool:
    """Does one of the words turn what is asked? In an English text "sin" is no Spanish word, and "used oil" is the used oil."""
    if TURNING.isdisjoint(only):
        return False
    turning = TURNING.intersection(only) - (SAID_USED if "used" in other.plain else frozenset())
    return bool(turning) and (not ENGLISH_TOO.issuperset(turning) or not _is_english(one.plain))


def _is_english(plain: tuple[str, ...]) -> bool:
    return sum(word in FILLERS for word in plain) >= LEAST_ENGLISH and guess(plain) == ENGLISH


def _narrowed(one: Reading, other: Reading) -> bool:
    """Does a word make another thing of what it stands before, and nothing in the other text say so?"""
    if NARROWING.keys().isdisjoint(one.plain):
        return False
    narrowing = (word for word, after in pairwise(one.plain) if word in NARROWING and after not in FILLERS and after not in LEADS)
    return any(not any(said.startswith(NARROWING[word]) for said in other.plain) for word in narrowing)


def _scattered(reading: Reading, only: tuple[str, ...]) -> bool:
    """Two negations more than the other text that don't undo each other: "no fever and no cough"."""
    return only.count(NOT) > 1 and (NOT, NOT) not in pairwise(reading.tokens)


def _aims_differ(pair: Pair) -> bool:
    """Is it another word that is negated? "Isn't it legal", "is it not legal": not where there is nothing else to negate."""
    a, b = ([after for word, after in pairwise(reading.tokens) if word == NOT] for reading in (pair.a, pair.b))
    if sorted(a) == sorted(b) or len(a) != len(b):
        return False
    asked_so = pair.a.tokens[0] == NOT or pair.b.tokens[0] == NOT
    return not (asked_so and len(a) == 1 and _is_one_clause(pair.a) and _is_one_clause(pair.b))


def _is_one_clause(reading: Reading) -> bool:
    return CLAUSE_JOINS.isdisjoint(reading.plain) and all(start in {0, len(reading.plain)} for start in reading.starts)


def _prefixed(longer: tuple[str, ...], only: tuple[str, ...], plain: tuple[str, ...]) -> int:
    """How many words of `longer` are words of the other text behind a negative prefix: of `only`, or fillers?"""
    shorter = FILLERS.intersection(plain).union(only)
    return sum(word.startswith(prefix) and word[len(prefix) :] in shorter for word in longer for prefix in PREFIXES)


def opposite(pair: Pair) -> bool:
    """Does one text hold the opposite of what the other holds?"""
    if any(not ENDS[word].isdisjoint(pair.only_b) for word in pair.only_a if word in ENDS):
        return True
    if not DIRECTION_TOKENS.isdisjoint(pair.only_a) or not DIRECTION_TOKENS.isdisjoint(pair.only_b):
        return True
    sides = (pair.a.plain, pair.b.plain), (pair.b.plain, pair.a.plain)
    if all(map(AMOUNTS.isdisjoint, sides[0])):
        return False
    return any(_quantified(one, other) or _exceeds(one, other) or _fewer(one, other) or _each(one, other) for one, other in sides)


def _quantified(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """All against some."""
    return not (ALL.isdisjoint(one) or SOME.isdisjoint(other)) and ALL.isdisjoint(other)


def _fewer(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Few against a few, little hope against a little hope. "Little dogs" are small ones."""
    if SCARCE.isdisjoint(one) or SCARCE.isdisjoint(other):
        return False
    some = {word for before, word in pairwise(one) if word in SCARCE and before == "a"}
    bare = BARE if LISTING.isdisjoint(other) else STILL_BARE
    told = zip(("there", *other), other, (*other[1:], ""), strict=False)
    return any(word in some and before in bare and not _is_of_size(word, after) for before, word, after in told)


def _is_of_size(word: str, after: str) -> bool:
    return after == "more" or (word == "little" and after.endswith("s"))


def _each(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """On each day against on any day. "Can any member" is "can each member"."""
    if ANY not in other or EACH.isdisjoint(one):
        return False
    nouns = {after for word, after in pairwise(one) if word in EACH}
    return any(
        word == ANY and before not in AUXILIARIES and after in nouns
        for before, word, after in zip(("", *other), other, other[1:], strict=False)
    )


def _exceeds(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Too hot against hot enough."""
    return TOO in one and TOO not in other and not ENOUGH.isdisjoint(other) and ENOUGH.isdisjoint(one)
