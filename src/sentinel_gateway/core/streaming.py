"""A stream of chunks and a whole answer are two spellings of one thing; here each is turned into the other.

`Fold` is the only mutable thing in `core`: it is fed by one stream and thrown away with it.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from sentinel_gateway.core.chat import Answer, ChatRequest, Fields, Usage, read_usage
from sentinel_gateway.errors import UpstreamBroken

SAID_ONCE: Final = frozenset({"role", "id", "type", "name", "format"})
"""Strings that a delta repeats or names once. All other strings in deltas are pieces, to be joined."""

NOT_KEPT: Final = frozenset({"id", "object", "created", "choices", "usage", "obfuscation"})
"""Members of a chunk that belong to that chunk alone."""

NOT_KEPT_OF_CHOICE: Final = frozenset({"index", "delta", "logprobs", "finish_reason"})
"""Members of a chunk's choice that are joined, or have a place of their own in the whole one."""

OWN_MEMBERS: Final = frozenset({"index", "message", "logprobs", "finish_reason"})
"""Members of a choice that have a place of their own in a replayed stream; others go with its last chunk."""

NUMBERED: Final = ("tool_calls", "thinking_blocks", "content_blocks")
"""Lists of a message whose items have a number in a stream, by which one is told from the next; in a whole answer none."""

DEEPEST: Final = 64
"""Levels of a delta. What a tool is called with is a string, however deep it is."""

_encode = msgspec.json.Encoder().encode


class _Text:
    """Pieces of one string. Joined once at the end: adding strings up would cost the square of a long answer."""

    __slots__ = ("pieces",)

    def __init__(self, piece: str) -> None:
        self.pieces = [piece]

    def add(self, piece: str) -> None:
        """What says nothing is not kept: it may come without end, and a thought's proof is looked at with each piece of it."""
        if piece:
            self.pieces.append(piece)

    def whole(self) -> str:
        return "".join(self.pieces)


class _Items:
    """A list that goes on. `numbered` are its items that have a number, by which later pieces of them are joined.

    `pieced` are those that are put together of pieces, by their identity: all others are as they came.
    """

    __slots__ = ("items", "numbered", "pieced")

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.numbered: dict[int, Fields] = {}
        self.pieced: set[int] = set()

    def add(self, item: Any, depth: int) -> None:
        number = item.get("index") if isinstance(item, dict) else None
        if type(number) is not int:
            self.items.append(item)
            return
        known = self.numbered.get(number)
        if known is None or _is_another(item, known):
            known = self.numbered[number] = self.begin({"index": number})
        _join(known, item, depth)

    def begin(self, item: Fields) -> Fields:
        """An item whose pieces come."""
        self.items.append(item)
        self.pieced.add(id(item))
        return item

    def whole(self) -> list[Any]:
        return [_settle(item) if id(item) in self.pieced else item for item in self.items]


class _Thoughts(_Items):
    """`thinking_blocks`. Some servers don't number them: a piece then goes on with the last thought, until that is signed."""

    __slots__ = ()

    def add(self, item: Any, depth: int) -> None:
        if not isinstance(item, dict) or type(item.get("index")) is int:
            super().add(item, depth)
            return
        last = self.items[-1] if self.items else None
        if not isinstance(last, dict) or _settle(last.get("signature")) or _is_whole_thought(item) or _is_whole_thought(last):
            last = self.begin({})
        _join(last, item, depth)


class _Choice:
    """`extra` has the last of every member: leaving out at the end what is not kept of them costs each chunk less."""

    __slots__ = ("extra", "finish_reason", "logprobs", "message")

    def __init__(self) -> None:
        self.message: Fields = {}
        self.logprobs: Fields | None = None
        self.finish_reason: str | None = None
        self.extra: Fields = {}


class Fold:
    """Chunks in, one answer out. Past `max_bytes` of raw chunks it keeps only how the stream ended and its usage."""

    def __init__(self, *, expected: int, max_bytes: int) -> None:
        self._expected = expected
        self._room = max_bytes
        self._choices: dict[int, _Choice] = {}
        self._text: _Text | None = None
        """That of the latest choice, if it says any."""
        self._extra: Fields = {}
        self._first: Fields | None = None
        self.usage: Usage | None = None
        self.service_tier: Any = None
        """That the first chunk tells, of whatever type."""
        self._usage: Fields | None = None

    def __repr__(self) -> str:
        ended = sum(choice.finish_reason is not None for choice in self._choices.values())
        return f"<Fold {ended}/{self._expected} choices ended, {'overflown' if self.overflown else 'complete'}>"

    @property
    def overflown(self) -> bool:
        """The answer is too large to keep."""
        return self._room < 0

    @property
    def finished(self) -> bool:
        """Every expected choice has said why it ended."""
        ended = [choice for choice in self._choices.values() if choice.finish_reason is not None]
        return len(ended) == len(self._choices) >= self._expected

    def add(self, fields: Fields, size: int) -> None:
        """Take the next chunk; `size` is its length on the wire."""
        self._room -= size
        if self._first is None:
            self._first = {"id": fields.get("id"), "created": fields.get("created")}
            self.service_tier = fields.get("service_tier")
        if (usage := fields.get("usage")) is not None:
            counts = read_usage(usage, fields.get("service_tier") or self.service_tier)
            if counts is not None:
                self.usage, self._usage = counts, usage
        keep = self._room >= 0
        if keep:
            self._extra.update(fields)
        choices = fields.get("choices")
        if isinstance(choices, list):
            for choice in choices:
                if isinstance(choice, dict):
                    self._add_choice(choice, keep=keep)

    def add_text(self, text: str, size: int) -> None:
        """Take a chunk that differs from the one before in nothing but its text (`Chunk.more`)."""
        self._room -= size
        if self._room >= 0 and self._text is not None:
            self._text.pieces.append(text)

    def _add_choice(self, chunk: Fields, *, keep: bool) -> None:
        index = chunk.get("index")
        number = index if type(index) is int else 0
        choice = self._choices.get(number)
        if choice is None:
            choice = self._choices[number] = _Choice()
        reason = chunk.get("finish_reason")
        if reason and isinstance(reason, str):
            choice.finish_reason = reason
        if keep:
            choice.extra.update(chunk)
            _join(choice.message, chunk.get("delta"))
            text = choice.message.get("content")
            self._text = text if isinstance(text, _Text) else None
            logprobs = chunk.get("logprobs")
            if isinstance(logprobs, dict):
                choice.logprobs = choice.logprobs or {}
                _join(choice.logprobs, logprobs)

    def answer(self) -> Answer:
        """The stream so far as a `chat.completion`. Meaningless once `overflown`."""
        choices = [_whole_choice(index, choice) for index, choice in sorted(self._choices.items())]
        extra = {name: value for name, value in self._extra.items() if name not in NOT_KEPT}
        fields = {**(self._first or {}), "object": "chat.completion", **extra, "choices": choices}
        if self._usage is not None:
            fields["usage"] = self._usage
        reasons = tuple(choice["finish_reason"] for choice in choices)
        return Answer(fields, reasons, self.usage)


def _whole_choice(index: int, choice: _Choice) -> Fields:
    message = {"role": "assistant", "content": None, **_settle(choice.message)}
    for name in NUMBERED:
        for item in _dicts(message.get(name)):
            item.pop("index", None)
    return {
        **{name: value for name, value in choice.extra.items() if name not in NOT_KEPT_OF_CHOICE},
        "index": index,
        "message": message,
        "logprobs": _settle(choice.logprobs),
        "finish_reason": choice.finish_reason,
    }


def _dicts(value: Any) -> Iterator[Fields]:
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else iter(())


def _join(into: Fields, delta: Any, depth: int = 0) -> None:
    """Add a delta to what was said so far: strings are pieces, lists go on, numbered items are joined by number."""
    if not isinstance(delta, dict):
        return
    for name, value in delta.items():
        old = into.get(name)
        if value is None:
            into.setdefault(name, None)
        elif isinstance(value, str) and name not in SAID_ONCE:
            if isinstance(old, _Text):
                old.add(value)
            else:
                into[name] = _Text(value)
        elif isinstance(value, dict):
            joined = into[name] = old if isinstance(old, dict) else {}
            _join(joined, value, _below(depth))
        elif isinstance(value, list):
            new = _Thoughts if name == "thinking_blocks" else _Items
            items = into[name] = old if isinstance(old, _Items) else new()
            for item in value:
                items.add(item, _below(depth))
        elif not old:
            into[name] = value


def _below(depth: int) -> int:
    """The next level."""
    if depth > DEEPEST:
        raise UpstreamBroken("The provider nested its answer too deep.", failure="json_error")
    return depth + 1


def _is_whole_thought(block: Fields) -> bool:
    """Is it one that never comes in pieces?"""
    return block.get("type") == "redacted_thinking"


def _is_another(call: Fields, known: Fields) -> bool:
    """Some providers give all their tool calls the number 0: one with another id and a name is another call."""
    named = any(isinstance(member, dict) and member.get("name") for member in call.values())
    return named and bool(known.get("id")) and bool(call.get("id")) and call["id"] != known["id"]


def _settle(value: Any) -> Any:
    if isinstance(value, _Text | _Items):
        return value.whole()
    if isinstance(value, dict):
        return {name: _settle(member) for name, member in value.items()}
    return value


def stored_body(answer: Answer) -> bytes:
    """An answer as `caching.Entry.body`: its members as JSON without `id`, `created` and the opening brace."""
    kept = answer.fields.copy()
    kept.pop("id", None)
    kept.pop("created", None)
    return _encode(kept)[1:]


def whole_body(body: bytes, *, answer_id: str, created: int) -> bytes:
    """A stored body as a `chat.completion` with an id of its own."""
    return b'{"id":"%b","created":%d,%b' % (answer_id.encode(), created, body)


def stored_fields(body: bytes) -> Fields:
    """The members of a stored body."""
    fields: Fields = msgspec.json.decode(b"{" + body)
    return fields


def replayed_chunks(body: bytes, request: ChatRequest, *, answer_id: str, created: int) -> list[bytes]:
    """A stored body as the chunks of a stream: for each choice its role, what it says, and why it ended; then the usage."""
    fields = stored_fields(body)
    choices, usage = fields.pop("choices"), fields.pop("usage", None)
    head = {"id": answer_id, "created": created, **fields, "object": "chat.completion.chunk"}
    tail: Fields = {"usage": None} if request.include_usage else {}
    deltas = (delta for place, choice in enumerate(choices) for delta in _deltas(choice, place))
    chunks = [_encode({**head, "choices": [delta], **tail}) for delta in deltas]
    if request.include_usage:
        chunks.append(_encode({**head, "choices": [], "usage": usage}))
    return chunks


def _deltas(choice: Fields, place: int) -> Iterable[Fields]:
    message, index = choice["message"], choice.get("index", place)
    extra = {name: value for name, value in choice.items() if name not in OWN_MEMBERS}
    content = None if message.get("content") is None else ""
    said = {name: value for name, value in message.items() if name != "role" and value is not None}
    for name in said.keys() & NUMBERED:
        said[name] = [{**item, "index": number} for number, item in enumerate(_dicts(said[name]))]
    yield {"index": index, "delta": {"role": message.get("role", "assistant"), "content": content}, "finish_reason": None}
    logprobs = choice.get("logprobs")
    if said or logprobs is not None:
        yield {"index": index, "delta": said, "logprobs": logprobs, "finish_reason": None}
    yield {**extra, "index": index, "delta": {}, "finish_reason": choice.get("finish_reason")}
