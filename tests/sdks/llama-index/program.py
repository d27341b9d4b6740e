"""LlamaIndex."""

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

llm = OpenAILike(
    model="demo",
    api_base="http://127.0.0.1:8080/v1",
    api_key="unused",
    is_chat_model=True,
    is_function_calling_model=True,
)


class Town(BaseModel):
    name: str
    people: int


def whole(text):
    answer = llm.chat([ChatMessage(content=text)])
    return {"text": answer.message.content, "tokens": answer.raw.usage.total_tokens}


def stream(text):
    chunks = list(llm.stream_chat([ChatMessage(content=text)], stream_options={"include_usage": True}))
    tokens = [chunk.raw.usage.total_tokens for chunk in chunks if chunk.raw.usage]
    return {"pieces": [chunk.delta for chunk in chunks if chunk.delta], "tokens": sum(tokens)}


async def tools(text):
    called = []

    def look_up(river: str) -> str:
        """The length of a river."""
        called.append({"river": river})
        return "2,850 km"

    answer = await FunctionAgent(tools=[look_up], llm=llm).run(text)
    return {"called": called, "text": str(answer)}


def structured(text):
    return llm.as_structured_llm(Town).chat([ChatMessage(content=text)]).raw.model_dump()


def hurry(text):
    hasty = OpenAILike(
        model="demo",
        api_base="http://127.0.0.1:8080/v1",
        api_key="unused",
        is_chat_model=True,
        timeout=1,
        max_retries=0,
    )
    hasty.chat([ChatMessage(content=text)])
