"""Every inward dialect reaches every outward one that can serve it; docs/providers.md has the table, and each cell is tried.

`yes`: the provider is told, and the answer comes back in the caller's dialect. `left out`: it is asked without. `400`: it is not
asked, and the message names the field. `-`: the caller's dialect has no word for it.
"""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.gateway import Gateway, provider, running_gateway
from tests.native import AnthropicVoice, BedrockVoice, GeminiVoice, NativeUpstream

pytestmark = pytest.mark.anyio

PAGE = (Path(__file__).parents[2] / "docs" / "providers.md").read_text()
HEADING = "what is asked, and how"
OUTWARD = ("openai", "anthropic", "gemini", "bedrock")
VOICES = {"anthropic": AnthropicVoice, "gemini": GeminiVoice, "bedrock": BedrockVoice}
PATHS = {
    "chat": "/v1/chat/completions",
    "messages": "/v1/messages",
    "responses": "/v1/responses",
    "completions": "/v1/completions",
}

PNG = "iVBORw0KGgo="
SCHEMA = {
    "type": "object",
    "properties": {"town": {"type": "string"}},
    "required": ["town"],
    "additionalProperties": False,
}
RIVER = {"type": "object", "properties": {"river": {"type": "string"}}, "required": ["river"]}
FUNCTION = {"name": "look_up", "parameters": RIVER}
PICTURE = {"url": f"data:image/png;base64,{PNG}"}
BLOCK = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}

Body = dict[str, Any]


def chat(text: str, what: str) -> Body:
    picture = [{"type": "image_url", "image_url": PICTURE}, {"type": "text", "text": text}]
    more = {
        "stream": {"stream": True},
        "tools": {
            "tools": [{"type": "function", "function": FUNCTION}],
            "tool_choice": {"type": "function", "function": {"name": "look_up"}},
        },
        "schema": {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}},
        "thinking": {"reasoning_effort": "low"},
    }
    return {"messages": [{"role": "user", "content": picture if what == "image" else text}], **more.get(what, {})}


def messages(text: str, what: str) -> Body:
    more = {
        "stream": {"stream": True},
        "tools": {"tools": [{"name": "look_up", "input_schema": RIVER}], "tool_choice": {"type": "tool", "name": "look_up"}},
        "schema": {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        "thinking": {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
        "thinking within a budget": {"thinking": {"type": "enabled", "budget_tokens": 2048}},
        "a search at the provider": {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        "a field of its own": {"something_new": 1},
        "a hint of its own": {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}},
    }
    content = [BLOCK, {"type": "text", "text": text}] if what == "image" else text
    return {"max_tokens": 4000, "messages": [{"role": "user", "content": content}], **more.get(what, {})}


def responses(text: str, what: str) -> Body:
    picture = [{"type": "input_image", "image_url": PICTURE["url"]}, {"type": "input_text", "text": text}]
    more = {
        "stream": {"stream": True},
        "tools": {"tools": [{"type": "function", **FUNCTION}], "tool_choice": {"type": "function", "name": "look_up"}},
        "schema": {"text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}}},
        "thinking": {"reasoning": {"effort": "low"}},
    }
    return {"input": [{"role": "user", "content": picture}] if what == "image" else text, **more.get(what, {})}


def completions(text: str, what: str) -> Body:
    return {"prompt": text, **({"stream": True} if what == "stream" else {})}


INWARD: dict[str, Callable[[str, str], Body]] = {
    "chat": chat,
    "messages": messages,
    "responses": responses,
    "completions": completions,
}
TOLD: dict[str, Callable[[str, Body, str], bool]] = {
    "tools": lambda raw, _, __: "look_up" in raw,
    "image": lambda raw, _, __: PNG in raw,
    "schema": lambda raw, _, __: "town" in raw,
    "thinking": lambda _, body, outward: thinks(body, outward),
    "thinking within a budget": lambda _, body, outward: thinks(body, outward),
    "a search at the provider": lambda raw, _, __: "web_search_20250305" in raw,
    "a field of its own": lambda raw, _, __: "something_new" in raw,
    "a hint of its own": lambda raw, _, __: "clear_tool_uses_20250919" in raw,
}
"""Was the provider told of it? By what it was sent."""


def thinks(body: Body, outward: str) -> bool:
    match outward:
        case "openai":
            return "reasoning_effort" in body or "thinking" in body
        case "anthropic":
            return body.get("thinking", {}).get("type") in ("enabled", "adaptive")
        case "gemini":
            return "thinkingConfig" in body.get("generationConfig", {})
        case _:
            return "effort" in body.get("outputConfig", {})


def text_of(inward: str, answer: Any) -> str:
    document = answer.json
    match inward:
        case "messages":
            return "".join(block.get("text", "") for block in document["content"])
        case "responses":
            return "".join(part.get("text", "") for item in document["output"] for part in item.get("content", ()))
        case "completions":
            return document["choices"][0]["text"]
        case _:
            return document["choices"][0]["message"]["content"]


def call_of(inward: str, answer: Any) -> tuple[str, str]:
    """The name of the tool that is called, and the river."""
    document = answer.json
    match inward:
        case "messages":
            [block] = [block for block in document["content"] if block["type"] == "tool_use"]
            return block["name"], block["input"]["river"]
        case "responses":
            [item] = [item for item in document["output"] if item["type"] == "function_call"]
            return item["name"], json.loads(item["arguments"])["river"]
        case _:
            [call] = document["choices"][0]["message"]["tool_calls"]
            return call["function"]["name"], json.loads(call["function"]["arguments"])["river"]


def streamed(inward: str, answer: Any) -> str:
    """What the events of a stream say, joined."""
    lines = [line.removeprefix(b"data: ") for line in answer.body.splitlines() if line.startswith(b"data: {")]
    said = ""
    for event in map(json.loads, lines):
        match inward:
            case "messages":
                said += event.get("delta", {}).get("text", "")
            case "responses":
                said += event["delta"] if event["type"] == "response.output_text.delta" else ""
            case "completions":
                said += "".join(choice["text"] for choice in event["choices"])
            case _:
                said += "".join(choice["delta"].get("content") or "" for choice in event["choices"])
    return said


ENDS = {"messages": b'data: {"type":"message_stop"}\n\n'}
"""What stands at the end of a stream that is complete."""


@pytest.fixture(scope="module")
async def natives(anyio_backend) -> AsyncIterator[dict[str, NativeUpstream]]:
    async with (
        NativeUpstream(AnthropicVoice()) as anthropic,
        NativeUpstream(GeminiVoice()) as gemini,
        NativeUpstream(BedrockVoice()) as bedrock,
    ):
        yield {"anthropic": anthropic, "gemini": gemini, "bedrock": bedrock}


@pytest.fixture(scope="module")
async def gateway(natives, chaos, tmp_path_factory) -> AsyncIterator[Gateway]:
    """A provider of each dialect, named by it."""
    entries = "".join(
        f"  a-{name}: {{dialect: {name}, base_url: '{one.base_url}', api_key: key-of-it, models: ['{one.voice.model}']}}\n"
        for name, one in natives.items()
    )
    models = "".join(f"  to-{name}: 'a-{name}/{one.voice.model}'\n" for name, one in natives.items())
    config = f"providers:\n{provider('an-openai', chaos.base_url)}{entries}models:\n{models}  to-openai: an-openai/mock-model\n"
    async with running_gateway(tmp_path_factory.mktemp("gateway"), config=config) as gateway:
        yield gateway


def rows() -> list[list[str]]:
    _, _, rest = PAGE.partition(f"| {HEADING} |")
    head, _, *lines = rest.partition("\n\n")[0].splitlines()
    assert tuple(cell.strip() for cell in head.strip(" |").split("|")) == OUTWARD
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


CELLS = [(row[0], outward, told) for row in rows() for outward, told in zip(OUTWARD, row[1:], strict=True)]


def test_the_table_has_every_dialect():
    asked = {row[0] for row in rows()}
    plain = {f"{inward}: {what}" for inward in INWARD for what in ("text", "stream", "tools", "image", "schema", "thinking")}
    assert {row for row in plain if not row.startswith("completions")} <= asked
    assert {"completions: text", "completions: stream"} <= asked
    assert len(CELLS) == len(OUTWARD) * len(asked)


@pytest.mark.parametrize(("row", "outward", "told"), CELLS)
async def test_a_cell_of_the_table_is_true(gateway, natives, upstream, row, outward, told):
    inward, what = row.split(": ")
    text = f"How far, {outward}? ({row})"
    asked = natives.get(outward, upstream)
    before = len(asked.calls)
    answer = await gateway.ask({"model": f"to-{outward}", **INWARD[inward](text, what)}, PATHS[inward])
    if told == "400":
        assert (answer.status, len(asked.calls)) == (400, before), answer.body
        assert "can't be given" in answer.json["error"]["message"] or "knows no" in answer.json["error"]["message"]
        return
    assert answer.status == 200, answer.body
    assert len(asked.calls) == before + 1
    body = asked.calls[-1].body
    raw = json.dumps(body)
    assert text in raw
    if what in TOLD:
        assert TOLD[what](raw, body, outward) == (told == "yes")
    if what == "stream":
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.body.endswith(ENDS.get(inward, b"data: [DONE]\n\n"))
        assert text in streamed(inward, answer)
    elif what == "tools":
        name, river = call_of(inward, answer)
        assert name == "look_up"
        assert isinstance(river, str)
    elif what == "schema":
        assert isinstance(json.loads(text_of(inward, answer))["town"], str)
    elif what != "a search at the provider":
        assert text in text_of(inward, answer)
