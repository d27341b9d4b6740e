"""pydantic-ai."""

from openai import AsyncOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

model = OpenAIChatModel("demo", provider=OpenAIProvider(base_url="http://127.0.0.1:8080/v1", api_key="unused"))


class Town(BaseModel):
    name: str
    people: int


def whole(text):
    answer = Agent(model).run_sync(text)
    return {"text": answer.output, "tokens": answer.usage().total_tokens}


def stream(text):
    answer = Agent(model).run_stream_sync(text)
    pieces = list(answer.stream_text(delta=True, debounce_by=None))
    return {"pieces": pieces, "tokens": answer.usage().total_tokens}


def tools(text):
    agent, called = Agent(model), []

    @agent.tool_plain
    def look_up(river: str) -> str:
        """The length of a river."""
        called.append({"river": river})
        return "2,850 km"

    return {"text": agent.run_sync(text).output, "called": called}


def structured(text):
    return Agent(model, output_type=Town).run_sync(text).output.model_dump()


def hurry(text):
    client = AsyncOpenAI(base_url="http://127.0.0.1:8080/v1", api_key="unused", timeout=1, max_retries=0)
    Agent(OpenAIChatModel("demo", provider=OpenAIProvider(openai_client=client))).run_sync(text)


async def leave(text):
    async with Agent(model).run_stream(text) as answer:
        async for piece in answer.stream_text(delta=True, debounce_by=None):
            return piece
    return None
