"""Signs: operators of arithmetic and code, options of commands, charges, grades; and the odd ones that no other guard knows.

The same words with another sign are another question: `chmod +x` and `chmod -x`, "x² + x" and "x² - x", C and C#. Whether a
sign means something depends on where it stands: hyphens, dashes, bullets, emphasis and the punctuation of sentences don't. A
minus between two operands needs no record: what stands there instead of it has one.
"""

import re
import unicodedata
from typing import Final

from sentinel_gateway.core.guards.lexicon import words
from sentinel_gateway.core.guards.numbers import CURRENCIES, OPERATORS, SPELLED

SIGN: Final = re.compile(r"[+*^<>=!|%~#@&/(\\\xd7\xf7]|\.\.|\s[.?:;,]\s|--|(?<!\w)-\w|\w-(?!\w)")
"""Every text with a sign that counts has one of these; most texts have none but at their end."""
OPENING: Final = "\"'`([{,;:¿¡\u2026"
CLOSING: Final = "\"'`)]},;:.?\u2026"
BULLETS: Final = frozenset("-*+>#")
PREFIX: Final = re.compile(r"([+*!^%-]+)[\w(.]")
SUFFIX: Final = re.compile(r"[\w)\]]([+*^#~!-]+)$")
INFIX: Final = re.compile(r"(?<=[\w)\].])[+*^%<>=!|\xd7\xf7]+-?(?=[\w(\[])")
EMPHASIS: Final = re.compile(r"(?<![\w*])(\*{1,3})([^\s*](?:[^*]*[^\s*])?)\1(?![\w*])")
MORE: Final = re.compile(r"\w('+)\(|\w(\.\.)\w")
"""Derivatives, and ranges: f'(x), a..b."""
RULE: Final = re.compile(r"(.)\1{2,}|-+|[&/]")
"""Signs alone that only divide: lines, dashes, "salt & pepper", "and / or"."""
NUMERIC: Final = re.compile(r"[\d.,:+*/^%$€£¥-]+")
"""What the guard of numbers reads as a whole."""
CHARGED: Final = re.compile(r"(?!I-)[A-Z][A-Za-z]?\d?-|[a-z]--")
"""Blood groups, grades, ions, `i--`: any other hyphen at a word's end is none."""
QUOTIENT: Final = re.compile(r"(?:\d*[A-Za-z]|\d+)(?:[-+*/^](?:\d*[A-Za-z]|\d+))+")
GROUPED: Final = re.compile(r"[+*/^-] ?\(([^()]*)\)|\(([^()]*)\) ?[+*/^-]")
WITHIN: Final = re.compile(r"[+*/^-]")
BEFORE_A_SIGN: Final = words("a an the does do is are symbol sign operator character use using with of between and or add cd ls")
"""Words after which a sentence doesn't end: the "." behind them is meant."""
SELECTING: Final = words("css selector selectors jquery")
"""Where these stand, a "#" before a word is meant."""
PROSE: Final = frozenset("?!:;,")

ODD: Final = frozenset({"S", "C", "M"})
"""Unicode's classes of symbols, of what is not seen (controls, tags, private use), and of marks on letters."""
READ: Final = frozenset({*CURRENCIES, *OPERATORS, "°"})
"""Symbols that other guards know."""


def odd(text: str) -> str:
    """In order, what a provider reads and no other guard does: "≤", "√", and what is hidden in a text without being seen."""
    if text.isascii() and text.isprintable():
        return ""
    return "".join(
        char
        for char in text
        if not (char.isalnum() or char.isspace() or char in READ or (char.isascii() and char.isprintable()))
        and unicodedata.category(char)[0] in ODD
    )


def marks(text: str) -> tuple[str, ...]:
    """In order, the signs that mean something; "·" stands for the word before or behind which one is written."""
    if not SIGN.search(text):
        return ()
    found: list[str] = []
    for line in EMPHASIS.sub(r"\2", text).splitlines():
        chunks = line.split()
        for i, chunk in enumerate(chunks):
            if not chunk.isalnum():
                found += _marks(chunk, chunks, i)
        if "(" in line:
            found += _groups(line)
    return tuple(found)


def _marks(chunk: str, chunks: list[str], i: int) -> list[str]:
    """Those of one chunk of a line."""
    following = chunks[i + 1] if i + 1 < len(chunks) else ""
    core = _trimmed(chunk, following)
    if not any(map(str.isalnum, core)):
        return _alone(core or chunk, chunks[i - 1] if i else "", following)
    if NUMERIC.fullmatch(core):
        return ["+"] if core[0] == "+" else []
    found: list[str] = []
    if (prefix := PREFIX.match(core)) and (i or core[0] not in BULLETS):
        signed = prefix[1] == "+" and core[1].isdigit()
        found.append("+" if signed else prefix[1] + "·")
    found += (OPERATORS.get(sign, sign) for sign in INFIX.findall(core))
    found += (prime or dots for prime, dots in MORE.findall(core))
    if core[0] == "#" and core[1].isalpha() and not SELECTING.isdisjoint(word.strip(CLOSING).lower() for word in chunks):
        found.append("#·")
    if "/" in core and QUOTIENT.fullmatch(core):
        found.append(core.lower())
    if (suffix := SUFFIX.search(core)) and (suffix[1].strip("-") or CHARGED.fullmatch(core)):
        found.append("·" + suffix[1])
    return found


def _trimmed(chunk: str, following: str) -> str:
    """The chunk without brackets, quotation marks and the end of a sentence. "5!" is a factorial if that goes on."""
    core = chunk.lstrip(OPENING).rstrip(CLOSING)
    if core.endswith("!"):
        base = core.rstrip("!")
        goes_on = not chunk.endswith("!") or following[:1].islower() or following in OPERATORS
        return core if goes_on and (len(base) == 1 or base[-1:].isdigit() or base.endswith(")")) else base
    return core


def _alone(sign: str, before: str, following: str) -> list[str]:
    """A sign between spaces."""
    if set(sign) <= {"."}:
        return [sign] if len(sign) <= len("..") and following[:1].islower() else []
    if set(sign) <= PROSE:
        return [sign] if following and before.lower() in BEFORE_A_SIGN else []
    if RULE.fullmatch(sign) or (not before and sign[0] in BULLETS):
        return []
    if sign in OPERATORS and _is_number(before) and _is_number(following):
        return []
    if (sign in "#@~" and following[:1].isdigit()) or (sign == "%" and before[-1:].isdigit()):
        return []
    return [OPERATORS.get(sign, sign)] if sign.isascii() or sign in OPERATORS else []


def _is_number(chunk: str) -> bool:
    core = chunk.strip(OPENING + CLOSING)
    return core.lower() in SPELLED or (core[-1:].isdigit() and NUMERIC.fullmatch(core) is not None)


def _groups(line: str) -> list[str]:
    """What brackets hold together in a sum: "(1 + 2) * 3"."""
    held = (one or other for one, other in GROUPED.findall(line))
    return [f"({each.replace(' ', '')})" for each in held if WITHIN.search(each)]
