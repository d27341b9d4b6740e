"""What Gemini answers, in OpenAI's shape: a whole `GenerateContentResponse`, and those of a stream, which are alike. Pure.

Source: https://ai.google.dev/api/generate-content
"""

from collections.abc import Iterator
from typing import Any, Final

from sentinel_gateway.core.chat import Chunk, Fields
from sentinel_gateway.providers._chat_answer import CUT, Ending, Message, Tokens, Writer, choice_of, count, tool_call
from sentinel_gateway.providers._reported import Reported

ENDINGS: Final[dict[Any, Ending]] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    **dict.fromkeys(
        (
            *("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR"),
            *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"),
        ),
        "content_filter",
    ),
}
FAILED: Final = 500
"""The status of an error that comes in a stream without one."""


def read_response(fields: Any, writer: Writer) -> Fields | None:
    """A response as a `chat.completion`; None if it is none. One whose prompt was blocked has an empty choice."""
    if not isinstance(fields, dict):
        return None
    writer.name(fields.get("responseId"), fields.get("modelVersion"))
    writer.serve(_tier(fields.get("usageMetadata")))
    choices = []
    for index, candidate in _candidates(fields):
        message, names = Message(), CallNames(writer)
        for part in _parts(candidate):
            _gather(message, part, names)
        choices.append(choice_of(message, _ending(candidate.get("finishReason"), calls=bool(message.calls)), index))
    if not choices and _is_blocked(fields):
        choices = [choice_of(Message(), "content_filter")]
    return writer.whole(choices, read_tokens(fields.get("usageMetadata"))) if choices else None


class CallNames:
    """Ids for the calls of one choice: older models give them none."""

    __slots__ = ("_count", "_writer")

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._count = 0

    def __repr__(self) -> str:
        return f"<CallNames {self._count}>"

    def next(self, call: Fields) -> tuple[int, Fields]:
        """The number of this call, and the call as OpenAI's."""
        number, self._count = self._count, self._count + 1
        own = call.get("id")
        call_id = own if isinstance(own, str) and own else f"call_{self._writer.answer_id}_{number}"
        return number, tool_call(call_id, str(call.get("name", "")), call.get("args") or {})


def _gather(message: Message, part: Fields, names: CallNames) -> None:
    match part:
        case {"text": str(text), "thought": True}:
            message.thoughts.append(text)
        case {"text": str(text)}:
            message.texts.append(text)
        case {"functionCall": dict(call)}:
            message.calls.append({**names.next(call)[1], **_signed(part)})


def _signed(part: Fields) -> Fields:
    """Where Google keeps a signature in OpenAI's shape: the next request has to bring it back."""
    signature = part.get("thoughtSignature")
    return {"extra_content": {"google": {"thought_signature": signature}}} if isinstance(signature, str) and signature else {}


def read_tokens(usage: Any) -> Tokens:
    """Gemini counts thoughts apart from what it says; OpenAI counts them in."""
    told = usage if isinstance(usage, dict) else {}
    thoughts = count(told.get("thoughtsTokenCount"))
    return Tokens(
        prompt=count(told.get("promptTokenCount")) + count(told.get("toolUsePromptTokenCount")),
        completion=count(told.get("candidatesTokenCount")) + thoughts,
        read=count(told.get("cachedContentTokenCount")),
        reasoning=thoughts,
    )


def _tier(usage: Any) -> str:
    tier = usage.get("serviceTier") if isinstance(usage, dict) else None
    return tier.lower().removeprefix("service_tier_").removeprefix("unspecified") if isinstance(tier, str) else ""


def _candidates(fields: Fields) -> Iterator[tuple[int, Fields]]:
    candidates = fields.get("candidates")
    for candidate in candidates if isinstance(candidates, list) else ():
        if isinstance(candidate, dict):
            yield count(candidate.get("index")), candidate


def _parts(candidate: Fields) -> Iterator[Fields]:
    content = candidate.get("content")
    parts = content.get("parts") if isinstance(content, dict) else None
    return (part for part in parts if isinstance(part, dict)) if isinstance(parts, list) else iter(())


def _is_blocked(fields: Fields) -> bool:
    feedback = fields.get("promptFeedback")
    return isinstance(feedback, dict) and bool(feedback.get("blockReason"))


def _ending(reason: Any, *, calls: bool) -> Ending:
    ending = ENDINGS.get(reason, CUT) if isinstance(reason, str) else CUT
    return "tool_calls" if calls and ending == "stop" else ending


class GeminiReader:
    """The events of one stream, one by one. `finished` once it has closed and all `expected` choices have said why they ended."""

    __slots__ = ("_endings", "_expected", "_names", "_tokens", "_writer", "finished")

    def __init__(self, writer: Writer, *, expected: int) -> None:
        self._writer = writer
        self._expected = expected
        self._names: dict[int, CallNames] = {}
        """Of the choices that have called tools."""
        self._endings: dict[int, Ending] = {}
        self._tokens = Tokens()
        self.finished = False

    def __repr__(self) -> str:
        return f"<GeminiReader {'finished' if self.finished else 'open'}, {len(self._endings)} of {self._expected} ended>"

    def read(self, event: Fields) -> list[Chunk]:
        """The chunks that an event makes."""
        if error := event.get("error"):
            code = error.get("code") if isinstance(error, dict) else None
            raise Reported(code if type(code) is int else FAILED, error)
        self._writer.name(event.get("responseId"), event.get("modelVersion"))
        if "usageMetadata" in event:
            self._tokens = read_tokens(event["usageMetadata"])
            self._writer.serve(_tier(event["usageMetadata"]))
        chunks = [chunk for index, candidate in _candidates(event) for chunk in self._say(index, candidate)]
        if _is_blocked(event):
            self._endings = dict.fromkeys(range(self._expected), "content_filter")
        return chunks

    def close(self) -> list[Chunk]:
        """The ends, if there is one for every choice, and the usage: more may follow the reason, but not the close."""
        if len(self._endings) < self._expected:
            return []
        self.finished = True
        ends = [self._writer.end(ending, index) for index, ending in sorted(self._endings.items())]
        return [*ends, self._writer.usage(self._tokens)]

    def _say(self, index: int, candidate: Fields) -> Iterator[Chunk]:
        for part in _parts(candidate):
            match part:
                case {"text": str(text), "thought": True}:
                    yield self._writer.delta({"reasoning_content": text}, index)
                case {"text": str(text)} if text:
                    yield self._writer.delta({"content": text}, index)
                case {"functionCall": dict(call)}:
                    number, written = self._names.setdefault(index, CallNames(self._writer)).next(call)
                    yield self._writer.delta({"tool_calls": [{"index": number, **written, **_signed(part)}]}, index)
        if reason := candidate.get("finishReason"):
            self._endings[index] = _ending(reason, calls=index in self._names)
