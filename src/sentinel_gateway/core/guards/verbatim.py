"""What must be the same to the letter: quotations, code, URLs, e-mail addresses, file paths, options; and odd signs.

A span of one text may stand without its quotation marks in the other; it must stand there.
"""

import re
import unicodedata
from typing import Final

from sentinel_gateway.core.guards.numbers import CURRENCIES, OPERATORS

SINGLE_QUOTED: Final = re.compile(r"(?<!\w)'([^']+)'(?!\w)")
TECHNICAL: Final = re.compile(r"[\\_@=/{}<>|;~$&\[\]]|\w[.:][a-z]|\w\(|::|->|(?<!\S)--?[A-Za-z]")
HINT: Final = re.compile(r"[\\_@=/{}<>|;~$&\[\]]|[.:][a-z:]|[(][^ ]|-[->]|[ ]-")
"""Every text with a technical chunk has one of these; most texts have none."""
PLAIN: Final = re.compile(r"[^\W\d_]+/[^\W\d_]+|[$€£¥]?[\d.,:/%-]+[^\W\d_]{0,2}|(?:[^\W\d_]\.)+[^\W\d_]?|[^\w\s]+")
"""Chunks with such a sign that are no code: either/or, $5, 10:30, 3/4, e.g, signs alone."""
WRAPPING: Final = ".,;:!?\"'`*…"

ODD: Final = frozenset({"S", "C", "M"})
"""Unicode's classes of symbols, of what is not seen (controls, tags, private use), and of marks on letters."""
READ: Final = frozenset({*CURRENCIES, *OPERATORS, "°"})
"""Symbols that other guards know."""
CASED: Final = re.compile(r"(?<![^\W\d_])(?:[KMGT]b(?:ps|it)?|m[AVW]|Mg|Co)(?![^\W\d_])")
"""Units and elements that are others in other letters: Mb and MB, mW and MW."""


def cased(text: str) -> list[str]:
    """What only its capital letters tell from something else, in order."""
    return CASED.findall(text)


def signs(text: str) -> str:
    """In order, what a provider reads and no other guard does: "≤", "√", and what is hidden in a text without being seen."""
    if text.isascii() and text.isprintable():
        return ""
    return "".join(
        char
        for char in text
        if not (char.isalnum() or char.isspace() or char in READ or (char.isascii() and char.isprintable()))
        and unicodedata.category(char)[0] in ODD
    )


def spans(text: str) -> tuple[str, ...]:
    """The stretches of `text` that are to be taken literally."""
    found = [*text.split('"')[1::2]] if text.count('"') > 1 else []
    if "`" in text:
        found += text.split("`")[1::2]
    if "'" in text:
        found += SINGLE_QUOTED.findall(text)
    if HINT.search(text):
        found += [core for chunk in text.split() if TECHNICAL.search(chunk) and (core := _core(chunk))]
    return tuple(span for each in found if (span := each.strip().strip(WRAPPING)))


def _core(chunk: str) -> str:
    """The chunk without the punctuation of the sentence; nothing if it isn't technical without it."""
    core = chunk.strip(WRAPPING)
    if core.startswith("(") or core.count(")") > core.count("("):
        core = core.strip("()")
    return core if TECHNICAL.search(core) and not PLAIN.fullmatch(core) else ""


def missing(spans: tuple[str, ...], text: str) -> bool:
    """Does `text` lack one of the spans? Quoted words may differ in capital letters, code may not."""
    low = text.lower() if spans else ""
    return any(span not in text and (TECHNICAL.search(span) is not None or span.lower() not in low) for span in spans)
