"""instructor."""

import instructor
from openai import OpenAI
from pydantic import BaseModel

client = instructor.from_openai(OpenAI(base_url="http://127.0.0.1:8080/v1", api_key="unused"))


class Town(BaseModel):
    name: str
    people: int


def ask(text):
    return [{"role": "user", "content": text}]


def whole(text):
    answer = client.create(model="demo", messages=ask(text), response_model=None)
    return {"text": answer.choices[0].message.content, "tokens": answer.usage.total_tokens}


def stream(text):
    chunks = client.create(model="demo", messages=ask(text), response_model=None, stream=True)
    return {"pieces": [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.delta.content]}


def structured(text):
    return client.create(model="demo", messages=ask(text), response_model=Town).model_dump()


def hurry(text):
    hasty = instructor.from_openai(OpenAI(base_url="http://127.0.0.1:8080/v1", api_key="unused", timeout=1, max_retries=0))
    hasty.create(model="demo", messages=ask(text), response_model=Town, max_retries=1)
