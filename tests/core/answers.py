"""Answers made from chance, and streams that say the same, cut anywhere."""

from collections import deque
from random import Random
from typing import Any

from sentinel_gateway.core.chat import Fields

ENDINGS = ("stop", "length", "tool_calls", "function_call", "content_filter")
LETTERS = 'ab \n"\\{é漢🙂🙃\u200d\u0301\u2028\0'
HEAD = {"id": "chatcmpl-1", "created": 1_800_000_000, "model": "m-1", "system_fingerprint": "fp", "x_groq": {"id": "r"}}
USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 7,
    "total_tokens": 16,
    "completion_tokens_details": {"reasoning_tokens": 4},
}


def text(rng: Random) -> str:
    return "".join(rng.choices(LETTERS, k=rng.randint(0, 9)))


def tool_call(rng: Random) -> Fields:
    return {"id": "call_" + text(rng), "type": "function", "function": {"name": "f" + text(rng), "arguments": text(rng)}}


def token(rng: Random) -> Fields:
    top = [{"token": text(rng), "logprob": -1.5, "bytes": None} for _ in range(rng.randint(0, 2))]
    return {"token": text(rng), "logprob": -rng.random(), "bytes": [240, 159], "top_logprobs": top}


def answer(rng: Random) -> Fields:
    """A `chat.completion` with one to three choices, and all that a message may hold."""
    choices = [choice(rng, index) for index in range(rng.choice([1, 1, 1, 2, 3]))]
    return {**HEAD, "object": "chat.completion", "choices": choices, "usage": USAGE}


def choice(rng: Random, index: int) -> Fields:
    message: Fields = {"role": "assistant", "content": rng.choice([None, text(rng)])}
    optional: Fields = {
        "refusal": text(rng),
        "reasoning_content": text(rng),
        "tool_calls": [tool_call(rng) for _ in range(rng.randint(1, 3))],
        "function_call": {"name": "f" + text(rng), "arguments": text(rng)},
        "audio": {"id": "audio_1", "expires_at": 1_800_000_600, "data": text(rng), "transcript": text(rng)},
        "annotations": [{"type": "url_citation", "url_citation": {"url": text(rng)}} for _ in range(rng.randint(1, 2))],
        "thoughts_of_next_year": text(rng),
        "trace": {"steps": {"first": text(rng)}, "cost": 0.25, "done": True},
    }
    message |= {name: value for name, value in optional.items() if rng.random() < 0.4}
    logprobs = {"content": [token(rng) for _ in range(rng.randint(1, 4))], "refusal": None} if rng.random() < 0.3 else None
    extra: Fields = {"content_filter_results": {"hate": {"filtered": False}}} if rng.random() < 0.3 else {}
    return {**extra, "index": index, "message": message, "logprobs": logprobs, "finish_reason": rng.choice(ENDINGS)}


def pieces(rng: Random, whole: str) -> list[str]:
    """The text, cut anywhere, with some empty pieces; at least one."""
    cuts = sorted(rng.randint(0, len(whole)) for _ in range(rng.randint(0, 4)))
    return [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


def chunks(rng: Random, whole: Fields) -> list[Fields]:
    """A stream that says the same: for each choice its deltas in order, the choices in turns, the usage last."""
    queues = [deque(_said(rng, choice)) for choice in whole["choices"]]
    made = []
    while any(queues):
        speakers = [queue for queue in queues if queue]
        now = rng.sample(speakers, rng.randint(1, len(speakers)))
        made.append({**HEAD, "object": "chat.completion.chunk", "choices": [queue.popleft() for queue in now], "usage": None})
    if rng.random() < 0.3:
        made[-1]["usage"] = USAGE
    else:
        made.append({**HEAD, "object": "chat.completion.chunk", "choices": [], "usage": USAGE})
    return made


def _said(rng: Random, whole: Fields) -> list[Fields]:
    """One choice as it comes in chunks: first its role, last its ending."""
    index, message = whole["index"], whole["message"]
    lines = [_deltas(rng, name, value) for name, value in message.items() if name != "role"]
    role = {"role": "assistant", "content": None} if message["content"] is None else {"role": "assistant"}
    said = [{"index": index, "delta": delta, "finish_reason": None} for delta in [role, *_shuffled(rng, lines)]]
    if whole["logprobs"] is not None:
        _spread_logprobs(rng, said, whole["logprobs"])
    extra = {name: value for name, value in whole.items() if name not in {"index", "message", "logprobs", "finish_reason"}}
    if extra:
        rng.choice(said).update(extra)
    return [*said, {"index": index, "delta": rng.choice([{}, {"content": None}, None]), "finish_reason": whole["finish_reason"]}]


def _deltas(rng: Random, name: str, value: Any) -> list[Fields]:
    """One member of a message, in pieces."""
    match name, value:
        case _, None:
            return []
        case _, str():
            return [{name: piece} for piece in pieces(rng, value)]
        case "tool_calls", calls:
            return [{name: [delta]} for delta in _calls_from(rng, calls, 0)]
        case "function_call", call:
            first, *more = pieces(rng, call["arguments"])
            return [{name: {"name": call["name"], "arguments": first}}, *({name: {"arguments": piece}} for piece in more)]
        case "audio", audio:
            begin = {name: {"id": audio["id"], "expires_at": audio["expires_at"], "data": "", "transcript": ""}}
            parts = [[{name: {part: piece}} for piece in pieces(rng, audio[part])] for part in ("data", "transcript")]
            return [begin, *_shuffled(rng, parts)]
        case _, list():
            return [{name: [item]} for item in value]
    return [{name: value}]


def _calls_from(rng: Random, calls: list[Fields], number: int) -> list[Fields]:
    """Calls begin in their order. A call's first delta names it; later ones bring arguments, some repeat what was said."""
    if number == len(calls):
        return []
    call = calls[number]
    first, *more = pieces(rng, call["function"]["arguments"])
    begin = {"index": number, **call, "function": {**call["function"], "arguments": first}}
    repeats: list[Fields] = [{}, {"id": None}, {"id": call["id"], "type": "function"}, {"id": ""}]
    rest = [{"index": number, **rng.choice(repeats), "function": {"arguments": piece}} for piece in more]
    return [begin, *_shuffled(rng, [rest, _calls_from(rng, calls, number + 1)])]


def _shuffled(rng: Random, lines: list[list[Fields]]) -> list[Fields]:
    """All items, each line in its order; now and then two of different lines in one."""
    queues, mixed = [deque(line) for line in lines if line], []
    while queues:
        queue = rng.choice(queues)
        item = queue.popleft()
        if mixed and rng.random() < 0.3 and mixed[-1].keys().isdisjoint(item):
            mixed[-1] = mixed[-1] | item
        else:
            mixed.append(item)
        queues = [queue for queue in queues if queue]
    return mixed


def _spread_logprobs(rng: Random, said: list[Fields], logprobs: Fields) -> None:
    spots = sorted(rng.choices(range(len(said)), k=len(logprobs["content"])))
    for spot, item in zip(spots, logprobs["content"], strict=True):
        said[spot].setdefault("logprobs", {"content": [], "refusal": None})["content"].append(item)
