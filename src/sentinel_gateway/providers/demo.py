"""A provider without a model: it repeats the question, deterministically, and says that it is a demo.

For the first minute with Sentinel, when no key is set, and for tests: it streams, reports usage, fills in JSON schemas and
tool arguments, and fails in the ways its model names ask for (`demo-fail-503`, `demo-slow`, `demo-cut`).
"""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from sentinel_gateway.core.chat import Answer, Chunk, Fields, Usage
from sentinel_gateway.core.embeddings import items_of
from sentinel_gateway.errors import UpstreamBroken, UpstreamRefused
from sentinel_gateway.ports import Clock, Completion, Embedded, UpstreamCall, refuse_unsaid
from sentinel_gateway.providers._demo_fields import fill, first_input
from sentinel_gateway.providers._demo_vectors import DIMENSIONS, MOST_DIMENSIONS, make_vector
from sentinel_gateway.providers._errors import Source, read_error
from sentinel_gateway.providers._instances import NoInstance, make_instance

NAME: Final = "demo"
MODELS: Final = frozenset(
    {"demo", "demo-slow", "demo-cut", *(f"demo-fail-{status}" for status in (400, 401, 404, 429, 500, 503))}
)
"""Those that are listed; any `demo-fail-<4xx or 5xx>` is served."""
NOTE: Final = "This is Sentinel's demo: it repeats questions and knows no answers. Set a provider's key to ask a real model."
MAX_QUOTE: Final = 1000
"""Characters of the question that are repeated."""
CHARACTERS_A_TOKEN: Final = 4
MAX_CHOICES: Final = 128

_FAILS: Final = re.compile(r"demo-fail-([45]\d\d)", re.ASCII)
_PIECE: Final = re.compile(r"\S{1,12}\s*|\s+")
_encode = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode


class Pace(msgspec.Struct, frozen=True):
    """Seconds before the first chunk and before each further one."""

    first: float = 0.0
    each: float = 0.0


AT_ONCE: Final = Pace()
SLOW: Final = Pace(first=2.0, each=0.2)


class DemoProvider:
    """`pace` is how fast `demo` streams, `slow` how fast `demo-slow` does."""

    def __init__(self, clock: Clock, *, pace: Pace = AT_ONCE, slow: Pace = SLOW) -> None:
        self._clock = clock
        self._pace = pace
        self._slow = slow

    def __repr__(self) -> str:
        return f"<DemoProvider {self._pace}>"

    @property
    def name(self) -> str:
        return NAME

    def complete(self, call: UpstreamCall) -> Awaitable[Completion]:
        refuse_unsaid(call, NAME)
        return self._complete(call)

    async def _complete(self, call: UpstreamCall) -> Completion:
        _check(call)
        answer = _answer(call, created=int(self._clock()))
        await asyncio.sleep(self._pace_of(call).first)
        if call.model == "demo-cut":
            raise UpstreamBroken("demo broke off in the middle of its answer, as demo-cut always does.")
        return Completion(_encode(answer.fields), answer)

    def open_stream(self, call: UpstreamCall) -> Awaitable["DemoStream"]:
        refuse_unsaid(call, NAME)
        return self._open_stream(call)

    async def _open_stream(self, call: UpstreamCall) -> "DemoStream":
        _check(call)
        chunks = list(_chunks(_answer(call, created=int(self._clock()))))
        cut = call.model == "demo-cut"
        return DemoStream(chunks[: len(chunks) // 2] if cut else chunks, self._pace_of(call), cut=cut)

    async def embed(self, call: UpstreamCall) -> Embedded:
        _check(call)
        items, dimensions = items_of(call.fields["input"]) or [], call.fields.get("dimensions") or DIMENSIONS
        if dimensions > MOST_DIMENSIONS:
            raise _refused(f"the demo's vectors have at most {MOST_DIMENSIONS} dimensions.", "dimensions")
        await asyncio.sleep(self._pace_of(call).first)
        in_base64 = call.fields.get("encoding_format") == "base64"
        vectors = tuple(make_vector(item, dimensions, in_base64=in_base64) for item in items)
        return Embedded(vectors, sum(_tokens(item) if isinstance(item, str) else len(item) for item in items))

    async def list_models(self) -> frozenset[str]:
        return MODELS

    def _pace_of(self, call: UpstreamCall) -> Pace:
        return self._slow if call.model == "demo-slow" else self._pace


class DemoStream:
    """A `ports.ChunkStream` that plays chunks made beforehand, one at a time."""

    def __init__(self, chunks: list[Fields], pace: Pace, *, cut: bool) -> None:
        self._chunks = iter(chunks)
        self._pause = pace.first
        self._pace = pace
        self._cut = cut
        self._finished = False

    def __repr__(self) -> str:
        return f"<DemoStream {'finished' if self._finished else 'open'}>"

    @property
    def finished(self) -> bool:
        return self._finished

    def __aiter__(self) -> AsyncIterator[list[Chunk]]:
        return self

    async def __anext__(self) -> list[Chunk]:
        await asyncio.sleep(self._pause)
        self._pause = self._pace.each
        if (fields := next(self._chunks, None)) is not None:
            return [Chunk(_encode(fields), fields)]
        self._finished = not self._cut
        raise StopAsyncIteration

    async def pipe(self, into: Callable[[list[Chunk]], bool]) -> None:
        while into(await self.__anext__()):
            pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._chunks = iter(())


def _check(call: UpstreamCall) -> None:
    """Raise what the model's name asks for."""
    if failure := _FAILS.fullmatch(call.model):
        body = _encode({"error": {"message": f"This fails with {failure[1]}, as the model's name asks.", "code": "demo_failure"}})
        raise read_error(int(failure[1]), {b"retry-after": b"1"}, body, source=Source(NAME), now=0.0)
    if call.model not in MODELS:
        raise _refused("the demo serves only demo, demo-slow, demo-cut and demo-fail-<status>.", "model", status=404)


def _refused(message: str, param: str, *, status: int = 400) -> UpstreamRefused:
    code = "model_not_found" if param == "model" else "invalid_value"
    return UpstreamRefused(message, upstream_status=status, upstream_code=code, param=param)


def _answer(call: UpstreamCall, *, created: int) -> Answer:
    fields = call.fields
    count = fields.get("n") or 1
    if type(count) is not int or not 1 <= count <= MAX_CHOICES:
        raise _refused(f"n must be a number from 1 to {MAX_CHOICES}.", "n")
    said = [_say(fields, index) for index in range(count)]
    prompt, completion = _tokens(_encode(fields.get("messages"))), sum(_tokens(_spoken(message)) for message, _ in said)
    usage = Usage(prompt, completion, prompt + completion)
    whole = {
        "id": f"chatcmpl-demo-{hashlib.sha256(_encode_sorted(fields)).hexdigest()[:16]}",
        "object": "chat.completion",
        "created": created,
        "model": call.model,
        "choices": [
            {"index": index, "message": message, "logprobs": None, "finish_reason": reason}
            for index, (message, reason) in enumerate(said)
        ],
        "usage": {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": usage.total_tokens},
        "system_fingerprint": "fp_demo",
    }
    return Answer(whole, tuple(reason for _, reason in said), usage)


def _tokens(text: str | bytes) -> int:
    return -(-len(text) // CHARACTERS_A_TOKEN)


def _spoken(message: Fields) -> str:
    calls = message.get("tool_calls", [])
    return (message["content"] or "") + "".join(_said_in(call) for call in calls)


def _said_in(call: Fields) -> str:
    said: str = call["function"]["arguments"] if call["type"] == "function" else call["custom"]["input"]
    return said


def _say(fields: Fields, index: int) -> tuple[Fields, str]:
    """One choice's message and why it ends."""
    message: Fields = {"role": "assistant", "content": None, "refusal": None}
    if tools := _demanded_tools(fields):
        calls = [_call(tool, f"call_demo_{index}_{number}", _quote(fields)) for number, tool in enumerate(tools)]
        return {**message, "tool_calls": calls}, "tool_calls"
    text = _structured(fields)
    if text is not None:
        return {**message, "content": text}, "stop"
    quote = _quote(fields)
    if (filled := _filled(fields)) is not None:
        return {**message, "content": filled}, "stop"
    text = f"{f'({index + 1}) ' if index else ''}{quote}\n\n{NOTE}"
    limit = fields.get("max_completion_tokens") or fields.get("max_tokens")
    cut = text[: limit * CHARACTERS_A_TOKEN] if type(limit) is int and limit > 0 else text
    return {**message, "content": cut}, "stop" if cut == text else "length"


def _quote(fields: Fields) -> str:
    """What was asked last, or what a tool came back with."""
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        raise _refused("messages must be a list of messages.", "messages")
    if messages[-1].get("role") == "tool":
        return f"The tool said: {_text(messages[-1].get('content'))}"
    asked = next((message for message in reversed(messages) if message.get("role") == "user"), messages[-1])
    return f"You asked: {_text(asked.get('content'))}"


def _text(content: Any) -> str:
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict)]
        content = " ".join(str(part["text"]) if "text" in part else f"[{part.get('type')}]" for part in parts)
    text = content if isinstance(content, str) else ""
    return text if len(text) <= MAX_QUOTE else f"{text[:MAX_QUOTE]}..."


def _structured(fields: Fields) -> str | None:
    match fields.get("response_format"):
        case {"type": "json_schema", "json_schema": {"schema": schema}}:
            return _encode(_instance(schema, "response_format")).decode()
        case {"type": "json_object"}:
            return _encode({"demo": True, "question": _quote(fields)}).decode()
        case _:
            return None


def _filled(fields: Fields) -> str | None:
    """What a program that asks is answered."""
    *earlier, last = fields["messages"]
    asked = last.get("content")
    if not isinstance(asked, str) or (question := first_input(asked)) is None:
        return None
    system = next((_text(message.get("content")) for message in earlier if message.get("role") == "system"), "")
    try:
        return fill(system, asked, text=f"You asked: {question[:MAX_QUOTE]}\n\n{NOTE}")
    except NoInstance as exc:
        raise _refused(f"The demo can't make an instance: {exc}.", "messages") from exc


def _demanded_tools(fields: Fields) -> list[Fields]:
    """The tools that must be called: all if they may run in parallel and it was said so, else the first; or the named one."""
    tools = [tool for tool in fields.get("tools") or [] if isinstance(tool, dict) and _is_tool(tool)]
    match fields.get("tool_choice"):
        case "required":
            demanded = tools if fields.get("parallel_tool_calls") is True else tools[:1]
        case {"type": "function" as kind, "function": {"name": name}} | {"type": "custom" as kind, "custom": {"name": name}}:
            demanded = [tool for tool in tools if tool["type"] == kind and tool[kind].get("name") == name][:1]
        case _:
            return []
    if not demanded:
        raise _refused("tool_choice demands a tool that isn't in tools.", "tool_choice")
    return demanded


def _is_tool(tool: Fields) -> bool:
    kind = tool.get("type")
    return isinstance(kind, str) and isinstance(tool.get(kind), dict)


def _call(tool: Fields, call_id: str, quote: str) -> Fields:
    kind = tool["type"]
    name = tool[kind].get("name", "")
    if kind == "custom":
        return {"id": call_id, "type": kind, "custom": {"name": name, "input": quote}}
    arguments = _encode(_instance(tool[kind].get("parameters") or {"type": "object"}, "tools")).decode()
    return {"id": call_id, "type": kind, "function": {"name": name, "arguments": arguments}}


def _instance(schema: Any, param: str) -> Any:
    try:
        return make_instance(schema)
    except NoInstance as exc:
        raise _refused(f"The demo can't make an instance: {exc}.", param) from exc


def _chunks(answer: Answer) -> Iterator[Fields]:
    """A whole answer as the chunks that a model would have streamed."""
    whole = answer.fields
    head = {name: whole[name] for name in ("id", "created", "model", "system_fingerprint")}
    frame: Fields = {**head, "object": "chat.completion.chunk", "usage": None}
    for choice in whole["choices"]:
        for delta in _deltas(choice["message"]):
            yield {**frame, "choices": [{"index": choice["index"], "delta": delta, "logprobs": None, "finish_reason": None}]}
        end = {"index": choice["index"], "delta": {}, "logprobs": None, "finish_reason": choice["finish_reason"]}
        yield {**frame, "choices": [end]}
    yield {**frame, "choices": [], "usage": whole["usage"]}


def _deltas(message: Fields) -> Iterator[Fields]:
    calls = message.get("tool_calls", [])
    yield {"role": "assistant", "content": None if calls else ""}
    for piece in _PIECE.findall(message["content"] or ""):
        yield {"content": piece}
    for index, call in enumerate(calls):
        kind, member = call["type"], "arguments" if call["type"] == "function" else "input"
        opening = {"index": index, "id": call["id"], "type": kind, kind: {"name": call[kind]["name"], member: ""}}
        yield {"tool_calls": [opening]}
        for piece in _PIECE.findall(call[kind][member]):
            yield {"tool_calls": [{"index": index, kind: {member: piece}}]}
