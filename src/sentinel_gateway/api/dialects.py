"""What each inward dialect is understood by, a planner each, and who answers OpenAI's and Anthropic's."""

from collections.abc import Callable, Mapping
from functools import partial

from sentinel_gateway.api.completions import Completions
from sentinel_gateway.api.embeddings import Embeddings
from sentinel_gateway.api.endpoint import Post
from sentinel_gateway.api.messages import Messages, TokenCounts
from sentinel_gateway.api.responses import Responses
from sentinel_gateway.api.streaming import StreamOptions
from sentinel_gateway.api.wire.anthropic_request import read_count, read_messages
from sentinel_gateway.api.wire.completions import read_completion
from sentinel_gateway.api.wire.embeddings import read_embeddings
from sentinel_gateway.api.wire.openai import read_request
from sentinel_gateway.api.wire.predict import read_prediction
from sentinel_gateway.api.wire.query import Defaults, read_query
from sentinel_gateway.api.wire.responses_request import read_response
from sentinel_gateway.core.embeddings import FACE as EMBEDDINGS
from sentinel_gateway.core.routing import Directory
from sentinel_gateway.pipeline.embed import Embedding
from sentinel_gateway.pipeline.handle import Pipeline
from sentinel_gateway.pipeline.limiting import Estimate, Limiter
from sentinel_gateway.pipeline.plan import Planner
from sentinel_gateway.ports import Clock, Programs

CHAT = "chat"
"""The face of all that is asked in one chat shape: an answer to one dialect of it serves the same request in another.

Where Anthropic's brings hints that providers of OpenAI's are not told, it is not the same (`pipeline/plan.py`)."""


def make_planners(
    directory: Callable[[], Directory], programs: Programs, *, max_depth: int, defaults: Defaults
) -> Mapping[str, Planner]:
    """The planners by their dialects. `defaults` are what a query leaves out."""
    read_any_query = partial(read_query, max_depth=max_depth, directory=directory, defaults=defaults)
    read_any_prediction = partial(read_prediction, max_depth=max_depth, programs=programs, default=defaults.route)
    return {
        "chat": Planner(CHAT, partial(read_request, max_depth=max_depth), directory),
        "completions": Planner(CHAT, partial(read_completion, max_depth=max_depth), directory),
        "messages": Planner(CHAT, partial(read_messages, max_depth=max_depth), directory),
        "count": Planner(CHAT, partial(read_count, max_depth=max_depth), directory, keyed=False),
        "embeddings": Planner(EMBEDDINGS, partial(read_embeddings, max_depth=max_depth), directory),
        "responses": Planner(CHAT, partial(read_response, max_depth=max_depth), directory),
        "predict": Planner("predict", read_any_prediction, directory),
        "query": Planner("query", read_any_query, directory),
    }


def other_posts(
    planners: Mapping[str, Planner],
    pipeline: Callable[..., Pipeline],
    embedding: Embedding,
    limiter: Limiter,
    options: StreamOptions,
    *,
    clock: Clock,
) -> list[Post]:
    """OpenAI's endpoints beside chat. `pipeline` makes the path of a `planner`."""
    return [
        Completions(pipeline(planner=planners["completions"]), limiter, options, clock=clock),
        Responses(pipeline(planner=planners["responses"]), limiter, options, clock=clock),
        Embeddings(embedding, limiter, via=options.via, clock=clock),
    ]


def anthropic_posts(
    planners: Mapping[str, Planner],
    pipeline: Callable[..., Pipeline],
    estimate: Estimate,
    limiter: Limiter,
    options: StreamOptions,
    *,
    clock: Clock,
) -> list[Post]:
    """Anthropic's endpoints. `pipeline` as above; `estimate` counts tokens."""
    path = pipeline(planner=planners["messages"])
    return [
        Messages(path, limiter, options, clock=clock),
        TokenCounts(planners["count"], estimate, path.admission, limiter, via=options.via, clock=clock),
    ]
