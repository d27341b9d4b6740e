"""Events that differ from the one before them in nothing but their text, which most of a stream's do: these need no parse.

What is skipped is proved, not guessed. A pattern is learned from a parsed event, by parsing it once more with another text in
the same place; what then begins and ends as it did, with a JSON string between, can only mean the same with that string.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from sentinel_gateway.core.chat import Fields

PATIENCE: Final = 4
"""Attempts in a row that fitted no event. Some providers write a random member into each: there nothing more is learned."""
_QUOTE: Final = b'"'
_OTHER: Final = "?"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_read_text = msgspec.json.Decoder(str).decode


class Said(NamedTuple):
    """Where a decoded event has its text: the member of this `name`. `before` is what its provider sends before its data."""

    holder: Fields
    name: str
    before: bytes = b""


class More(NamedTuple):
    """An event that differs from the one before in nothing but its text, for readers of parsed ones."""

    text: str


_Frame = tuple[bytes, bytes, slice]
"""All up to the text's first quote, all from its last quote on, and where the text stands, its quotes with it."""
Find = Callable[[Fields], Said | None]
"""The text of an event that says nothing else; None for all others."""


class TextPattern:
    """Of one stream: the event before, without its text. `find` is its dialect's."""

    __slots__ = ("_event", "_find", "_framed", "_left")

    def __init__(self, find: Find) -> None:
        self._find = find
        self._event: _Frame | None = None
        """None while nothing is learned."""
        self._framed: _Frame | None = None
        """The same as it arrives alone among server-sent events."""
        self._left = PATIENCE

    def __repr__(self) -> str:
        return f"<TextPattern {self._event}>"

    def read(self, raw: bytes, *, framed: bool = False) -> str | None:
        """The text of an event that is unlike the one before in nothing else; None if it has to be parsed.

        `framed`: these are all bytes that came, and may be such an event and nothing else.
        """
        frame = self._framed if framed else self._event
        if frame is None:
            return None
        head, tail, place = frame
        if not raw.startswith(head) or not raw.endswith(tail):
            return None
        try:
            text = _read_text(raw[place])
        except ValueError:  # more than one string: it is not only a text that is different
            return None
        self._left = PATIENCE
        return text

    def learn(self, raw: bytes, fields: Fields) -> None:
        """From the last event, which was parsed."""
        self._event = self._framed = None
        if not self._left or (said := self._find(fields)) is None:
            return
        text = said.holder[said.name]
        head, found, tail = raw.partition(_encode(text))
        if not found:
            return
        self._left -= 1
        said.holder[said.name] = text + _OTHER  # as long as the proof takes
        try:
            proved = _decode(b"%b%b%b" % (head, _encode(text + _OTHER), tail)) == fields
        except ValueError:  # what was found is no string, but the signs between two others
            proved = False
        said.holder[said.name] = text
        if proved:
            self._event = _frame(head, tail)
            self._framed = None if b"\n" in raw else _frame(said.before + b"data: " + head, tail + b"\n\n")


def _frame(head: bytes, tail: bytes) -> _Frame:
    return head + _QUOTE, _QUOTE + tail, slice(len(head), -len(tail))
