"""`POST /v1/embeddings`: what is stored of a batch is not asked for again."""

from functools import partial

from sentinel_gateway.api.asgi import Lines
from sentinel_gateway.api.endpoint import SLOW_BODY, Post
from sentinel_gateway.api.exchange import Exchange
from sentinel_gateway.api.wire.cost_headers import cost_headers
from sentinel_gateway.api.wire.embeddings import embeddings_body
from sentinel_gateway.pipeline.embed import Embedding, Vectors
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.limiting import Limiter
from sentinel_gateway.pipeline.reply import Cached
from sentinel_gateway.ports import Clock


class Embeddings(Post):
    """The endpoint."""

    route = "/v1/embeddings"
    takes = "a request for embeddings"

    def __init__(self, embedding: Embedding, limiter: Limiter, *, via: str, clock: Clock) -> None:
        super().__init__(embedding.admission, limiter, via=via, clock=clock)
        self._embedding = embedding

    async def _answer(self, exchange: Exchange, journey: Journey) -> None:
        body = await exchange.caller.body()
        async with self._admission:
            if self._clock() - journey.at > SLOW_BODY:
                exchange.enter()
            answer = await self._embedding.handle(body, journey, waiting=partial(self._wait, exchange))
        written = embeddings_body([vector.body for vector in answer.vectors], model=answer.model, tokens=answer.tokens)
        await exchange.sender.whole(200, written, self._headers(journey, answer))

    def _headers(self, journey: Journey, answer: Vectors) -> Lines:
        if journey.miss is None and answer.oldest is not None:
            headers = self._stored_headers(journey, Cached(answer.plan, answer.oldest), self._clock()) + cost_headers(journey)
        else:
            headers = self._whole_headers(journey, answer.plan)
        return headers + Lines(b"x-cache-items: %d/%d\r\n" % (answer.hits, len(answer.vectors)))
