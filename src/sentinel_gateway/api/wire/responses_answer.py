"""An answer as OpenAI's Responses tell it (and Open Responses): items that grow, one event for each step.

There is one way from a chat completion to a response: chunk by chunk. A whole answer is what the last event of its stream holds.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from sentinel_gateway.api.wire.openai import encode, error_members
from sentinel_gateway.api.wire.responses_request import repeated
from sentinel_gateway.core.chat import ChatRequest, Fields, read_usage
from sentinel_gateway.core.streaming import replayed_chunks
from sentinel_gateway.errors import RequestError

PREFIX: Final = "chatcmpl-"
THOUGHTS: Final = ("reasoning_content", "reasoning")
"""Where those who show what a model thinks put it."""
SAID_IN: Final = {"output_text": "text", "refusal": "refusal", "reasoning_text": "text"}
"""Kinds of parts, and where their text stands."""
CODES: Final = frozenset({"rate_limit_exceeded"})
"""Of a response that has failed: clients know a closed list, and of that we have this one."""
ENDINGS: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Why an answer is incomplete."""
WHOLE: Final = frozenset({"stop", "tool_calls", "function_call"})
"""Ends that say all is there. Any other, and one that nobody told, is called what a cut is: it may not be all."""

_decode = msgspec.json.Decoder(Fields).decode


def response_body(completion: bytes, request: ChatRequest, *, now: Callable[[], float]) -> bytes:
    """A whole `chat.completion` as a response. `now` tells Unix time."""
    events = ResponseEvents(request, now=now)
    whole = _decode(completion)
    chunks = replayed_chunks(encode(whole)[1:], request, answer_id="", created=0)
    events.say(chunks)
    return encode(events.ended())


def error_event(error: RequestError, *, sequence: int) -> bytes:
    """An error as an event: its members as OpenAI documents them, and in the object by which OpenAI's clients know it."""
    members = error_members(error)
    return _event("error", sequence, **members, error=members)


class _Part:
    """A part of an item that is being said."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.pieces: list[str] = []

    def written(self) -> Fields:
        extras: Fields = {"annotations": [], "logprobs": []} if self.kind == "output_text" else {}
        return {"type": self.kind, SAID_IN[self.kind]: "".join(self.pieces), **extras}


class _Item:
    """An item of the output: a message, what the model thought, or a call with its one part. `place` is its index."""

    def __init__(self, kind: str, place: int, head: Fields) -> None:
        self.kind = kind
        self.place = place
        self.head = head
        self.parts: list[_Part] = []
        self.status = "in_progress"

    @property
    def is_call(self) -> bool:
        return self.kind in CALLS

    def written(self) -> Fields:
        whole = {**self.head, "status": self.status}
        if self.is_call:
            whole[CALLS[self.kind]] = "".join(piece for part in self.parts for piece in part.pieces)
        else:
            whole["content"] = [part.written() for part in self.parts]
        return whole


CALLS: Final = {"function_call": "arguments", "custom_tool_call": "input"}
"""Kinds of calls, and where their text stands."""
PREFIXES: Final = {"message": "msg", "reasoning": "rs", "function_call": "fc", "custom_tool_call": "ctc"}


class ResponseEvents:
    """One answer, told as it comes: `say` what came, then `end` it once. `now` tells Unix time."""

    pulse = b": keep-alive\n\n"

    def __init__(self, request: ChatRequest, *, now: Callable[[], float]) -> None:
        self._request = request
        self._now = now
        self._sequence = 0
        self._head: Fields = {}
        """What the response says of itself; empty before the first chunk."""
        self._id = ""
        self._items: list[_Item] = []
        self._speaking: _Item | None = None
        self._calls: dict[str, _Item] = {}
        """By the numbers that the provider gives them."""
        self._finish = ""
        self._usage: Fields | None = None

    def say(self, payloads: list[bytes]) -> bytes:
        """The events of chunks that came together."""
        return b"".join(event for payload in payloads for event in self._told(_decode(payload)))

    def end(self) -> bytes:
        """The end of a stream that is complete."""
        begun = [] if self._head else list(self._begin({}))
        closed = [*begun, *self._close_all()]
        response = self.ended()
        return b"".join([*closed, self._event(f"response.{response['status']}", response=response), b"data: [DONE]\n\n"])

    def broken(self, error: RequestError) -> bytes:
        """The end of a stream that breaks: the error, and what there is of the response."""
        told = error_event(error, sequence=self._sequence)
        self._sequence += 1
        if not self._head:
            return told
        code = error.shown_code if error.shown_code in CODES else "server_error"
        failed = self._response("failed") | {"error": {"code": code, "message": error.message}}
        return told + self._event("response.failed", response=failed)

    def ended(self) -> Fields:
        """The response as it is in the end."""
        if not self._head:
            list(self._begin({}))
        list(self._close_all())
        reason = self._cut()
        more = {"completed_at": int(self._now()), "incomplete_details": {"reason": reason} if reason else None}
        return self._response("incomplete" if reason else "completed") | more

    def _told(self, chunk: Fields) -> Iterator[bytes]:
        if not self._head:
            yield from self._begin(chunk)
        if chunk.get("usage") is not None:
            self._usage = _usage(chunk["usage"]) or self._usage
        for choice in _dicts(chunk.get("choices")):
            if choice.get("index"):
                continue  # there is one answer here
            delta = _dict(choice.get("delta"))
            for member, kind, part in SPOKEN:
                if piece := _text(delta.get(member)):
                    yield from self._speak(kind, part, piece)
            for call in _dicts(delta.get("tool_calls")):
                yield from self._call(call)
            self._finish = _text(choice.get("finish_reason")) or self._finish

    def _begin(self, chunk: Fields) -> Iterator[bytes]:
        self._id = str(chunk.get("id") or "").removeprefix(PREFIX)
        created = chunk.get("created")
        original = self._request.original or {}
        self._head = {
            "id": f"resp_{self._id}",
            "object": "response",
            "created_at": created if type(created) is int and created else int(self._now()),
            "completed_at": None,
            "error": None,
            "incomplete_details": None,
            **repeated(original),
            "model": chunk.get("model") or self._request.model,
        }
        if tier := chunk.get("service_tier"):
            self._head["service_tier"] = tier
        for kind in ("response.created", "response.in_progress"):
            yield self._event(kind, response=self._response("in_progress"))

    def _response(self, status: str) -> Fields:
        return {**self._head, "status": status, "output": [item.written() for item in self._items], "usage": self._usage}

    def _speak(self, kind: str, part_kind: str, piece: str) -> Iterator[bytes]:
        item = self._speaking
        if item is None or item.kind != kind:
            yield from self._close_spoken()
            item = self._speaking = self._open(kind, {"role": "assistant"} if kind == "message" else {"summary": []})
            yield self._item_event("added", item)
        if not item.parts or item.parts[-1].kind != part_kind:
            yield from self._close_part(item)
            item.parts.append(_Part(part_kind))
            yield self._part_event("content_part.added", item, part=item.parts[-1].written())
        item.parts[-1].pieces.append(piece)
        yield self._part_event(f"{part_kind}.delta", item, delta=piece, **_logprobs(part_kind))

    def _call(self, call: Fields) -> Iterator[bytes]:
        kind = "custom_tool_call" if call.get("type") == "custom" or "custom" in call else "function_call"
        said = _dict(call.get("custom" if kind == "custom_tool_call" else "function"))
        number, call_id, name = str(call.get("index")), _text(call.get("id")), _text(said.get("name"))
        item = self._calls.get(number)
        if item is None or (call_id and name and call_id != item.head["call_id"]):  # some give all their calls the number 0
            yield from self._close_spoken()
            head = {"call_id": call_id or f"call_{self._id}_{len(self._items)}", "name": name}
            item = self._calls[number] = self._open(kind, head)
            item.parts.append(_Part(kind))
            yield self._item_event("added", item)
        if piece := _text(said.get(CALLS[item.kind])):
            item.parts[-1].pieces.append(piece)
            yield self._call_event("delta", item, delta=piece)

    def _open(self, kind: str, more: Fields) -> _Item:
        place = len(self._items)
        item = _Item(kind, place, {"type": kind, "id": f"{PREFIXES[kind]}_{self._id}_{place}", **more})
        self._items.append(item)
        return item

    def _close_all(self) -> Iterator[bytes]:
        """All that is open ends: calls only now, since their pieces may come in any order."""
        status = "incomplete" if self._cut() else "completed"
        yield from self._close_spoken(status)
        for item in self._items:
            if item.status == "in_progress":
                item.status = status
                text = item.written()[CALLS[item.kind]]
                yield self._call_event("done", item, **{CALLS[item.kind]: text})
                yield self._item_event("done", item)

    def _close_spoken(self, status: str = "completed") -> Iterator[bytes]:
        """What is being said ends: it is complete if something else follows it."""
        item, self._speaking = self._speaking, None
        if item is not None:
            yield from self._close_part(item)
            item.status = status
            yield self._item_event("done", item)

    def _cut(self) -> str | None:
        """Why there may be more to the answer than was said; None if that is all."""
        return None if self._finish in WHOLE else ENDINGS.get(self._finish, ENDINGS["length"])

    def _close_part(self, item: _Item) -> Iterator[bytes]:
        if item.parts:
            part = item.parts[-1].written()
            member = SAID_IN[part["type"]]
            yield self._part_event(f"{part['type']}.done", item, **{member: part[member]}, **_logprobs(part["type"]))
            yield self._part_event("content_part.done", item, part=part)

    def _item_event(self, step: str, item: _Item) -> bytes:
        return self._event(f"response.output_item.{step}", output_index=item.place, item=item.written())

    def _part_event(self, kind: str, item: _Item, **members: Any) -> bytes:
        where = {"item_id": item.head["id"], "output_index": item.place, "content_index": len(item.parts) - 1}
        return self._event(f"response.{kind}", **where, **members)

    def _call_event(self, step: str, item: _Item, **members: Any) -> bytes:
        kind = f"response.{item.kind}_{CALLS[item.kind]}.{step}"
        return self._event(kind, item_id=item.head["id"], output_index=item.place, **members)

    def _event(self, kind: str, **members: Any) -> bytes:
        event = _event(kind, self._sequence, **members)
        self._sequence += 1
        return event


SPOKEN: Final = (
    *((member, "reasoning", "reasoning_text") for member in THOUGHTS),
    ("content", "message", "output_text"),
    ("refusal", "message", "refusal"),
)
"""Members of a delta, and what they are said as."""


def _event(kind: str, sequence: int, **members: Any) -> bytes:
    data = encode({"type": kind, "sequence_number": sequence} | {**members, "type": kind})
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


def _logprobs(kind: str) -> Fields:
    """A place for them, as clients expect it; none are told."""
    return {"logprobs": []} if kind == "output_text" else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _dict(value: Any) -> Fields:
    return value if isinstance(value, dict) else {}


def _dicts(value: Any) -> Iterator[Fields]:
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else iter(())


def _usage(usage: Any) -> Fields | None:
    counts = read_usage(usage)
    if counts is None:
        return None
    asked, answered = _dict(usage.get("prompt_tokens_details")), _dict(usage.get("completion_tokens_details"))
    return {
        "input_tokens": counts.prompt_tokens,
        "input_tokens_details": {name: _count(asked, name) for name in ("cached_tokens", "cache_write_tokens")},
        "output_tokens": counts.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": _count(answered, "reasoning_tokens")},
        "total_tokens": counts.total_tokens,
    }


def _count(details: Fields, name: str) -> int:
    count = details.get(name)
    return count if type(count) is int and count >= 0 else 0
