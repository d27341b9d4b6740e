"""What an answer may cost in tokens, before a provider is asked: as it is counted, and the most that it can be."""

from typing import Final

from sentinel_gateway.core.tokens import Expected, countable
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

    async def __call__(self, plan: Plan) -> Expected:
        request = plan.request
        fields = request.fields
        asked = countable(fields, model=plan.route.targets[0].model, media_tokens=self._media_tokens)
        counted = await self._counter.count(asked.texts, encoding=asked.encoding)
        about_tools = WRITTEN_ABOUT_TOOLS if fields.get("tools") or fields.get("functions") else 0
        output = request.choices * (request.token_limit or 0)
        return Expected(asked.fixed + counted.tokens + output, asked.ceiling() + WRITTEN + about_tools)
