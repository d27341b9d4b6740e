"""What an answer may cost in tokens, before a provider is asked: as it is counted, and the most that it can be."""

from collections.abc import Awaitable
from typing import Final

from sentinel_gateway.core.tokens import Countable, Expected, about_bytes, countable
from sentinel_gateway.pipeline.limiting import Plenty
from sentinel_gateway.pipeline.plan import Plan
from sentinel_gateway.ports import TokenCounter

WRITTEN: Final = 128
"""Tokens that models' templates write around a question; Llama 3 is told the date, unasked."""
WRITTEN_ABOUT_TOOLS: Final = 640
"""Those that say how tools are called; Anthropic's go up to 530."""


def exactly(_: int) -> bool:
    """There is not plenty of room: every token counts."""
    return False


class TokenEstimate:
    """Without a bound on its output, a request is estimated by its input; what it has cost is booked when it is known.

    `media_tokens` stands for an image, a recording or a file, which nobody but the provider can count.
    """

    def __init__(self, counter: TokenCounter, *, media_tokens: int) -> None:
        self._counter = counter
        self._media_tokens = media_tokens

    def __repr__(self) -> str:
        return f"<TokenEstimate {self._counter!r}>"

    def __call__(self, plan: Plan, plenty: Plenty) -> Expected | Awaitable[Expected]:
        """At once, where most of its texts have been counted before; by the bytes alone where there is plenty of room."""
        request = plan.request
        fields = request.fields
        asked = countable(fields, model=plan.route.targets[0].model, media_tokens=self._media_tokens)
        about_tools = WRITTEN_ABOUT_TOOLS if fields.get("tools") or fields.get("functions") else 0
        fixed, size = asked.fixed + request.choices * (request.token_limit or 0), asked.size()
        ceiling = asked.fixed + size + WRITTEN + about_tools
        if plenty(fixed + size):
            return Expected(fixed + about_bytes(size), ceiling)
        counted = self._counter.count_now(asked.texts, encoding=asked.encoding)
        return self._count(asked, fixed, ceiling) if counted is None else Expected(fixed + counted.tokens, ceiling)

    async def _count(self, asked: Countable, fixed: int, ceiling: int) -> Expected:
        counted = await self._counter.count(asked.texts, encoding=asked.encoding)
        return Expected(fixed + counted.tokens, ceiling)
