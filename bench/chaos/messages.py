"""The same answers in Anthropic's words: a `message`, or its events. Text only, and only faults of time and connection."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from bench.chaos.answer import Saying
from bench.chaos.fault import Fault
from bench.chaos.question import Question
from bench.chaos.reply import Part

ENDINGS: Final = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}

_encode = msgspec.json.encode


def message_body(question: Question, saying: Saying, sequence: int) -> bytes:
    """A whole message as JSON."""
    content = [{"type": "text", "text": saying.text}]
    return _encode({**_frame(question, saying, sequence), "content": content, "usage": _usage(question, saying.tokens)})


def message_stream(question: Question, saying: Saying, fault: Fault, sequence: int) -> Iterator[Part]:
    """The events up to where the fault breaks off, as parts without HTTP framing."""
    most = saying.chunks if fault.ending is None else min(saying.chunks, fault.ending[0])
    if most == 0:
        return
    begun = {**_frame(question, saying, sequence), "content": [], "stop_reason": None, "usage": _usage(question, 1)}
    block = {"type": "text", "text": ""}
    opening = _event("message_start", message=begun) + _event("content_block_start", index=0, content_block=block)
    yield Part(opening, fault.first_token_ms / 1000 or None)
    pause = fault.chunk_ms / 1000 or None
    for chunk in range(most):
        first, last = saying.tokens_before(chunk), saying.tokens_before(chunk + 1)
        delta = {"type": "text_delta", "text": saying.part(first, last)}
        yield Part(_event("content_block_delta", index=0, delta=delta), pause if chunk else None, 1, last - first)
    if fault.ending is None:
        ending = {"stop_reason": _ending(saying), "stop_sequence": None}
        closing = _event("message_delta", delta=ending, usage={"output_tokens": saying.tokens})
        yield Part(_event("content_block_stop", index=0) + closing + _event("message_stop"))


def _frame(question: Question, saying: Saying, sequence: int) -> dict[str, Any]:
    named = {"id": f"msg_mock_{sequence}", "type": "message", "role": "assistant", "model": question.model}
    return {**named, "stop_reason": _ending(saying), "stop_sequence": None}


def _ending(saying: Saying) -> str | None:
    return None if saying.finish is None else ENDINGS.get(saying.finish, "end_turn")


def _usage(question: Question, tokens: int) -> dict[str, int]:
    return {"input_tokens": question.prompt_tokens, "output_tokens": tokens}


def _event(kind: str, **members: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), _encode({"type": kind, **members}))
