"""Legacy completions as chat and back: what is carried, and that what can't be is refused by its name."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.api.wire.completions import CHATS_OWN, EVENTS, completion_body, read_completion
from sentinel_gateway.errors import InvalidBody, InvalidField

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def read(**fields):
    return read_completion(json.dumps({"model": "m", "prompt": "Say hello.", **fields}).encode(), max_depth=64)


def chunk(*choices, **more):
    fields = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "m-1", "choices": list(choices)}
    return msgspec.json.encode({**fields, **more})


def delta(finish=None, index=0, **said):
    return {"index": index, "delta": said, "logprobs": None, "finish_reason": finish}


def said(*payloads):
    events = EVENTS.say(list(payloads))
    return [json.loads(event.removeprefix(b"data: ")) for event in events.split(b"\n\n") if event]


def test_a_prompt_is_the_one_message():
    request = read(max_tokens=5, temperature=0.1, seed=3, stop=["."], n=2, user="u", top_k=4)
    assert request.fields == {
        "model": "m",
        "messages": [{"role": "user", "content": "Say hello."}],
        "max_tokens": 5,
        "temperature": 0.1,
        "seed": 3,
        "stop": ["."],
        "n": 2,
        "user": "u",
        "top_k": 4,
    }
    assert (request.model, request.token_limit, request.temperature, request.choices) == ("m", 5, 0.1, 2)
    assert read(prompt=["Say hello."]).fields == read().fields
    streamed = read(stream=True, stream_options={"include_usage": True})
    assert (streamed.stream, streamed.include_usage) == (True, True)


def test_what_equals_absence_is_left_out():
    assert read(suffix=None, echo=False, best_of=1, logprobs=None, tools=None).fields == {**read().fields, "tools": None}
    assert "best_of" not in read(best_of=3, n=3).fields


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"suffix": "."}, "suffix"),
        ({"echo": True}, "echo"),
        ({"best_of": 2}, "best_of"),
        ({"logprobs": 0}, "logprobs"),
        ({"logprobs": 5}, "logprobs"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [[1, 2]]}, "prompt"),
        ({"prompt": [[1], [2]]}, "prompt"),
        ({"prompt": {}}, "prompt"),
        ({"prompt": 7}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [""]}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"Prompt": "a"}, "Prompt"),
        ({"Temperature": 1}, "Temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"echo": "yes"}, "echo"),
        ({"model": ""}, "model"),
        *[({name: "x"}, name) for name in CHATS_OWN],
    ],
)
def test_what_is_refused_is_named(fields, param):
    with pytest.raises(InvalidField) as caught:
        read(**fields)
    assert caught.value.param == param


def test_no_body():
    with pytest.raises(InvalidBody, match="prompt"):
        read_completion(b"", max_depth=64)


def test_a_whole_answer():
    message = {"role": "assistant", "content": "Hello.", "refusal": None}
    answer = {
        "id": "chatcmpl-9",
        "object": "chat.completion",
        "created": 7,
        "model": "m-1",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
        "system_fingerprint": "fp",
    }
    assert json.loads(completion_body(json.dumps(answer).encode())) == {
        "id": "cmpl-9",
        "object": "text_completion",
        "created": 7,
        "model": "m-1",
        "choices": [{"index": 0, "text": "Hello.", "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
        "system_fingerprint": "fp",
    }


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": None}, ""),
        ({"content": None, "refusal": "I won't."}, "I won't."),
        ({"content": [{"type": "text", "text": "a"}, {"type": "image"}, "b", {"text": "c"}]}, "ac"),
        ({"content": 7}, ""),
        (None, ""),
    ],
)
def test_odd_messages(message, text):
    answer = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}, 7], "id": None}
    ((choice,),) = [json.loads(completion_body(json.dumps(answer).encode()))["choices"]]
    assert choice["text"] == text
    assert json.loads(completion_body(b"{}"))["choices"] == []


def test_a_stream():
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    chunks = said(
        chunk(delta(role="assistant", content="")),
        chunk(delta(content="Hel"), delta(index=1, content="Hi")),
        chunk(delta(content="lo.")),
        chunk(delta("stop")),
        chunk(usage=usage),
    )
    assert [(c["id"], c["object"], c["created"]) for c in chunks] == [("cmpl-1", "text_completion", 7)] * 4
    assert [[(choice["index"], choice["text"], choice["finish_reason"]) for choice in c["choices"]] for c in chunks] == [
        [(0, "Hel", None), (1, "Hi", None)],
        [(0, "lo.", None)],
        [(0, "", "stop")],
        [],
    ]
    assert chunks[-1]["usage"] == usage
    assert said(chunk(delta(role="assistant"))) == []
    assert EVENTS.end() == b"data: [DONE]\n\n"


@given(st.lists(TEXT))
def test_a_stream_says_what_the_whole_says(pieces):
    streamed = said(*[chunk(delta(content=piece)) for piece in pieces])
    whole = {"choices": [{"index": 0, "message": {"content": "".join(pieces)}, "finish_reason": "stop"}]}
    (choice,) = json.loads(completion_body(json.dumps(whole).encode()))["choices"]
    assert "".join(c["choices"][0]["text"] for c in streamed) == choice["text"]
