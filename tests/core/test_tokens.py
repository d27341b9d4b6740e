"""What of a request costs input tokens, and with which encoding."""

import pytest

from sentinel_gateway.core.chat import Answer
from sentinel_gateway.core.tokens import Countable, TokenCount, countable, encoding_of, estimate, said_about


@pytest.mark.parametrize(
    ("encoding", "models"),
    [
        ("o200k", "gpt-4o gpt-4o-mini gpt-4o-2024-08-06 chatgpt-4o-latest gpt-4.1-nano gpt-4.5-preview gpt-5 gpt-5.1 gpt-5-mini"),
        (
            "o200k",
            "o1 o1-preview o3 o3-mini o4-mini o4-mini-high gpt-oss-120b openai/gpt-4o ft:gpt-4o-mini:acme::x openai/gpt-oss:20b",
        ),
        (
            "cl100k",
            "gpt-4 gpt-4-turbo gpt-4-0613 gpt-4-32k gpt-3.5-turbo gpt-3.5-turbo-0125 gpt-35-turbo ft:gpt-3.5-turbo:acme::x GPT-4",
        ),
        ("cl100k", "text-embedding-3-small text-embedding-3-large text-embedding-ada-002 davinci-002"),
        (
            None,
            "claude-opus-4 gemini-2.5-pro llama3 mistral-large gpt-40 gpt-4ox o10 o1x o4 gpt-3 gpt2 demo not-gpt-4",
        ),
    ],
)
def test_a_model_has_its_encoding(encoding, models):
    assert {model: encoding_of(model) for model in models.split()} == dict.fromkeys(models.split(), encoding)


def count(fields, model="gpt-4o"):
    return countable(fields, model=model, media_tokens=1000)


def user(content, **more):
    return {"role": "user", "content": content, **more}


def test_a_message_costs_three_tokens_a_name_one_and_the_reply_three():
    counted = count({"messages": [{"role": "system", "content": "Be brief."}, user("Hi.", name="ann")]})
    assert counted == Countable(
        ["system", "Be brief.", "user", "Hi.", "ann"], 3 + 3 + 1 + 3, "o200k", exact=True, media_tokens=1000
    )


def test_the_total_is_exact_if_both_parts_are():
    exact = count({"messages": [user("Hi.")]})
    assert exact.total(TokenCount(7, exact=True)) == TokenCount(13, exact=True)
    assert exact.total(TokenCount(7, exact=False)) == TokenCount(13, exact=False)
    other = count({"messages": [user("Hi.")]}, model="claude-opus-4")
    assert (other.encoding, other.total(TokenCount(7, exact=True))) == ("o200k", TokenCount(13, exact=False))


def test_texts_in_parts_are_texts_and_all_else_is_bounded():
    parts = [{"type": "text", "text": "See:"}, {"type": "image_url", "image_url": {"url": "data:..."}}, {"type": "file"}, "stray"]
    counted = count({"messages": [user(parts), {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}]})
    assert counted == Countable(["user", "See:", "assistant", "No."], 3 + 3000 + 3 + 3, "o200k", exact=False, media_tokens=1000)
    assert count({"messages": [user([{"type": "text", "text": "See:"}])]}).exact


def test_what_is_absent_costs_nothing_and_a_tool_call_its_json():
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    counted = count({"messages": [{"role": "assistant", "content": None, "tool_calls": [call]}]})
    assert counted.texts == ["assistant", '[{"id":"c1","type":"function","function":{"name":"f","arguments":"{}"}}]']
    assert (counted.fixed, counted.exact) == (6, False)


PLACE = {"type": "string", "description": "A town."}
UNIT = {"type": "string", "description": "Of temperature", "enum": ["kelvin", "celsius"]}


def tool(properties, **more):
    return {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": properties},
        **more,
    }


@pytest.mark.parametrize(("model", "every_tool"), [("gpt-4o", 7), ("gpt-4", 10), ("other", 7)])
def test_tools_cost_what_is_published(model, every_tool):
    fields = {"messages": [], "tools": [{"type": "function", "function": tool({"place": PLACE, "unit": UNIT})}]}
    counted = count(fields, model)
    assert counted.texts == [
        "weather:Tells the weather",
        "place:string:A town",
        "unit:string:Of temperature",
        "kelvin",
        "celsius",
    ]
    assert counted.fixed == 3 + every_tool + 3 + 3 + 3 + (-3 + 2 * 3) + 12
    assert not counted.exact
    assert count({"messages": [], "functions": [tool({"place": PLACE, "unit": UNIT})]}, model) == counted


def test_a_tool_without_parameters_costs_no_properties():
    assert count({"messages": [], "tools": [{"type": "function", "function": tool({})}]}).fixed == 3 + 7 + 12


@pytest.mark.parametrize(
    "schema", [{"type": "array", "items": PLACE}, {"type": "string", "enum": "kelvin"}, {"anyOf": [PLACE, UNIT]}, True, None]
)
def test_a_schema_without_a_published_sum_is_counted_as_json(schema):
    counted = count({"messages": [], "tools": [{"type": "function", "function": tool({"where": schema})}]})
    assert counted.texts[-1].startswith('{"where":')


@pytest.mark.parametrize("odd", [{"type": "web_search"}, {"name": "f"}, {"name": "f", "parameters": {"type": "object"}}, "f", 1])
def test_a_tool_of_another_shape_is_counted_as_json(odd):
    counted = count({"messages": [], "functions": [odd]})
    assert (len(counted.texts), counted.fixed, counted.exact) == (1, 3 + 7 + 12, False)


def test_a_tool_that_is_no_object_is_counted_as_json():
    assert count({"messages": [], "tools": ["f", {"type": "function", "function": None}]}).texts == ['"f"', "null"]


def test_a_wished_format_is_counted_as_json():
    counted = count({"messages": [user("Hi.")], "response_format": {"type": "json_object"}})
    assert (counted.texts[-1], counted.exact) == ('{"type":"json_object"}', False)


def answer(*messages):
    return Answer({"choices": [{"index": 0, "message": {"role": "assistant"} | message} for message in messages]}, (), None)


def test_of_an_answer_it_is_what_is_said_that_counts():
    call = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert said_about(answer({"content": "a" * 40}, {"content": None, "refusal": "b" * 8})) == 12
    assert said_about(answer({"content": [{"type": "text", "text": "a" * 8}], "reasoning_content": "c" * 4})) == 3
    assert said_about(answer({"content": None, "tool_calls": [call]})) > 10
    assert said_about(answer({"content": None})) == 0


def test_without_an_encoding_four_bytes_are_a_token():
    assert estimate(["abcd", "\u6771"]) == TokenCount(2, exact=False)
    assert estimate([]) == TokenCount(0, exact=False)
    assert estimate(["\ud800"]) == TokenCount(1, exact=False)
