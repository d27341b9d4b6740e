"""`POST /v1/query`, of seed 003's own face: a prompt in, its eight members out. Errors are problem documents."""

from collections.abc import Awaitable
from typing import Final

import msgspec

from sentinel_gateway.api.endpoint import REPLAYED, Endpoint, Post
from sentinel_gateway.api.exchange import Exchange, Sender
from sentinel_gateway.api.wire.query import QueryAnswer, prompt_of, text_of
from sentinel_gateway.core.chat import Fields
from sentinel_gateway.core.streaming import stored_fields
from sentinel_gateway.errors import RouteNotFound
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.reply import Cached, Live, Repeated, Whole

ROOT: Final = "/v1/query"
BELOW: Final = "/v1/query/"
EXACT: Final = 1.0
"""The similarity of a prompt to itself."""

_encode = msgspec.json.Encoder().encode


def is_query(path: str) -> bool:
    """Does this path belong to the query face?"""
    return path == ROOT or path.startswith(BELOW)


class QueryPaths:
    """From paths to the endpoints of this face."""

    def __init__(self, *posts: Post) -> None:
        self._posts = {path: post for post in posts for path in (post.route, f"{post.route}/")}
        self._served = ", ".join(f"POST {post.route}" for post in posts)

    def route(self, exchange: Exchange) -> Awaitable[None]:
        """Have a request answered; raises `RequestError`s."""
        post = self._posts.get(exchange.path)
        if post is None:
            raise RouteNotFound(f"Unknown path '{exchange.path[:200]}'. Served here: {self._served}.")
        exchange.journey.route = post.route
        return post.handle(exchange)


class Query(Endpoint):
    """The endpoint of one query."""

    route = ROOT
    takes = "a query"

    async def _send(self, reply: Whole | Live | Repeated, journey: Journey, sender: Sender) -> None:
        if isinstance(reply, Live):
            raise TypeError("a query never asks for a stream")
        answer = reply.completion.answer
        tokens = answer.usage.total_tokens if answer.usage else 0
        if isinstance(reply, Whole):
            await sender.whole(200, self._body(journey, answer.fields, tokens=tokens), self._whole_headers(journey, reply.plan))
        elif (similarity := reply.first.similarity) is None:
            await sender.whole(200, self._body(journey, answer.fields, tokens=tokens), REPLAYED)
        else:
            matched = reply.first.matched or prompt_of(reply.plan.request)
            await sender.whole(200, self._body(journey, answer.fields, matched=matched, similarity=similarity), REPLAYED)

    async def _send_cached(self, reply: Cached, journey: Journey, sender: Sender) -> None:
        hit = reply.hit
        matched = prompt_of(reply.plan.request) if hit.similarity is None else hit.entry.text
        similarity = EXACT if hit.similarity is None else hit.similarity
        body = self._body(journey, stored_fields(hit.entry.body), matched=matched, similarity=similarity)
        await sender.whole(200, body, self._hit_headers(journey, reply, self._clock()))

    def _body(
        self, journey: Journey, answer: Fields, *, tokens: int = 0, matched: str | None = None, similarity: float | None = None
    ) -> bytes:
        """A hit has `matched` a prompt, and used no tokens."""
        provider, _, model = journey.target.partition("/")
        return _encode(
            QueryAnswer(
                response=text_of(answer),
                cache_hit=matched is not None,
                similarity_score=similarity,
                matched_prompt=matched,
                provider=provider,
                model=model,
                tokens_used=tokens,
                latency_ms=round(1000 * (self._clock() - journey.at), 3),
            )
        )
