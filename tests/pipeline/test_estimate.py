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
