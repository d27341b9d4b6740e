"""What the mock says, and how the OpenAI API writes it down: choices, usage, whole completions. No bytes, no time."""

from typing import Any, Final

import msgspec

from bench.chaos import schema
from bench.chaos.fault import Fault
from bench.chaos.question import Question, Tool

CREATED: Final = 1_700_000_000
TOKEN_LENGTH: Final = 4
QUOTED: Final = 60
"""Characters of the question that the answer repeats."""
PHRASE: Final = " and so on, as the spade, the bed and the clay allow,"
MULTI_BYTE: Final = " Grüße, 漢字 und 🙂🙃:"
THOUGHTS: Final = ("The question ", "is easy; ", "I repeat it.")
FILLER_MARK: Final = "<<filler>>"
"""Stands in a text where the bytes of `Fault.filler` belong; they are put in when they are sent."""
FILLER_PER_CHUNK: Final = 16_384

PLAIN_BODY: Final = (
    b'{"id":"chatcmpl-mock-%d","object":"chat.completion","created":1700000000,"model":%b,"choices":[{"index":0,"message":'
    b'{"role":"assistant","content":%b,"refusal":null},"logprobs":null,"finish_reason":"stop"}],"system_fingerprint":"fp_mock",'
    b'"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}}'
)

_encode = msgspec.json.encode


class Saying(msgspec.Struct, frozen=True):
    """One choice: its text (for a tool call: the arguments), cut into tokens and these into chunks."""

    text: str
    tokens: int
    chunks: int
    finish: str | None
    tool: str | None = None
    filler: int = 0

    def tokens_before(self, chunk: int) -> int:
        """Tokens of the chunks that come before this one."""
        return self.tokens * chunk // self.chunks

    def part(self, first: int, last: int) -> str:
        """The text of the tokens from `first` up to, not including, `last`."""
        return self.text[len(self.text) * first // self.tokens : len(self.text) * last // self.tokens]


def say(question: Question, fault: Fault, choice: int) -> Saying:
    """Deterministic: equal for equal questions, different for different ones."""
    tool = question.tool or (question.free_tool if fault.use_tools else None)
    finish = None if fault.no_finish else fault.finish or ("tool_calls" if tool else "stop")
    if fault.empty:
        return Saying("", 0, 0, finish)
    text, padding = _text(question, tool, fault, choice)
    filler = fault.filler
    natural = -(-(len(text) + filler) // TOKEN_LENGTH)
    tokens = fault.tokens or max(natural, fault.chunks or 1)
    chunks = fault.chunks or (-(-filler // FILLER_PER_CHUNK) if filler else tokens)
    if tokens > natural:
        missing = tokens * TOKEN_LENGTH - len(text)
        text += (padding * (missing // len(padding) + 1))[:missing]
    return Saying(text, tokens, min(chunks, tokens), finish, tool.name if tool else None, filler)


def _text(question: Question, tool: Tool | None, fault: Fault, choice: int) -> tuple[str, str]:
    """The shortest text, and what may be repeated behind it without making it invalid."""
    # Equally long for all choices, so that they have the same number of chunks.
    mark = question.digest if question.n == 1 else f"{question.digest}.{choice:03}"
    if tool is not None:
        return _encode(schema.instance(tool.parameters or {"type": "object"}, f"mock {mark}")).decode(), " "
    if question.schema is not None:
        return _encode(schema.instance(question.schema, f"mock {mark}")).decode(), " "
    if question.json_object:
        return _encode({"answer": f"mock {mark}"}).decode(), " "
    multi_byte = MULTI_BYTE if fault.split_utf8 else ""
    return f"mock answer {mark} to:{multi_byte} {question.text[:QUOTED]}", PHRASE


def usage(question: Question, sayings: list[Saying], fault: Fault) -> dict[str, int] | None:
    """The counts as the fault has them reported; None if it has none reported."""
    completion = sum(saying.tokens for saying in sayings)
    match fault.usage:
        case "absent":
            return None
        case "zero":
            return {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        case "wrong":
            return {"prompt_tokens": -7, "completion_tokens": completion, "total_tokens": 1}
        case _:
            total = question.prompt_tokens + completion
            return {"prompt_tokens": question.prompt_tokens, "completion_tokens": completion, "total_tokens": total}


def completion_body(question: Question, sayings: list[Saying], fault: Fault, sequence: int) -> bytes:
    """A whole `chat.completion` as JSON; for the commonest shape from a template, which is five times as fast."""
    if not (_is_plain(question) and _leaves_body_alone(fault)):
        return _encode(completion(question, sayings, fault, sequence))
    asked, answered = question.prompt_tokens, sayings[0].tokens
    return PLAIN_BODY % (sequence, _encode(question.model), _encode(sayings[0].text), asked, answered, asked + answered)


def _is_plain(question: Question) -> bool:
    odd = question.tool or question.json_object or question.n != 1
    return not odd and question.schema is None and question.logprobs is None


def _leaves_body_alone(fault: Fault) -> bool:
    odd = fault.finish or fault.no_finish or fault.empty or fault.no_role or fault.reasoning or fault.huge or fault.gzip_bomb
    return not (odd or fault.use_tools or fault.service_tier) and fault.usage == "normal"


def completion(question: Question, sayings: list[Saying], fault: Fault, sequence: int) -> dict[str, Any]:
    """A whole `chat.completion`."""
    fields = {
        "id": f"chatcmpl-mock-{sequence}",
        "object": "chat.completion",
        "created": CREATED,
        "model": question.model,
        "choices": [_choice(question, saying, fault, index) for index, saying in enumerate(sayings)],
        "system_fingerprint": "fp_mock",
    }
    if fault.service_tier:
        fields["service_tier"] = fault.service_tier
    counts = usage(question, sayings, fault)
    return fields if counts is None else {**fields, "usage": counts}


def _choice(question: Question, saying: Saying, fault: Fault, index: int) -> dict[str, Any]:
    text = saying.text + FILLER_MARK if saying.filler else saying.text
    message: dict[str, Any] = {} if fault.no_role else {"role": "assistant"}
    message |= {"content": None if saying.tool else text, "refusal": None}
    if fault.reasoning:
        message["reasoning_content"] = "".join(THOUGHTS)
    if saying.tool:
        function = {"name": saying.tool, "arguments": text}
        message["tool_calls"] = [{"id": call_id(question, index), "type": "function", "function": function}]
    return {
        "index": index,
        "message": message,
        "logprobs": logprobs(question, saying, 0, saying.tokens),
        "finish_reason": saying.finish,
    }


def call_id(question: Question, choice: int) -> str:
    """The id of a choice's tool call."""
    return f"call_{question.digest}_{choice}"


def logprobs(question: Question, saying: Saying, first: int, last: int) -> dict[str, Any] | None:
    """Log probabilities of the tokens from `first` up to, not including, `last`, if asked for."""
    if question.logprobs is None:
        return None
    tokens = [saying.part(token, token + 1) for token in range(first, last)]
    return {"content": [_logprob(token, question.logprobs) for token in tokens], "refusal": None}


def _logprob(token: str, alternatives: int) -> dict[str, Any]:
    entry = {"token": token, "logprob": -0.25, "bytes": list(token.encode())}
    return {**entry, "top_logprobs": [entry] * alternatives}
