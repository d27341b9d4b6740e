"""What an answer may cost in tokens, before a provider is asked: the input as it is counted, and as much output as is allowed."""

from typing import Final

from sentinel_gateway.core.tokens import countable
from sentinel_gateway.pipeline.plan import Plan
from sentinel_gateway.ports import TokenCounter

MEDIA_TOKENS: Final = 1_445
"""For an image, a recording or a file: what OpenAI counts for the largest image in high detail."""


class TokenEstimate:
    """Without a bound on its output, a request is estimated by its input; what it has cost is booked when it is known."""

    def __init__(self, counter: TokenCounter) -> None:
        self._counter = counter

    def __repr__(self) -> str:
        return f"<TokenEstimate {self._counter!r}>"

    async def __call__(self, plan: Plan) -> int:
        request = plan.request
        asked = countable(request.fields, model=plan.route.targets[0].model, media_tokens=MEDIA_TOKENS)
        counted = await self._counter.count(asked.texts, encoding=asked.encoding)
        return asked.total(counted).tokens + request.choices * (request.token_limit or 0)
