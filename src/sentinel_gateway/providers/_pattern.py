"""Chunks that differ from the one before them in nothing but their text, which most of a stream's do: these need no parse.

What is skipped is proved, not guessed. A pattern is learned from a parsed chunk, by parsing it once more with another text in
the same place; what then begins and ends as it did, with a JSON string between, can only mean the same with that string.
"""

from typing import Final

import msgspec

from sentinel_gateway.core.chat import Chunk, Fields

PATIENCE: Final = 4
"""Attempts in a row that fitted no chunk. Some providers write a random member into each: there nothing more is learned."""
SPOKEN: Final = frozenset({"role", "content"})
"""Members of a delta that says some text. Said again, a role means nothing new."""

_FIELD: Final = b"data: "
_END: Final = b"\n\n"
_DATA: Final = slice(len(_FIELD), -len(_END))
_QUOTE: Final = b'"'
_OTHER: Final = "?"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_read_text = msgspec.json.Decoder(str).decode


class TextPattern:
    """Of one stream: the event before, without its text."""

    __slots__ = ("_head", "_left", "_tail", "_text", "_two")

    def __init__(self) -> None:
        self._head = b""
        """All up to the text's first quote; empty while nothing is learned."""
        self._tail = b""
        """All from its last quote on, the event's end too."""
        self._text = slice(0)
        """Where the text stands, its quotes with it: between them nothing can stand that ends a line."""
        self._two = 0
        """What is shorter holds no two such events."""
        self._left = PATIENCE

    def __repr__(self) -> str:
        return f"<TextPattern {self._head!r}...{self._tail!r}>"

    def read(self, data: bytes) -> list[Chunk] | None:
        """The chunks of whole events, each unlike the one before in nothing but its text; None if they have to be parsed."""
        head, tail = self._head, self._tail
        if not head:
            return None
        events, rest = [data], b""
        if len(data) >= self._two:
            *before, rest = data.split(_END)
            events = [event + _END for event in before]
        chunks = []
        try:
            for event in events:
                if not event.startswith(head) or not event.endswith(tail):
                    return None
                chunks.append(Chunk(event[_DATA], None, _read_text(event[self._text])))
        except ValueError:  # more than one string: it is not only a text that is different
            return None
        self._left = PATIENCE
        return None if rest else chunks

    def learn(self, raw: bytes, fields: Fields) -> None:
        """From the last chunk, which was parsed."""
        self._head = b""
        choice = _speaking(fields)
        if choice is None or not self._left:
            return
        text = choice["delta"]["content"]
        head, found, tail = raw.partition(_encode(text))
        if not found or b"\n" in raw:
            return
        self._left -= 1
        other = {**choice, "delta": {**choice["delta"], "content": text + _OTHER}}
        try:
            proved = _decode(b"%b%b%b" % (head, _encode(text + _OTHER), tail)) == {**fields, "choices": [other]}
        except ValueError:  # what was found is no string, but the signs between two others
            return
        if proved:
            self._head, self._tail = _FIELD + head + _QUOTE, _QUOTE + tail + _END
            self._text = slice(len(self._head) - 1, 1 - len(self._tail))
            self._two = 2 * (len(self._head) + len(self._tail))


def _speaking(fields: Fields) -> Fields | None:
    """The only choice of a chunk, if all that it says is some text."""
    match fields.get("choices"):
        case [{"delta": {"content": str(text), **more}, **rest} as choice] if text and more.keys() <= SPOKEN:
            speaking: Fields | None = None if rest.get("logprobs") else choice
            return speaking
        case _:
            return None
