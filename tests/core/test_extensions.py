"""What providers of OpenAI's dialect are sent of a request that came in Anthropic's."""

import copy

import pytest

from sentinel_gateway.core.extensions import in_openai_words

HINT = {"type": "ephemeral"}
FUNCTION = {"name": "look_up", "parameters": {"type": "object"}}


def test_hints_go_no_further():
    fields = {
        "model": "m",
        "max_tokens": 9,
        "top_k": 5,
        "thinking": {"type": "adaptive"},
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "a", "cache_control": HINT}]},
            {"role": "assistant", "content": None, "thinking_blocks": [{}], "tool_calls": [{"id": "t", "cache_control": HINT}]},
            {"role": "tool", "tool_call_id": "t", "content": "b", "is_error": True, "cache_control": HINT},
        ],
        "tools": [{"type": "function", "function": FUNCTION, "cache_control": HINT}],
    }
    before = copy.deepcopy(fields)
    assert in_openai_words(fields, "gpt-4o") == {
        "model": "m",
        "max_tokens": 9,
        "top_k": 5,
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "a"}]},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "t"}]},
            {"role": "tool", "tool_call_id": "t", "content": "b"},
        ],
        "tools": [{"type": "function", "function": FUNCTION}],
    }
    assert fields == before


def test_what_has_no_hints_stays_as_it_is():
    fields = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
    assert in_openai_words(fields, "o3") == fields


@pytest.mark.parametrize("model", ["o1", "o3-mini", "o4-mini", "gpt-5", "gpt-5.2-codex", "openai/gpt-5-mini"])
def test_models_that_want_the_newer_name_get_it(model):
    sent = in_openai_words({"messages": [], "max_tokens": 9}, model)
    assert sent == {"messages": [], "max_completion_tokens": 9}


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-50", "o11", "llama-o3", "foo1", "gpt-4.1", "llama-3.3-70b-versatile"])
def test_other_models_get_the_older_one(model):
    assert in_openai_words({"messages": [], "max_tokens": 9}, model) == {"messages": [], "max_tokens": 9}
