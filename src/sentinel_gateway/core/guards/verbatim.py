"""What must be the same to the letter: quotations, code, URLs, e-mail addresses, file paths, options.

A span of one text may stand without its quotation marks in the other; it must stand there.
"""

import re
from typing import Final

SINGLE_QUOTED: Final = re.compile(r"(?<!\w)'([^']+)'(?!\w)")
TECHNICAL: Final = re.compile(r"[\\_@=/{}<>|;~$&\[\]]|\w[.:][a-z]|\w\(|::|->|(?<!\S)--?[A-Za-z]")
HINT: Final = re.compile(r"[\\_@=/{}<>|;~$&\[\]]|[.:][a-z:]|[(][^ ]|-[->]|[ ]-")
"""Every text with a technical chunk has one of these; most texts have none."""
PLAIN: Final = re.compile(r"[^\W\d_]+/[^\W\d_]+|[$€£¥]?[.,:/%-]*\d[\d.,:/%-]*[^\W\d_]{0,2}|(?:[^\W\d_]\.)+[^\W\d_]?|[^\w\s]+")
"""Chunks with such a sign that are no code: either/or, $5, 10:30, 3/4, e.g, signs alone."""
WRAPPING: Final = ".,;:!?\"'`*…"
OPENING: Final = ",;:\"'`…"
CLOSING: Final = ".,;:!?\"'`…"
ELLIPSIS: Final = "..."
MOST_SOUGHT: Final = 16
"""Spans of one text that are not spans of the other and still looked for in it: each takes a pass over it."""


def spans(text: str) -> tuple[str, ...]:
    """The stretches of `text` that are to be taken literally."""
    found = [each.strip().strip(WRAPPING) for each in text.split('"')[1::2]] if text.count('"') > 1 else []
    if "`" in text:
        found += (each.strip() for each in text.split("`")[1::2])
    if "'" in text:
        found += (each.strip().strip(WRAPPING) for each in SINGLE_QUOTED.findall(text))
    if HINT.search(text):
        found += (_core(chunk) for chunk in text.split() if TECHNICAL.search(chunk))
    return tuple(filter(None, found))


def _core(chunk: str) -> str:
    """The chunk without the punctuation of the sentence; nothing if it isn't technical without it."""
    core = chunk.lstrip(OPENING).removeprefix(ELLIPSIS).rstrip(CLOSING)
    if core[:1] == core[-1:] == "*":
        core = core.strip("*")
    if core.startswith("(") or core.count(")") > core.count("("):
        core = core.strip("()").strip(CLOSING)
    return core if TECHNICAL.search(core) and not PLAIN.fullmatch(core) else ""


def missing(spans: tuple[str, ...], known: tuple[str, ...], text: str) -> bool:
    """Does `text`, whose own spans are `known`, lack one of `spans`? Quoted words may differ in capital letters, code may not."""
    sought = set(spans).difference(known)
    if not sought:
        return False
    low = text.lower()
    return len(sought) > MOST_SOUGHT or any(
        span not in text and (TECHNICAL.search(span) is not None or span.lower() not in low) for span in sought
    )
