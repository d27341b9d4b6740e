"""Quantities: numbers in digits and words, arithmetic, units, currencies, dates, times, identifiers.

Whatever counts or identifies becomes a token that begins with `MARK`; two texts must hold the same of them. `pieces` reads
chunks with digits, `fold` joins what stands in several words ("twenty five", "5 million", "3rd of May 2020").
"""

import re
from collections import Counter
from itertools import zip_longest
from typing import Final

from sentinel_gateway.core.guards.lexicon import ordered, table, words

MARK: Final = "#"
GROUP: Final = 3
"""Digits between two thousands separators."""
LEAST_NAME: Final = 3
"""Letters before digits that are a name ("covid-19"); fewer are part of an identifier ("D-7781")."""
DIGITS: Final = range(1, 10)
PIECE: Final = re.compile(r"\d+(?:[.,:]\d+)*|[^\W\d_]+|[^\w\s]")
DIGIT: Final = re.compile(r"\d")
ISO_DATE: Final = re.compile(r"(\d{4})-(\d{2})-(\d{2})")
DAY: Final = re.compile(r"#\d{1,2}(?:th)?")
YEAR: Final = re.compile(r"#\d{4}")
NEAR_MONTH: Final = re.compile(r"#\d{1,4}(?:th)?")

SMALL: Final = ordered(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
    "nineteen"
)
ONES: Final = {word: n for n, word in enumerate(SMALL)} | {"dozen": 12}
TENS: Final = {word: 10 * n for n, word in enumerate(ordered("twenty thirty forty fifty sixty seventy eighty ninety"), 2)}
SCALES: Final = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12, "lakh": 10**5,
                 "crore": 10**7}  # fmt: skip
ABBREVIATED: Final = {"k": 1000, "mn": 10**6, "mm": 10**6, "mil": 10**6, "bn": 10**9}
RANKS: Final = ordered("first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth")
ORDINALS: Final = {word: n for n, word in enumerate(RANKS, 1)} | {"twentieth": 20, "thirtieth": 30, "hundredth": 100}
ROMAN: Final = {"ii": "#2", "iii": "#3", "iv": "#4", "vi": "#6", "vii": "#7", "viii": "#8", "ix": "#9", "xi": "#11", "xii": "#12"}
"""Those that are no English word, in small letters too."""
ROMAN_LETTERS: Final = frozenset("ivxlcdm")
FIRST: Final = MARK + "1"
MONTH_NAMES: Final = ordered("january february march april may june july august september october november december")
MONTHS: Final = (
    {word: n for n, word in enumerate(MONTH_NAMES, 1)} | {word[:3]: n for n, word in enumerate(MONTH_NAMES, 1)} | {"sept": 9}
)
AMBIGUOUS_MONTHS: Final = words("may march mar jan dec sep august")
"""Months only with a capital letter or beside a number."""
WEEKDAYS: Final = table("""
monday mon mondays
tuesday tue tues tuesdays
wednesday wed wednesdays
thursday thu thurs thursdays
friday fri fridays
saturday sat saturdays
sunday sun sundays
""")
AMBIGUOUS_WEEKDAYS: Final = words("mon wed sat sun fri")
CAPITALISED: Final = {"May": "#m5", "March": "#m3", "August": "#m8"}
"""Words that only their capital letters make quantities."""
CURRENCIES: Final = {
    "$": "usd", "usd": "usd", "dollar": "usd", "dollars": "usd", "bucks": "usd", "€": "eur", "eur": "eur", "euro": "eur",
    "euros": "eur", "£": "gbp", "gbp": "gbp", "quid": "gbp", "pounds": "gbp", "pound": "gbp", "¥": "jpy", "jpy": "jpy",
        "yen": "jpy",
    "₹": "inr", "inr": "inr", "rs": "inr", "rupees": "inr", "rupee": "inr", "chf": "chf", "francs": "chf", "cad": "cad",
    "aud": "aud", "cny": "cny", "yuan": "cny", "rmb": "cny", "cents": "cent", "cent": "cent", "₿": "btc", "btc": "btc",
}  # fmt: skip
UNITS: Final = table("""
km kilometer kilometers kilometre kilometres kms
mile miles mi
m meter meters metre metres
cm centimeter centimeters centimetre centimetres
mm millimeter millimeters millimetre millimetres
inch inches
foot feet ft
yard yards yd
kg kilogram kilograms kilo kilos kgs
g gram grams
mg milligram milligrams
mcg microgram micrograms µg
lb lbs
ounce ounces oz
ton tons
tonne tonnes
liter liters litre litres l
ml milliliter milliliters millilitre millilitres
gallon gallons gal
cup cups
tablespoon tablespoons tbsp
teaspoon teaspoons tsp
second seconds sec secs
ms millisecond milliseconds
minute minutes min mins
hour hours hr hrs h
day days
night nights
week weeks wk wks
month months mo
year years yr yrs
decade decades
century centuries
kb kilobyte kilobytes
mb megabyte megabytes
gb gigabyte gigabytes
tb terabyte terabytes
celsius °c
fahrenheit °f
kelvin
degree degrees °
mph
kph kmh
watt watts w
kw kilowatt kilowatts
volt volts v
hz hertz
mhz megahertz
ghz gigahertz
percent % pct
am a.m
pm p.m
""")
OPERATORS: Final = {
    "+": "+", "plus": "+", "minus": "-", "-": "-", "\u2212": "-", "times": "*", "x": "*", "*": "*", "\xd7": "*",
        "multiplied": "*", "/": "/",
    "÷": "/", "divided": "/", "over": "/", "^": "^", "**": "^", "modulo": "mod", "mod": "mod",
}  # fmt: skip
ENDINGS: Final = frozenset({"st", "nd", "rd", "th"})
WEAK_ONE: Final = MARK + "one"
"""The word "one": a number, or a pronoun. It may answer "1" and never objects alone."""


CURRENCY_CODES: Final = frozenset(CURRENCIES.values())
SPELLED: Final = frozenset({*ONES, *TENS, *SCALES, *ORDINALS})
MONTH_WORDS: Final = frozenset({*MONTHS, *(f"{MARK}m{n}" for n in range(1, 13))})
MEASURING: Final = frozenset({"second", *OPERATORS, *UNITS, *CURRENCIES, *WEEKDAYS})


def has_digit(chunk: str) -> bool:
    return DIGIT.search(chunk) is not None


def differ(only_a: tuple[str, ...], only_b: tuple[str, ...]) -> bool:
    """Does either text hold a quantity that the other doesn't?"""
    one, other = ([token for token in only if token.startswith(MARK)] for only in (only_a, only_b))
    if not one and not other:
        return False
    a, b = Counter(one), Counter(other)
    for weak, strong in ((a, b), (b, a)):
        strong[FIRST] -= weak.pop(WEAK_ONE, 0)
    return any(count > 0 for count in (*a.values(), *b.values()))


def pieces(chunk: str) -> list[str]:
    """A chunk with digits, in small letters, as marked quantities and plain words."""
    if date := ISO_DATE.fullmatch(chunk):
        return [MARK + "-".join(date.groups())]
    parts = PIECE.findall(chunk)
    found: list[str] = []
    money = ""
    for i, part in enumerate(parts):
        after_number = i > 0 and parts[i - 1][0].isdigit()
        before_number = i + 1 < len(parts) and parts[i + 1][0].isdigit()
        if part[0].isdigit():
            found.append(MARK + plain_number(part))
            if money:
                found.append(money)
                money = ""
        elif part in CURRENCIES and before_number and not after_number:
            money = MARK + CURRENCIES[part]
        elif after_number:
            _suffix(part, found, before_number=before_number)
        elif part == "-" and (i == 0 or _is_exponent(parts, i)):
            found.append(MARK + "negative")
        elif part[0].isalpha():
            found.append(part if len(part) >= LEAST_NAME else MARK + part)
    return found


def _is_exponent(parts: list[str], i: int) -> bool:
    """Is it the minus of "1e-5"?"""
    return i > 1 and parts[i - 1] == "e" and parts[i - 2][0].isdigit() and parts[i + 1 : i + 2] != []


def _suffix(part: str, found: list[str], *, before_number: bool) -> None:
    """Adds what follows a number without a space: a scale, an ordinal's ending, a unit, an operator, an identifier's letter."""
    scale = ABBREVIATED.get(part) or SCALES.get(part)
    if before_number:
        if part[0].isalpha() or part in OPERATORS:
            found.append(MARK + OPERATORS.get(part, part))
    elif scale:
        _scale(found, scale)
    elif part in ENDINGS:
        found[-1] += "th"
    elif part in UNITS:
        found.append(MARK + UNITS[part])
    elif part in CURRENCIES:
        found.append(MARK + CURRENCIES[part])
    elif part[0].isalnum() or part == "+":  # letters, and "½" or "²"
        found.append(MARK + part)


def plain_number(digits: str) -> str:
    """Without thousands separators and without decimals that are all zero. Leading zeros stay: they belong to identifiers."""
    groups = digits.split(",")
    if len(groups) > 1 and all(len(group.partition(".")[0]) == GROUP for group in groups[1:]):
        digits = "".join(groups)
    whole, point, decimals = digits.partition(".")
    return whole if point and not decimals.strip("0") else digits


def scaled(number: str, scale: int) -> str:
    """`number` times `scale`; as it stands, with the scale behind, if it is no plain number."""
    whole, _, decimals = number.partition(".")
    zeros = len(str(scale)) - 1 - len(decimals)
    if not (whole + decimals).isdigit() or zeros < 0:
        return f"{number}*{scale}"
    return (whole + decimals).lstrip("0") + "0" * zeros


def fold(found: list[str]) -> list[str]:
    """`found` with quantities that take several words joined and marked."""
    if not SPELLED.isdisjoint(found):
        found = _values(found)
    found = _measures(found)
    return found if MONTH_WORDS.isdisjoint(found) else _dates(found)


def _values(found: list[str]) -> list[str]:
    """Number words and scales as marked numbers."""
    out: list[str] = []
    state: tuple[int, int] | None = None
    for word in found:
        if state is None and word in SCALES and out and out[-1].startswith(MARK):
            _scale(out, SCALES[word])
            continue
        extended = _extend(state, word)
        if extended is None and state is not None:
            out.append(_marked(state))
            extended = _extend(None, word)
        state = extended
        if state is None:
            out.append(f"{MARK}{ORDINALS[word]}th" if word in ORDINALS and word != "second" else word)
    return [*out, _marked(state)] if state is not None else out


def _scale(out: list[str], scale: int) -> None:
    """Multiplies the number that ends `out`, before a currency ("$5 million") or not."""
    at = len(out) - 1
    if at and out[at][1:] in CURRENCY_CODES:
        at -= 1
    out[at] = MARK + scaled(out[at][1:], scale)


def _extend(state: tuple[int, int] | None, word: str) -> tuple[int, int] | None:
    """(full thousands, rest) of the number so far with `word` added; None if `word` doesn't continue it, or begin one."""
    if state is None:
        if word in SCALES:
            return (0, SCALES[word]) if word == "hundred" else (SCALES[word], 0)
        value = ONES.get(word, TENS.get(word))
        return None if value is None else (0, value)
    total, rest = state
    if word in ONES:
        fits = rest % 100 == 0 or (rest % 100 in TENS.values() and ONES[word] in DIGITS)
        return (total, rest + ONES[word]) if fits and total + rest else None
    if word in TENS:
        return (total, rest + TENS[word]) if rest % 100 == 0 and total + rest else None
    if word in SCALES:
        return (total, rest * 100) if word == "hundred" else (total + max(rest, 1) * SCALES[word], 0)
    return state if word == "and" and rest % 100 == 0 and total + rest else None


def _marked(state: tuple[int, int]) -> str:
    value = sum(state)
    return WEAK_ONE if value == 1 else f"{MARK}{value}"


def _measures(found: list[str]) -> list[str]:
    """Units, currencies and operators that stand beside a number, marked."""
    out: list[str] = []
    for word, following in zip_longest(found, found[1:], fillvalue=""):
        if word not in MEASURING:
            out.append(word)
            continue
        after_number = bool(out) and out[-1].startswith(MARK)
        if word == "second" and not after_number:
            out.append(f"{MARK}2th")
        elif word in OPERATORS and after_number and following.startswith(MARK):
            out.append(MARK + OPERATORS[word])
        elif word in UNITS and after_number:
            out.append(MARK + UNITS[word])
        elif word in CURRENCIES and (after_number or not word.isalpha()):
            out.append(MARK + CURRENCIES[word])
        elif word in WEEKDAYS and word not in AMBIGUOUS_WEEKDAYS:
            out.append(MARK + WEEKDAYS[word])
        elif word not in OPERATORS or word.isalpha():
            out.append(word)
    return out


def _dates(found: list[str]) -> list[str]:
    """Each month with its day and year as one quantity, whatever their order."""
    out: list[str] = []
    rest = iter(range(len(found)))
    for i in rest:
        month = _month(found, i) if found[i] in MONTH_WORDS else 0
        if not month:
            out.append(found[i])
            continue
        day = year = ""
        if DAY.fullmatch(_at(found, i + 1)):
            day = found[next(rest)]
        elif out and DAY.fullmatch(out[-1]):
            day = out.pop()
        elif out[-1:] == ["of"] and DAY.fullmatch(_at(out, len(out) - 2)):
            out.pop()
            day = out.pop()
        if YEAR.fullmatch(_at(found, i + 1 + (bool(day) and found[i + 1 : i + 2] == [day]))):
            year = found[next(rest)]
        out.append(_date(year, month, day))
    return out


def _date(year: str, month: int, day: str) -> str:
    parts = [year[1:], f"{month:02}", day[1:].removesuffix("th").zfill(2) if day else ""]
    return MARK + "-".join(part for part in parts if part) if year or day else f"{MARK}m{month}"


def _month(found: list[str], i: int) -> int:
    word = found[i]
    if word.startswith(MARK):
        return int(word[2:])
    if word in AMBIGUOUS_MONTHS and not any(NEAR_MONTH.fullmatch(_at(found, j)) for j in (i - 1, i + 1)):
        return 0
    return MONTHS[word]


def _at(found: list[str], i: int) -> str:
    return found[i] if 0 <= i < len(found) else ""
