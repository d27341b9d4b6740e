"""OpenAI's legacy completions, inward and back: a prompt as the one message of a chat, and what is said to it as its text.

Providers speak chat, so nothing is carried that a chat model can't do: to go on with a text in the middle of its words, to score
one, to fill a gap. Whoever asks for that is told so. All other fields are chat's own, and go on as they came.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from sentinel_gateway.api.wire.json_body import read_object
from sentinel_gateway.api.wire.openai import KNOWN, Named, chat_request, encode, typed
from sentinel_gateway.core.chat import ChatRequest, Fields
from sentinel_gateway.errors import InvalidField

EXAMPLE: Final = '{"model": "demo", "prompt": "Say hello."}'
CHATS_OWN: Final = ("messages", "tools", "tool_choice", "functions", "function_call", "modalities", "audio", "top_logprobs")
"""Fields that a chat completion has and a completion has not."""
PREFIX: Final = "chatcmpl-"
_decode = msgspec.json.Decoder(Fields).decode


class _Body(Named):
    """Its own fields; those that it shares with chat are looked at as chat's."""

    prompt: Any = None
    suffix: str | None = None
    echo: bool | None = None
    best_of: int | None = None
    logprobs: int | None = None
    n: int | None = None


_KNOWN: Final = KNOWN.union(_Body.__struct_fields__)


def read_completion(raw: bytes, *, max_depth: int) -> ChatRequest:
    """A request for a completion from a body, as the chat request that it stands for; raises `InvalidBody` or `InvalidField`."""
    fields = read_object(raw, max_depth=max_depth, example=EXAMPLE)
    body = typed(fields, _Body, _KNOWN)
    _refuse_what_chat_lacks(fields, body)
    messages = [{"role": "user", "content": _prompt(body.prompt)}]
    kept = {name: value for name, value in fields.items() if name not in OWN}
    return chat_request({"model": body.model, "messages": messages, **kept})


OWN: Final = frozenset({"model", "prompt", "suffix", "echo", "best_of", "logprobs"})


def _refuse_what_chat_lacks(fields: Fields, body: _Body) -> None:
    for name in CHATS_OWN:
        if fields.get(name) is not None:
            raise InvalidField(f"'{name}' is no field of a completion: send it to POST /v1/chat/completions.", param=name)
    asked = {
        "suffix": bool(body.suffix),
        "echo": bool(body.echo),
        "best_of": body.best_of is not None and body.best_of != (body.n or 1),
        "logprobs": body.logprobs is not None,
    }
    for name, wanted in asked.items():
        if wanted:
            raise InvalidField(f"'{name}' can't be had: chat models answer here, and they know none. Leave it out.", param=name)


def _prompt(value: Any) -> str:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, str) and value:
        return value
    if not value:
        raise InvalidField("'prompt' is missing or empty: send a text.", param="prompt")
    if isinstance(value, list) and all(isinstance(prompt, str) for prompt in value):
        raise InvalidField("'prompt' holds several texts: send each in a request of its own.", param="prompt")
    raise InvalidField("Invalid value for 'prompt': expected a text. Token ids can't be carried to a chat model.", param="prompt")


def completion_body(completion: bytes) -> bytes:
    """A whole `chat.completion` as a `text_completion`."""
    answer = _decode(completion)
    return encode(_frame(answer) | {"choices": [_choice(choice, choice.get("message")) for choice in _choices(answer)]})


class CompletionEvents:
    """Chunks of a chat as those of a completion. It remembers nothing, so one serves all answers."""

    pulse = b": keep-alive\n\n"

    def say(self, payloads: list[bytes]) -> bytes:
        """The events of chunks that came together; one that says nothing is left out."""
        chunks = (_chunk(_decode(payload)) for payload in payloads)
        return b"".join(b"data: %b\n\n" % encode(chunk) for chunk in chunks if chunk is not None)

    def end(self) -> bytes:
        return b"data: [DONE]\n\n"


EVENTS: Final = CompletionEvents()


def _chunk(fields: Fields) -> Fields | None:
    choices = [_choice(choice, choice.get("delta")) for choice in _choices(fields)]
    said = [choice for choice in choices if choice["text"] or choice["finish_reason"]]
    return _frame(fields) | {"choices": said} if said or fields.get("usage") else None


def _frame(fields: Fields) -> Fields:
    """All but the choices."""
    answer_id = str(fields.get("id") or "").removeprefix(PREFIX)
    return {**fields, "id": f"cmpl-{answer_id}", "object": "text_completion"}


def _choices(fields: Fields) -> Iterator[Fields]:
    choices = fields.get("choices")
    return (choice for choice in choices if isinstance(choice, dict)) if isinstance(choices, list) else iter(())


def _choice(choice: Fields, said: Any) -> Fields:
    return {
        "index": choice.get("index", 0),
        "text": _text(said) if isinstance(said, dict) else "",
        "logprobs": None,
        "finish_reason": choice.get("finish_reason"),
    }


def _text(said: Fields) -> str:
    content = said.get("content")
    if isinstance(content, list):
        return "".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))
    text = content or said.get("refusal")
    return text if isinstance(text, str) else ""
