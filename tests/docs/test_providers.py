"""docs/providers.md says what the code does: its examples are configurations, and its tables are tried field by field."""

import re
from pathlib import Path

import msgspec
import pytest

from sentinel_gateway.providers._anthropic_body import DEFAULT_LIMIT
from sentinel_gateway.providers._anthropic_body import build_body as anthropic
from sentinel_gateway.providers._bedrock_body import build_body as bedrock_body
from sentinel_gateway.providers._chat_parts import Unfit
from sentinel_gateway.providers._chat_request import BUDGETS
from sentinel_gateway.providers._gemini_body import MOST_BUDGET
from sentinel_gateway.providers._gemini_body import build_body as gemini_body
from sentinel_gateway.settings.load import load

PAGE = (Path(__file__).parents[2] / "docs" / "providers.md").read_text()


def gemini(fields, model, *, stream):
    return gemini_body(fields, model)


def bedrock(fields, model, *, stream):
    return bedrock_body(fields, model)


BUILD = {"anthropic": anthropic, "gemini": gemini, "bedrock": bedrock}
USER = {"role": "user", "content": "Hello"}
TOOL = {"type": "function", "function": {"name": "f"}}
SAMPLES = {
    "`messages`": {"messages": [USER, {"role": "assistant", "content": "Hi"}, USER]},
    "`max_completion_tokens`": {"max_completion_tokens": 2000},
    "`temperature`": {"temperature": 0.5},
    "`top_p`": {"top_p": 0.5},
    "`top_k`": {"top_k": 5},
    "`stop`": {"stop": "x"},
    "`tools`": {"tools": [TOOL]},
    "`tool_choice`": {"tools": [TOOL], "tool_choice": "required"},
    "`parallel_tool_calls`: `false`": {"tools": [TOOL], "parallel_tool_calls": False},
    "`response_format`: `json_schema`": {
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
    },
    "`response_format`: `json_object`": {"response_format": {"type": "json_object"}},
    "`reasoning_effort`": {"reasoning_effort": "low"},
    "`thinking`": {"thinking": {"type": "adaptive"}},
    "`additional_model_request_fields`": {"additional_model_request_fields": {"top_k": 40}},
    "`seed`": {"seed": 7},
    "`n` above 1": {"n": 2},
    "`logprobs`": {"logprobs": True},
    "`logit_bias`": {"logit_bias": {"1": 5}},
    "`presence_penalty`": {"presence_penalty": 0.5},
    "`frequency_penalty`": {"frequency_penalty": 0.5},
    "`modalities` with audio": {"modalities": ["text", "audio"]},
    "any other": {"something_new": 1},
}


def user(part):
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}, part]}]}


PARTS = {
    "image as `data:`": user({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}),
    "image by URL": user({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}),
    "PDF in `file_data`": user({"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}}),
    "`input_audio`": user({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}),
    "`name` of who speaks": {"messages": [{**USER, "name": "Ada"}]},
}


def rows(heading):
    """(what, dialect, told) for each cell of one table."""
    _, _, rest = PAGE.partition(f"| {heading} |")
    first, _, *lines = rest.partition("\n\n")[0].splitlines()
    dialects = [cell.strip() for cell in first.strip(" |").split("|")]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [(row[0], dialect, told) for row in table for dialect, told in zip(dialects, row[1:], strict=True)]


CELLS = [(told, dialect, SAMPLES[what]) for what, dialect, told in rows("field")]
CELLS += [(told, dialect, PARTS[what]) for what, dialect, told in rows("in a message")]


def test_the_tables_have_every_dialect_and_every_sample():
    assert {dialect for _, dialect, _ in CELLS} == set(BUILD)
    assert len(CELLS) == len(BUILD) * len(SAMPLES | PARTS)


@pytest.mark.parametrize(("told", "dialect", "fields"), CELLS)
def test_a_cell_of_the_tables_is_true(told, dialect, fields):
    def sent(fields):
        return msgspec.json.decode(BUILD[dialect]({"messages": [USER], **fields}, "a-model", stream=False))

    if told == "400":
        with pytest.raises(Unfit):
            sent(fields)
    else:
        without = {"tools": fields["tools"]} if {"tools"} < fields.keys() else {}
        assert (sent(fields) == sent(without)) == (told == "left out")


def test_the_examples_are_configurations(tmp_path):
    [key] = re.findall(r"export (ANTHROPIC_API_KEY)=", PAGE)
    assert load({"HOME": "/h", key: "k"}, cwd=tmp_path).settings.providers["anthropic"].dialect == "anthropic"
    [variables] = re.findall(r"export (AWS_\w+)=\S+ (AWS_\w+)=(\S+)", PAGE)
    env = {"HOME": "/h", variables[0]: "k", variables[1]: variables[2]}
    assert load(env, cwd=tmp_path).settings.providers["bedrock"].dialect == "bedrock"
    for example in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL):
        (tmp_path / "sentinel.yaml").write_text(example)
        settings = load({"HOME": "/h"}, cwd=tmp_path).settings
        assert all(provider.enabled for provider in settings.providers.values())


def test_the_numbers_are_those_of_the_code():
    assert f"it is {DEFAULT_LIMIT:,}" in PAGE
    assert f"at most {MOST_BUDGET:,}" in PAGE
    told = "1,024 tokens (`minimal`, `low`), 8,192 (`medium`), 24,576 (`high`), 32,768 (above)"
    assert told in PAGE
    assert sorted(set(BUDGETS.values())) == [int(number.replace(",", "")) for number in re.findall(r"\d+,\d+", told)]
