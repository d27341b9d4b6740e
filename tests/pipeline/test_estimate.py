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


async def test_each_choice_may_be_as_long_as_is_allowed():
    estimate = TokenEstimate(Counter(), media_tokens=1000)
    assert repr(estimate) == "<TokenEstimate <Counter>>"
    unbounded, bounded, thrice = [
        await estimate(plan_of(msgspec.json.encode(question() | more)))
        for more in ({}, {"max_tokens": 50}, {"max_tokens": 50, "n": 3})
    ]
    assert (bounded - unbounded, thrice - unbounded) == (50, 150)
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    assert await estimate(plan_of(msgspec.json.encode(question() | {"messages": image}))) > 1000


async def test_no_tokenizer_makes_more_than_a_token_a_byte():
    """Asked without waiting, and so without a counter."""
    estimate = TokenEstimate(None, media_tokens=1000)
    ceiling = [estimate.ceiling(plan_of(msgspec.json.encode(question("a" * length)))) for length in (1, 101)]
    assert ceiling[1] - ceiling[0] == 100
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    assert estimate.ceiling(plan_of(msgspec.json.encode(question() | {"messages": image}))) >= 1000


@pytest.mark.parametrize("tools", ["tools", "functions"])
async def test_what_a_model_s_template_writes_around_a_question_is_held_as_well(tools):
    """Of a greeting in Llama 3's template that is some 36 tokens; Claude 3 Opus is told of tools in 530."""
    estimate = TokenEstimate(None, media_tokens=1000)
    tool = {"name": "f", "parameters": {"type": "object", "properties": {}}}
    about = {"tools": [{"type": "function", "function": tool}], "functions": [tool]}
    plain, with_tools, emptied = [
        estimate.ceiling(plan_of(msgspec.json.encode(question("hi") | more))) for more in ({}, {tools: about[tools]}, {tools: []})
    ]
    assert plain >= 36 + 64
    assert with_tools >= plain + 530
    assert emptied == plain
