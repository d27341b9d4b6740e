"""OpenAI's Python client."""

from openai import OpenAI
from pydantic import BaseModel

client = OpenAI(base_url="http://127.0.0.1:8080/v1", api_key="unused")


class Town(BaseModel):
    name: str
    people: int


LOOK_UP = {
    "type": "function",
    "function": {
        "name": "look_up",
        "parameters": {"type": "object", "properties": {"river": {"type": "string"}}, "required": ["river"]},
    },
}


def ask(text):
    return [{"role": "user", "content": text}]


def whole(text):
    raw = client.chat.completions.with_raw_response.create(model="demo", messages=ask(text))
    answer = raw.parse()
    return {"text": answer.choices[0].message.content, "tokens": answer.usage.total_tokens, "cache": raw.headers["x-cache"]}


def stream(text):
    pieces, tokens = [], None
    for chunk in client.chat.completions.create(
        model="demo", messages=ask(text), stream=True, stream_options={"include_usage": True}
    ):
        pieces += [choice.delta.content for choice in chunk.choices if choice.delta.content]
        tokens = chunk.usage.total_tokens if chunk.usage else tokens
    return {"pieces": pieces, "tokens": tokens}


def tools(text):
    messages, called = ask(text), []
    while True:
        message = client.chat.completions.create(model="demo", messages=messages, tools=[LOOK_UP]).choices[0].message
        if not message.tool_calls:
            return {"called": called, "text": message.content}
        messages.append(message)
        for call in message.tool_calls:
            called.append(call.function.arguments)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": "2,850 km"})


def stream_tools(text):
    messages, called, pieces = ask(text), [], []
    while True:
        with client.chat.completions.stream(model="demo", messages=messages, tools=[LOOK_UP]) as events:
            pieces += [event.delta for event in events if event.type == "content.delta"]
            message = events.get_final_completion().choices[0].message
        if not message.tool_calls:
            return {"called": called, "pieces": pieces}
        messages.append(message)
        for call in message.tool_calls:
            called.append(call.function.arguments)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": "2,850 km"})


def response_tools(text):
    asked, called, pieces = ask(text), [], []
    look_up = {"type": "function", "strict": False, **LOOK_UP["function"]}
    while True:
        with client.responses.stream(model="demo", input=asked, tools=[look_up]) as events:
            pieces += [event.delta for event in events if event.type == "response.output_text.delta"]
            output = events.get_final_response().output
        calls = [item for item in output if item.type == "function_call"]
        if not calls:
            return {"called": called, "pieces": pieces}
        called += [call.arguments for call in calls]
        results = [{"type": "function_call_output", "call_id": call.call_id, "output": "2,850 km"} for call in calls]
        asked += [*(item.model_dump(exclude={"parsed_arguments"}) for item in output), *results]


def structured(text):
    answer = client.chat.completions.parse(model="demo", messages=ask(text), response_format=Town)
    return answer.choices[0].message.parsed.model_dump()


def hurry(text):
    client.with_options(timeout=1, max_retries=0).chat.completions.create(model="demo", messages=ask(text))


def leave(text):
    with client.chat.completions.create(model="demo", messages=ask(text), stream=True) as chunks:
        return next(chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content)


def models():
    return [model.id for model in client.models.list()]


def embeddings(*texts):
    answer = client.embeddings.create(model="demo", input=list(texts))
    return {"vectors": [item.embedding for item in answer.data], "tokens": answer.usage.total_tokens}


def completion(text):
    answer = client.completions.create(model="demo", prompt=text)
    pieces = [chunk.choices[0].text for chunk in client.completions.create(model="demo", prompt=text, stream=True)]
    return {"text": answer.choices[0].text, "pieces": pieces, "tokens": answer.usage.total_tokens}


def response(text):
    answer = client.responses.create(model="demo", input=text)
    with client.responses.stream(model="demo", input=text) as events:
        pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
        last = events.get_final_response()
    same = last.output_text == answer.output_text
    return {"text": answer.output_text, "pieces": pieces, "same": same, "tokens": answer.usage.total_tokens}


def response_cut(text):
    for _ in client.responses.create(model="demo", input=text, stream=True):
        pass
