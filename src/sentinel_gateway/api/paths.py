"""The paths of a face that speaks of models, with and without `/v1`, and whose they are.

No path is ever redirected: a redirected POST loses its body.
"""

from collections.abc import Awaitable, Iterable, Mapping
from typing import Final

from sentinel_gateway.api.endpoint import Post
from sentinel_gateway.api.exchange import Exchange
from sentinel_gateway.api.models import Models
from sentinel_gateway.errors import RouteNotFound

MODELS: Final = frozenset({"/v1/models", "/models", "/v1/models/", "/models/"})
ONE_MODEL: Final = ("/v1/models/", "/models/")


class Paths:
    """From paths to the endpoints of one face."""

    def __init__(self, posts: Iterable[Post], models: Models) -> None:
        served = list(posts)
        self._posts: Mapping[str, Post] = {path: post for post in served for path in spellings(post.route)}
        self._served = ", ".join([f"POST {post.route}" for post in served] + ["GET /v1/models", "GET /v1/models/MODEL"])
        self._models = models

    def route(self, exchange: Exchange) -> Awaitable[None]:
        """Have a request answered; raises `RequestError`s."""
        path = exchange.path
        if (post := self._posts.get(path)) is not None:
            exchange.journey.route = post.route
            return post.handle(exchange)
        if is_models(path):
            return self._models.handle(exchange, model_of(path))
        raise RouteNotFound(f"Unknown path '{path[:200]}'. Served here: {self._served}.")


def is_models(path: str) -> bool:
    """Is this the list of models, or one of them?"""
    return path in MODELS or path.startswith(ONE_MODEL)


def model_of(path: str) -> str | None:
    """The model that a path names; None for the list."""
    return None if path in MODELS else path[path.index("/models/") + len("/models/") :].removesuffix("/")


def spellings(route: str) -> tuple[str, ...]:
    """The paths on which a route is served."""
    short = route.removeprefix("/v1")
    return route, f"{route}/", short, f"{short}/"
