"""LangChain for Python."""

from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

model = ChatOpenAI(
    model="demo",
    base_url="http://127.0.0.1:8080/v1",
    api_key="unused",
    stream_usage=True,
    include_response_headers=True,
)


class Town(BaseModel):
    name: str
    people: int


def whole(text):
    answer = model.invoke(text)
    return {
        "text": answer.content,
        "tokens": answer.usage_metadata["total_tokens"],
        "cache": answer.response_metadata["headers"]["x-cache"],
    }


def stream(text):
    chunks = list(model.stream(text))
    tokens = [chunk.usage_metadata["total_tokens"] for chunk in chunks if chunk.usage_metadata]
    return {"pieces": [chunk.content for chunk in chunks if chunk.content], "tokens": sum(tokens)}


def tools(text):
    called = []

    @tool
    def look_up(river: str) -> str:
        """The length of a river."""
        called.append({"river": river})
        return "2,850 km"

    state = create_agent(model, tools=[look_up]).invoke({"messages": [{"role": "user", "content": text}]})
    return {"called": called, "text": state["messages"][-1].content}


def structured(text):
    return model.with_structured_output(Town).invoke(text).model_dump()


def hurry(text):
    hasty = ChatOpenAI(model="demo", base_url="http://127.0.0.1:8080/v1", api_key="unused", timeout=1, max_retries=0)
    hasty.invoke(text)


def leave(text):
    for chunk in model.stream(text):
        if chunk.content:
            return chunk.content
    return None
