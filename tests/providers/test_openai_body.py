"""What is sent to a provider of the OpenAI dialect, to the letter."""

import asyncio

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.ports import UpstreamCall
from sentinel_gateway.providers._errors import UpstreamTooLong
from sentinel_gateway.providers._provider import (
    AT_ONCE,
    MOST_LISTED,
    MOST_PARTS,
    ProviderConfig,
    read_event,
    read_json,
    read_model_names,
)
from sentinel_gateway.providers.openai import build_body

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=12,
)
OURS = {"model", "stream", "stream_options"}
bodies = st.dictionaries(st.text(max_size=8).filter(lambda name: name not in OURS), json_values, max_size=6)

GOLDEN = [
    (
        {"model": "fast", "messages": [], "temperature": 0.0},
        b'{"model":"llama","messages":[],"temperature":0.0}',
        b'{"model":"llama","messages":[],"temperature":0.0,"stream":true,"stream_options":{"include_usage":true}}',
    ),
    (
        {"stream": True, "model": "fast", "stream_options": {"include_usage": False, "include_obfuscation": False}},
        b'{"model":"llama"}',
        b'{"stream":true,"model":"llama","stream_options":{"include_usage":true,"include_obfuscation":false}}',
    ),
    (
        {"model": "fast", "stream_options": None, "user": None, "new_field": {"x": [1, 2.5, "\u00fc"]}},
        b'{"model":"llama","user":null,"new_field":{"x":[1,2.5,"\xc3\xbc"]}}',
        b'{"model":"llama","stream_options":{"include_usage":true},"user":null,"new_field":{"x":[1,2.5,"\xc3\xbc"]},"stream":true}',
    ),
]


@pytest.mark.parametrize(("fields", "whole", "streamed"), GOLDEN)
def test_golden(fields, whole, streamed):
    call = UpstreamCall(fields, "llama", "id")
    assert build_body(call, stream=False) == whole
    assert build_body(call, stream=True) == streamed


@given(bodies, st.booleans())
def test_whatever_nothing_reads_goes_out_as_it_came_in(fields, stream):
    sent = msgspec.json.decode(build_body(UpstreamCall(fields, "m", "id"), stream=stream))
    assert {name: value for name, value in sent.items() if name not in OURS} == fields
    assert sent["model"] == "m"


def test_raw_values_pass_byte_for_byte():
    odd = b'{"b" : 1e3,"a":[1.0, 10000000000000000000000],"\\u00e9":"\\/"}'
    body = build_body(UpstreamCall({"model": "m", "odd": msgspec.Raw(odd)}, "m", "id"), stream=False)
    assert body == b'{"model":"m","odd":' + odd + b"}"


@pytest.mark.parametrize(
    ("listing", "names"),
    [
        ({"object": "list", "data": [{"id": "a"}, {"id": "b", "object": "model"}]}, {"a", "b"}),
        ({"models": [{"name": "llama3:8b", "model": "llama3:8b"}]}, {"llama3:8b"}),
        ([{"id": "meta/llama", "type": "chat"}], {"meta/llama"}),
        ({"data": [{"id": "models/gemini-2.5-pro"}]}, {"gemini-2.5-pro"}),
        ({"data": ["plain", {"id": 5}, {}, None, {"id": ""}]}, {"plain"}),
        ({"data": []}, set()),
        ({"data": None}, set()),
        ("nonsense", set()),
        (None, set()),
    ],
)
def test_model_lists_in_all_spellings(listing, names):
    assert read_model_names(listing) == names


def test_what_counts_as_a_secret():
    headers = {"Authorization": "Bearer abcdefgh", "api-key": "12345678", "X-Title": "sentinel", "x-token": "none"}
    config = ProviderConfig("p", "http://x", headers, {"api-version": "2024-10-21", "key": "querykey"})
    assert set(config.secrets) == {"Bearer abcdefgh", "abcdefgh", "12345678", "querykey"}


def test_a_list_of_models_ends_somewhere():
    assert len(read_model_names({"data": [f"m{number}" for number in range(2 * MOST_LISTED)]})) == MOST_LISTED


@pytest.mark.anyio
async def test_an_answer_that_is_all_structure_is_not_read():
    """It would take twenty times its size in memory."""
    wide = b"[" + b"[]," * (MOST_PARTS // 2) + b"[]]"
    with pytest.raises(UpstreamTooLong, match="groq sent an answer of more than 4,000,000 keys and values"):
        await read_json(wide, "groq")
    assert await read_json(b'["' + b"x" * len(wide) + b'"]', "groq") is not None
    assert await read_json(b"[" + b"1," * (MOST_PARTS - 2) + b"1]", "groq") is not None


@pytest.mark.anyio
async def test_an_answer_with_the_alternatives_of_each_token_is_read():
    """`logprobs` with `top_logprobs` of 20, over 16,000 tokens: 20 MB, and more signs than anything else that is asked for."""
    token = {"token": " t", "logprob": -1.23456, "bytes": [32, 116, 111]}
    content = msgspec.json.encode({**token, "top_logprobs": [token] * 20})
    body = b'{"choices":[{"logprobs":{"content":[' + b",".join([content] * 16_000) + b"]}}]}"
    turns = 0

    async def others():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(others())
    fields = await read_json(body, "groq")
    other.cancel()
    assert len(fields["choices"][0]["logprobs"]["content"]) == 16_000
    assert turns > 200, "nobody waits until all of it is decoded"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "body",
    [
        b' {"a": [1, {"b": null}, "%s"], "\\u00e9": {"c": "%s", "c": [-1.5e3, true]}, "d": []} \n',
        b'["%s", ["%s", {"%s": ["%s"]}]]',
        b'"%s"',
        b'{"a": ["%s", }',
        b'{"a": ["%s", "\xff"]}',
        b'{"a": "%s"} 1',
        b'{1: "%s"}',
        b"[" * 20 + b'"%s", 1' + b"]" * 20,
        b"[" * 20_000 + b'"%s"' + b"]" * 20_000,
    ],
)
async def test_a_long_answer_is_read_as_a_short_one_is(body):
    long = body.replace(b"%s", b"x" * 2 * AT_ONCE)
    assert await read_json(long, "groq") == read_event(long)
