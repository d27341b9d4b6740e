"""What an answer may cost in tokens, before a provider is asked: as it is counted, and the most that it can be."""

from collections.abc import Awaitable
from typing import Final

import msgspec

from sentinel_gateway.core.tokens import Countable, Expected, countable
from sentinel_gateway.pipeline.plan import Plan
from sentinel_gateway.ports import TokenCounter

WRITTEN: Final = 128
"""Tokens that models' templates write around a question; Llama 3 is told the date, unasked."""
WRITTEN_ABOUT_TOOLS: Final = 640
"""Those that say how tools are called; Anthropic's go up to 530."""


class TokenEstimate:
    """Without a bound on its output, a request is estimated by its input; what it has cost is booked when it is known.

    `media_tokens` stands for an image, a recording or a file, which nobody but the provider can count.
    """

    def __init__(self, counter: TokenCounter, *, media_tokens: int) -> None:
        self._counter = counter
        self._media_tokens = media_tokens

    def __repr__(self) -> str:
        return f"<TokenEstimate {self._counter!r}>"

    def __call__(self, plan: Plan) -> "EstimatedTokens":
        request = plan.request
        fields = request.fields
        asked = countable(fields, model=plan.route.targets[0].model, media_tokens=self._media_tokens)
        output, size = request.choices * (request.token_limit or 0), asked.size()
        about_tools = WRITTEN_ABOUT_TOOLS if fields.get("tools") or fields.get("functions") else 0
        most = Expected(asked.fixed + size + output, asked.fixed + size + WRITTEN + about_tools)
        return EstimatedTokens(self._counter, asked, size, most)


class EstimatedTokens(msgspec.Struct, frozen=True, eq=False):
    """Of one request: the texts that it has, their `size` in bytes, and what comes of it if each byte is a token."""

    _counter: TokenCounter
    _asked: Countable
    _size: int
    most: Expected

    def counted(self) -> Expected | Awaitable[Expected]:
        """At once, where most of its texts have been counted before."""
        counted = self._counter.count_now(self._asked.texts, encoding=self._asked.encoding)
        return self._count() if counted is None else self._with(counted.tokens)

    async def _count(self) -> Expected:
        return self._with((await self._counter.count(self._asked.texts, encoding=self._asked.encoding)).tokens)

    def _with(self, tokens: int) -> Expected:
        return Expected(self.most.tokens - self._size + tokens, self.most.ceiling)
