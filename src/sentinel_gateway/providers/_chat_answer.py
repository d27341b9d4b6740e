"""Answers and chunks in OpenAI's shape, written from what providers say that speak otherwise.

Pure. What OpenAI has no word for stands where others have put it before: thinking in `reasoning_content`, as DeepSeek and vLLM
write it, and with its proof in `thinking_blocks`. To whoever asked in the provider's own dialect for more than a chat says, the
blocks of the answer are told once more as they came, in `content_blocks`, and why it ended in `ending` of the choice.
"""

from typing import Any, Final, Literal

import msgspec

from sentinel_gateway.core.chat import Chunk, Fields, tier_of

Ending = Literal["stop", "length", "tool_calls", "content_filter"]

CUT: Final[Ending] = "length"
"""What an end is called that is unknown: never one that says all is there, which would be kept and given to others."""

TEXT: Final = {"content": None}.keys()
"""What a delta has that says some text, and nothing else."""
SAID: Final = b'},"logprobs":null,"finish_reason":null}],"usage":null}'

_encode = msgspec.json.Encoder().encode


class Tokens(msgspec.Struct, frozen=True):
    """What was used. `read` and `written` count those of `prompt` that a provider's prompt cache had, and took in.

    `written_1h` are those of the latter that it keeps for an hour, at a price of their own.
    """

    prompt: int = 0
    completion: int = 0
    read: int = 0
    written: int = 0
    reasoning: int = 0
    written_1h: int = 0

    @property
    def fields(self) -> Fields:
        """OpenAI's `usage`."""
        longer = {"cache_write_1h_tokens": self.written_1h} if self.written_1h else {}
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.read, "cache_write_tokens": self.written, **longer},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning},
        }


class Message(msgspec.Struct):
    """What one choice says, gathered piece by piece."""

    texts: list[str] = msgspec.field(default_factory=list)
    thoughts: list[str] = msgspec.field(default_factory=list)
    blocks: list[Fields] = msgspec.field(default_factory=list)
    as_told: list[Fields] = msgspec.field(default_factory=list)
    calls: list[Fields] = msgspec.field(default_factory=list)

    @property
    def fields(self) -> Fields:
        """The message of a choice."""
        content = "".join(self.texts)
        message: Fields = {"role": "assistant", "content": content if content or not self.calls else None, "refusal": None}
        if self.thoughts:
            message["reasoning_content"] = "".join(self.thoughts)
        if self.blocks:
            message["thinking_blocks"] = self.blocks
        if self.calls:
            message["tool_calls"] = self.calls
        if self.as_told:
            message["content_blocks"] = self.as_told
        return message


def tool_call(call_id: str, name: str, arguments: Any) -> Fields:
    """A call of a tool, its arguments decoded."""
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": _encode(arguments).decode()}}


def choice_of(message: Message, ending: Ending, index: int = 0, *, matched: Any = None, as_told: Fields | None = None) -> Fields:
    """One choice of a whole answer. `matched` is the stop sequence that ended it, where the provider tells one."""
    return _told({"index": index, "message": message.fields, "logprobs": None, "finish_reason": ending}, matched, as_told)


def _told(choice: Fields, matched: Any, as_told: Fields | None) -> Fields:
    stopped = {"stop_sequence": matched} if isinstance(matched, str) else {}
    return {**choice, **stopped, **({"ending": as_told} if as_told else {})}


class Writer:
    """Writes the answer to one request. `created` is in Unix seconds."""

    __slots__ = ("_created", "_frame", "_id", "_model", "_said", "_spoke", "_tier", "as_told")

    def __init__(self, *, created: int, model: str, answer_id: str = "", as_told: bool = False) -> None:
        self._created = created
        self._id = answer_id
        self._model = model
        self._tier = ""
        self._spoke: set[int] = set()
        """The choices that have said something: the first time tells the role."""
        self._said: int | None = None
        """The choice whose text the last chunk said, and nothing else; None if it said anything else."""
        self._frame = b"", b""
        """What stands before and behind that text, where the next chunk says more of it."""
        self.as_told = as_told
        """The caller speaks as the provider does, and said more than a chat can: it is told more as well."""

    def __repr__(self) -> str:
        return f"<Writer {self._id} {self._model}>"

    @property
    def answer_id(self) -> str:
        return self._id

    def name(self, answer_id: Any, model: Any) -> None:
        """How the provider calls this answer, and the model that gives it."""
        before = self._id, self._model
        self._id = answer_id if isinstance(answer_id, str) else self._id
        self._model = model if isinstance(model, str) and model else self._model
        if (self._id, self._model) != before:
            self._said = None

    def serve(self, service_tier: Any) -> None:
        """The provider says at which tier it serves the call: the answer tells it, unless that is the standard one."""
        if (tier := tier_of(service_tier)) != self._tier:
            self._tier, self._said = tier, None

    def whole(self, choices: list[Fields], tokens: Tokens) -> Fields:
        """A `chat.completion`."""
        return {**self._head("chat.completion"), "choices": choices, "usage": tokens.fields}

    def delta(self, delta: Fields, index: int = 0) -> Chunk:
        """A chunk that says something. More text of the same choice is written into the frame of the chunk before."""
        if delta.keys() != TEXT:
            return self._chunk([self._choice(delta, None, index)])
        text: str = delta["content"]
        if index == self._said:
            before, behind = self._frame
            return Chunk(before + _encode(text) + behind, None, text)
        chunk = self._chunk([self._choice(delta, None, index)])
        self._said, head = index, _encode(self._head("chat.completion.chunk"))[:-1]
        self._frame = b'%b,"choices":[{"index":%d,"delta":{"content":' % (head, index), SAID
        return chunk

    def end(self, ending: Ending, index: int = 0, *, matched: Any = None, as_told: Fields | None = None) -> Chunk:
        """The chunk that says why a choice ended; the rest as in `choice_of`."""
        return self._chunk([_told(self._choice({}, ending, index), matched, as_told)])

    def usage(self, tokens: Tokens) -> Chunk:
        """The last chunk."""
        return self._chunk([], tokens.fields)

    def _choice(self, delta: Fields, ending: Ending | None, index: int) -> Fields:
        if index not in self._spoke:
            self._spoke.add(index)
            delta = {"role": "assistant", "content": "", **delta}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": ending}

    def _chunk(self, choices: list[Fields], usage: Fields | None = None) -> Chunk:
        self._said = None
        fields = {**self._head("chat.completion.chunk"), "choices": choices, "usage": usage}
        return Chunk(_encode(fields), fields)

    def _head(self, kind: str) -> Fields:
        head = {"id": self._id, "object": kind, "created": self._created, "model": self._model}
        return {**head, "service_tier": self._tier} if self._tier else head


def count(value: Any) -> int:
    """A number of tokens as a provider tells it; none told is 0."""
    return value if type(value) is int and value > 0 else 0
