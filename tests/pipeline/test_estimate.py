"""What an answer may cost, before a provider is asked."""

import msgspec
import pytest

from sentinel_gateway.core.tokens import Expected, TokenCount
from sentinel_gateway.pipeline.estimate import TokenEstimate
from tests.pipeline.conftest import question
from tests.pipeline.test_idempotency import plan_of

pytestmark = pytest.mark.anyio


class Counter:
    """A token a text."""

    def __repr__(self):
        return "<Counter>"

    def __init__(self, *, here=False):
        self.here = here
        self.counted = 0

    def count_now(self, texts, *, encoding):
        return self._count(texts, encoding) if self.here else None

    async def count(self, texts, *, encoding):
        return self._count(texts, encoding)

    def _count(self, texts, encoding):
        self.counted += 1
        return TokenCount(len(texts), exact=encoding == "o200k")


def estimated(body, counter=None):
    return TokenEstimate(counter or Counter(), media_tokens=1000)(plan_of(msgspec.json.encode(body)))


async def expected(body, counter=None):
    found = estimated(body, counter).counted()
    return found if isinstance(found, Expected) else await found


async def ceiling(body):
    return (await expected(body)).ceiling


async def test_each_choice_may_be_as_long_as_is_allowed():
    assert repr(TokenEstimate(Counter(), media_tokens=1000)) == "<TokenEstimate <Counter>>"
    unbounded, bounded, thrice = [
        (await expected(question() | more)).tokens for more in ({}, {"max_tokens": 50}, {"max_tokens": 50, "n": 3})
    ]
    assert (bounded - unbounded, thrice - unbounded) == (50, 150)
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    assert (await expected(question() | {"messages": image})).tokens > 1000


async def test_what_is_counted_at_once_comes_to_the_same_as_what_is_waited_for():
    body = question() | {"max_tokens": 50}
    at_once = estimated(body, Counter(here=True)).counted()
    assert isinstance(at_once, Expected)
    assert at_once == await expected(body, Counter(here=False))


async def test_the_most_that_it_can_be_is_known_without_counting():
    """A token for each byte; the input's ceiling is without the output, which has a price of its own."""
    short, long, bounded = [
        estimated(question(text) | more, Counter()).most
        for text, more in (("a", {}), ("a" * 1001, {}), ("a" * 1001, {"max_tokens": 50, "n": 2}))
    ]
    assert (long.tokens - short.tokens, long.ceiling - short.ceiling) == (1000, 1000)
    assert (bounded.tokens - long.tokens, bounded.ceiling - long.ceiling) == (100, 0)
    counter = Counter()
    assert estimated(question("a" * 1001), counter).most.ceiling == await ceiling(question("a" * 1001))
    assert counter.counted == 0
    assert 1001 + 3 < long.tokens < 1001 + 20


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
