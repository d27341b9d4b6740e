"""A streamed answer: `chat.completion.chunk` events as parts of a plan."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from bench.chaos import answer
from bench.chaos.answer import CREATED, FILLER_MARK, THOUGHTS, Saying
from bench.chaos.fault import Fault
from bench.chaos.question import Question
from bench.chaos.reply import Part, error_body, filled

DONE: Final = b"[DONE]"
NOT_JSON: Final = b'{"id": "chatcmpl-mock", "choi'
COMMENT: Final = b": a comment"

_encode = msgspec.json.encode


class _Writer:
    """Writes the events of one stream."""

    def __init__(self, question: Question, sayings: list[Saying], fault: Fault, sequence: int) -> None:
        self.question, self.sayings, self.fault = question, sayings, fault
        self.usage = answer.usage(question, sayings, fault)
        self.own_usage = fault.usage == "late" or (question.include_usage and fault.usage not in ("absent", "content"))
        self.frame = {
            "id": f"chatcmpl-mock-{sequence}",
            "object": "chat.completion.chunk",
            "created": CREATED,
            "model": question.model,
            "system_fingerprint": "fp_mock",
            **({"service_tier": fault.service_tier} if fault.service_tier else {}),
        }

    def line(self, data: bytes) -> bytes:
        """One event of this data."""
        if self.fault.split_utf8:
            return b"%b\r\n\r\ndata: %b\r\n\r\n" % (COMMENT, data)
        return b"data: %b\n\n" % data

    def event(self, choices: list[dict[str, Any]], usage: dict[str, int] | None = None) -> bytes:
        """One chunk as an event."""
        fields = {**self.frame, "choices": choices}
        if usage is not None or self.own_usage:
            fields["usage"] = usage
        return self.line(_encode(fields))

    def delta(self, index: int, delta: dict[str, Any], **more: Any) -> bytes:
        """One chunk with one choice's delta."""
        usage = more.pop("usage", None)
        return self.event([{"index": index, "delta": delta, "logprobs": None, "finish_reason": None, **more}], usage)

    def opening(self, index: int) -> bytes:
        """What comes before the content: the role, a tool call's name, the thoughts."""
        saying = self.sayings[index]
        role = {} if self.fault.no_role else {"role": "assistant"}
        if saying.tool:
            function = {"name": saying.tool, "arguments": ""}
            call = {"index": 0, "id": answer.call_id(self.question, index), "type": "function", "function": function}
            events = self.delta(index, {**role, "content": None, "tool_calls": [call]})
        else:
            events = self.delta(index, {**role, "content": "", "refusal": None}) if role else b""
        if self.fault.reasoning:
            events += b"".join(self.delta(index, {"reasoning_content": thought}) for thought in THOUGHTS)
        return events

    def content(self, index: int, chunk: int) -> bytes:
        """One content chunk; the filler is marked."""
        saying = self.sayings[index]
        first, last = saying.tokens_before(chunk), saying.tokens_before(chunk + 1)
        text = saying.part(first, last)
        delta: dict[str, Any] = {"content": text + FILLER_MARK if saying.filler else text}
        if saying.tool:
            delta = {"tool_calls": [{"index": 0, "function": {"arguments": delta["content"]}}]}
        ends = self.fault.usage == "content" and chunk + 1 == saying.chunks and index + 1 == len(self.sayings)
        logprobs = answer.logprobs(self.question, saying, first, last)
        return self.delta(index, delta, logprobs=logprobs, usage=self.usage if ends else None)

    def closing(self) -> bytes:
        """What comes after the content."""
        choices = enumerate(self.sayings)
        events = [self.delta(index, {}, finish_reason=saying.finish) for index, saying in choices if saying.finish]
        if self.own_usage:
            events.append(self.event([], self.usage))
        if not self.fault.no_done:
            events.append(self.line(DONE))
        return b"".join(events)


def stream(question: Question, sayings: list[Saying], fault: Fault, sequence: int) -> Iterator[Part]:
    """The events up to where the fault breaks off, as parts without HTTP framing."""
    writer = _Writer(question, sayings, fault, sequence)
    broken_after = fault.sse_error_after if fault.ending is None else fault.ending[0]
    if broken_after == 0:
        if fault.sse_error_after is not None:
            yield Part(_error(writer))
        return
    yield Part(b"".join(map(writer.opening, range(len(sayings)))), fault.first_token_ms / 1000 or None)
    chunks = sayings[0].chunks
    for chunk in range(chunks if broken_after is None else min(chunks, broken_after)):
        yield from _round(writer, chunk)
    if broken_after is None:
        yield Part(writer.closing())
    elif fault.sse_error_after is not None:
        yield Part(_error(writer))


def _round(writer: _Writer, chunk: int) -> Iterator[Part]:
    """One content chunk of each choice."""
    pause = writer.fault.chunk_ms / 1000 if chunk and writer.fault.chunk_ms else None
    for index, saying in enumerate(writer.sayings):
        event, tokens = writer.content(index, chunk), saying.tokens_before(chunk + 1) - saying.tokens_before(chunk)
        if saying.filler:
            filler = saying.filler * (chunk + 1) // saying.chunks - saying.filler * chunk // saying.chunks
            yield from filled(event, filler, pause=pause, tokens=tokens)
        else:
            yield Part(event, pause, 1, tokens)
        pause = None
    if chunk == 0 and writer.fault.bad_sse:
        yield Part(writer.line(NOT_JSON))


def _error(writer: _Writer) -> bytes:
    return writer.line(error_body(500, "mock error in mid-stream"))
