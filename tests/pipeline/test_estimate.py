"""What an answer may cost, before a provider is asked."""

import msgspec
import pytest

from sentinel_gateway.core.tokens import TokenCount
from sentinel_gateway.pipeline.estimate import TokenEstimate
from tests.pipeline.conftest import question
from tests.pipeline.test_idempotency import plan_of

pytestmark = pytest.mark.anyio


class Counter:
    """A token a text."""

    def __repr__(self):
        return "<Counter>"

    async def count(self, texts, *, encoding):
        return TokenCount(len(texts), exact=encoding == "o200k")


async def ceiling(body):
    return (await TokenEstimate(Counter(), media_tokens=1000)(plan_of(msgspec.json.encode(body)))).ceiling


async def test_each_choice_may_be_as_long_as_is_allowed():
    estimate = TokenEstimate(Counter(), media_tokens=1000)
    assert repr(estimate) == "<TokenEstimate <Counter>>"
    unbounded, bounded, thrice = [
        (await estimate(plan_of(msgspec.json.encode(question() | more)))).tokens
        for more in ({}, {"max_tokens": 50}, {"max_tokens": 50, "n": 3})
    ]
    assert (bounded - unbounded, thrice - unbounded) == (50, 150)
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    assert (await estimate(plan_of(msgspec.json.encode(question() | {"messages": image})))).tokens > 1000


async def test_no_tokenizer_makes_more_than_a_token_a_byte():
    short, long, wide = [await ceiling(question(text)) for text in ("a", "a" * 101, "\N{SNOWMAN}")]
    assert (long - short, wide - short) == (100, 2)
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    assert await ceiling(question() | {"messages": image}) >= 1000


@pytest.mark.parametrize("tools", ["tools", "functions"])
async def test_what_a_model_s_template_writes_around_a_question_is_held_as_well(tools):
    """Of a greeting in Llama 3's template that is some 36 tokens; Claude 3 Opus is told of tools in 530."""
    tool = {"name": "f", "parameters": {"type": "object", "properties": {}}}
    about = {"tools": [{"type": "function", "function": tool}], "functions": [tool]}
    plain, with_tools, emptied = [await ceiling(question("hi") | more) for more in ({}, {tools: about[tools]}, {tools: []})]
    assert plain >= 36 + 64
    assert with_tools >= plain + 530
    assert emptied == plain
