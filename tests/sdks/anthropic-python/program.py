"""Anthropic's Python client."""

from anthropic import Anthropic
from pydantic import BaseModel

client = Anthropic(base_url="http://127.0.0.1:8080", api_key="unused")


class Town(BaseModel):
    name: str
    people: int


LOOK_UP = {
    "name": "look_up",
    "description": "The length of a river.",
    "input_schema": {"type": "object", "properties": {"river": {"type": "string"}}, "required": ["river"]},
}


def ask(text):
    return {"model": "demo", "max_tokens": 1000, "messages": [{"role": "user", "content": text}]}


def tokens(usage):
    return usage.input_tokens + usage.output_tokens


def whole(text):
    raw = client.messages.with_raw_response.create(**ask(text))
    answer = raw.parse()
    return {"text": answer.content[0].text, "tokens": tokens(answer.usage), "cache": raw.headers["x-cache"]}


def stream(text):
    with client.messages.stream(**ask(text)) as events:
        pieces = list(events.text_stream)
        return {"pieces": pieces, "tokens": tokens(events.get_final_message().usage)}


def tools(text):
    asked, called = ask(text), []
    while True:
        answer = client.messages.create(**asked, tools=[LOOK_UP])
        calls = [block for block in answer.content if block.type == "tool_use"]
        if not calls:
            return {"called": called, "text": answer.content[0].text}
        called += [call.input for call in calls]
        results = [{"type": "tool_result", "tool_use_id": call.id, "content": "2,850 km"} for call in calls]
        asked["messages"] += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": results}]


def stream_tools(text):
    asked, called, pieces = ask(text), [], []
    while True:
        with client.messages.stream(**asked, tools=[LOOK_UP]) as events:
            pieces += list(events.text_stream)
            answer = events.get_final_message()
        calls = [block for block in answer.content if block.type == "tool_use"]
        if not calls:
            return {"called": called, "pieces": pieces}
        called += [call.input for call in calls]
        results = [{"type": "tool_result", "tool_use_id": call.id, "content": "2,850 km"} for call in calls]
        asked["messages"] += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": results}]


def searched(text):
    search = {"type": "web_search_20250305", "name": "web_search"}
    asked = {**ask(text), "tools": [search], "extra_headers": {"anthropic-beta": "some-beta-2026-01-01"}}
    whole = client.messages.create(**asked)
    with client.messages.stream(**asked, extra_query={"beta": "true"}) as events:
        streamed = events.get_final_message()
    return [
        [answer.stop_reason, [block.model_dump(exclude_none=True) for block in answer.content]] for answer in (whole, streamed)
    ]


def structured(text):
    return client.messages.parse(**ask(text), output_format=Town).parsed_output.model_dump()


def hurry(text):
    client.with_options(timeout=1, max_retries=0).messages.create(**ask(text))


def leave(text):
    with client.messages.stream(**ask(text)) as events:
        return next(events.text_stream)


def models():
    return [model.id for model in client.models.list()]


def count(text):
    asked = {name: value for name, value in ask(text).items() if name != "max_tokens"}
    return client.messages.count_tokens(**asked).input_tokens
