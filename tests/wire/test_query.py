"""Seed 003's query: the chat request that it stands for, every fault with its place, and the text of an answer."""

import json
from typing import Any

import pytest

from sentinel_gateway.api.wire.query import Defaults, prompt_of, read_query, text_of
from sentinel_gateway.core.chat import ChatRequest
from sentinel_gateway.core.identity import exact_key
from sentinel_gateway.core.routing import Directory
from sentinel_gateway.errors import ModelNotFound, Unprocessable

DIRECTORY = Directory(
    aliases={}, providers=("groq", "local"), catalogues={}, known={"openai": "OPENAI_API_KEY", "vllm": "VLLM_BASE_URL"}
)
DEFAULTS = Defaults("groq/llama", {"groq": "llama"})
NOTHING = Defaults(None, {})


def read(body: Any, defaults: Defaults = DEFAULTS) -> ChatRequest:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_query(raw, max_depth=64, directory=lambda: DIRECTORY, defaults=defaults)


def faults(body: Any, defaults: Defaults = DEFAULTS) -> list[tuple[str, ...]]:
    """The places of what is wrong."""
    with pytest.raises(Unprocessable) as caught:
        read(body, defaults)
    assert all(sentence for _, sentence in caught.value.faults)
    return [place for place, _ in caught.value.faults]


def key(request: ChatRequest) -> str:
    return exact_key(request.fields, face="query", targets=["a/b"], tenant="", namespace="")


def test_a_prompt_alone_takes_the_seed_s_defaults():
    assert read({"prompt": "Why?"}) == ChatRequest(
        fields={
            "model": "groq/llama",
            "messages": [{"role": "user", "content": "Why?"}],
            "temperature": 0.7,
            "max_tokens": 500,
        },
        model="groq/llama",
        temperature=0.7,
        token_limit=500,
    )


def test_what_is_sent_is_taken():
    request = read(
        {"prompt": " ", "provider": "local", "model": "a/b", "temperature": 0, "max_tokens": 1, "similarity_threshold": 1}
    )
    assert prompt_of(request) == " "
    assert (request.model, request.temperature, request.token_limit, request.similarity_threshold) == ("local/a/b", 0.0, 1, 1.0)
    assert (request.fields["temperature"], request.fields["max_tokens"]) == (0.0, 1)


def test_null_is_left_out_and_a_default_that_is_spelled_out_is_the_same():
    spelled = {
        "prompt": "Why?",
        "provider": None,
        "model": None,
        "temperature": 0.7,
        "max_tokens": 500,
        "similarity_threshold": None,
    }
    assert read(spelled) == read({"prompt": "Why?"})


@pytest.mark.parametrize("more", [{"similarity_threshold": 0.8}, {"user": "me"}, {"Temperature": 2}, {"stream": True}])
def test_neither_the_threshold_nor_what_the_seed_lacks_makes_another_question(more):
    request = read({"prompt": "Why?"} | more)
    assert request.fields == read({"prompt": "Why?"}).fields
    assert key(request) == key(read({"prompt": "Why?"}))
    assert not request.stream


@pytest.mark.parametrize(
    "more", [{"temperature": 0.8}, {"max_tokens": 499}, {"prompt": "Why ?"}], ids=["temperature", "max_tokens", "prompt"]
)
def test_what_can_change_the_answer_makes_another_question(more):
    assert key(read({"prompt": "Why?"} | more)) != key(read({"prompt": "Why?"}))


@pytest.mark.parametrize(
    ("more", "model"),
    [
        ({"model": "gpt-4"}, "gpt-4"),
        ({"model": "local/x"}, "local/x"),
        ({"provider": "groq"}, "groq/llama"),
        ({"provider": "groq", "model": "openai/gpt-oss"}, "groq/openai/gpt-oss"),
        ({"provider": "local", "model": "groq/llama"}, "local/groq/llama"),
    ],
)
def test_the_name_to_be_routed(more, model):
    assert read({"prompt": "Why?"} | more).model == model


@pytest.mark.parametrize(
    ("body", "places"),
    [
        ({}, [("body", "prompt")]),
        ({"prompt": None}, [("body", "prompt")]),
        ({"prompt": ""}, [("body", "prompt")]),
        ({"prompt": 7}, [("body", "prompt")]),
        ({"prompt": ["Why?"]}, [("body", "prompt")]),
        ({"prompt": "Why?", "temperature": "hot"}, [("body", "temperature")]),
        ({"prompt": "Why?", "temperature": "0.7"}, [("body", "temperature")]),
        ({"prompt": "Why?", "temperature": True}, [("body", "temperature")]),
        ({"prompt": "Why?", "temperature": -0.1}, [("body", "temperature")]),
        ({"prompt": "Why?", "temperature": 2.1}, [("body", "temperature")]),
        ({"prompt": "Why?", "max_tokens": 0}, [("body", "max_tokens")]),
        ({"prompt": "Why?", "max_tokens": 1.5}, [("body", "max_tokens")]),
        ({"prompt": "Why?", "max_tokens": 10**30}, [("body", "max_tokens")]),
        ({"prompt": "Why?", "similarity_threshold": -0.1}, [("body", "similarity_threshold")]),
        ({"prompt": "Why?", "similarity_threshold": 1.01}, [("body", "similarity_threshold")]),
        ({"prompt": "Why?", "similarity_threshold": "high"}, [("body", "similarity_threshold")]),
        ({"prompt": "Why?", "model": ""}, [("body", "model")]),
        ({"prompt": "Why?", "model": "m" * 257}, [("body", "model")]),
        ({"prompt": "Why?", "provider": 1}, [("body", "provider")]),
        ({"temperature": "hot", "max_tokens": -1}, [("body", "prompt"), ("body", "temperature"), ("body", "max_tokens")]),
        (b"", [("body",)]),
        (b"{", [("body",)]),
        (b"[]", [("body",)]),
        (b'"Why?"', [("body",)]),
        (b'{"prompt": "\xff"}', [("body",)]),
        (b'{"prompt": "a", "prompt": "b"}', [("body", "prompt")]),
        (b'{"prompt": "a", "x": ' + b"[" * 99 + b"]" * 99 + b"}", [("body",)]),
    ],
)
def test_query_validation(body, places):
    assert faults(body) == places


def test_the_message_tells_the_first_fault_and_how_many_more():
    with pytest.raises(Unprocessable) as caught:
        read({"prompt": "", "max_tokens": 0, "temperature": "hot"})
    error = caught.value
    assert (error.http_status, error.param) == (422, "prompt")
    assert error.message.startswith("Invalid value for 'prompt': String should have at least 1 character.")
    assert error.message.endswith("(2 more in 'errors'.)")
    with pytest.raises(Unprocessable, match="such as") as caught:
        read(b"[]")
    assert "prompt" in caught.value.message
    assert "messages" not in caught.value.message


def test_without_a_default_the_model_must_be_sent():
    assert faults({"prompt": "Why?"}, NOTHING) == [("body", "model")]
    assert faults({"prompt": "Why?", "provider": "local"}) == [("body", "model")]
    assert read({"prompt": "Why?", "model": "m"}, NOTHING).model == "m"


@pytest.mark.parametrize(
    ("provider", "said"),
    [
        ("openai", "OPENAI_API_KEY not configured: "),
        ("vllm", "VLLM_BASE_URL not configured: "),
        ("acme", "There is no provider 'acme'."),
        ("x" * 256, f"There is no provider '{'x' * 200}'."),
    ],
)
def test_a_provider_that_is_not_on_is_never_replaced(provider, said):
    with pytest.raises(ModelNotFound) as caught:
        read({"prompt": "Why?", "provider": provider, "model": "gpt-4"})
    assert caught.value.param == "provider"
    assert caught.value.message.startswith(said)
    assert "groq, local" in caught.value.message


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": "4"}, "4"),
        ({"content": ""}, ""),
        ({"content": None}, ""),
        ({}, ""),
        ({"content": None, "refusal": "I won't."}, "I won't."),
        (
            {"content": [{"type": "text", "text": "2 + 2"}, {"type": "image"}, " = ", {"type": "text", "text": " = 4"}]},
            "2 + 2 = 4",
        ),
        ({"content": 4}, ""),
    ],
)
def test_the_text_of_an_answer(message, text):
    assert text_of({"choices": [{"message": message}]}) == text
