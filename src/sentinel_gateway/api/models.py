"""`GET /v1/models` and `GET /v1/models/{id}`: what a client may send as `model`.

Clients of Anthropic's name the version of its API in a header: who does is told of them as Anthropic tells it.
"""

from collections.abc import Callable
from typing import Final

from sentinel_gateway.api.exchange import Exchange
from sentinel_gateway.api.wire import anthropic_answer, openai
from sentinel_gateway.api.wire.cache_headers import PRIVATE
from sentinel_gateway.api.wire.openai import encode
from sentinel_gateway.core.access import Caller, allows, discreet, require_model, require_scope
from sentinel_gateway.core.routing import Directory, NoRoute, explain, names, resolve
from sentinel_gateway.errors import MethodNotAllowed, ModelNotFound

ALIAS_OWNER: Final = "sentinel"
VERSION: Final = b"anthropic-version"

ModelObject = dict[str, str | int]


class Models:
    """Renders the directory. `created` is the Unix time that all models are given: when this gateway started."""

    route: Final = "/v1/models"
    route_of_one: Final = "/v1/models/{model}"

    def __init__(self, directory: Callable[[], Directory], *, created: int) -> None:
        self._directory = directory
        self._created = created
        self._made: tuple[Directory, dict[bool, dict[str, ModelObject]]] = (directory(), {})

    async def handle(self, exchange: Exchange, name: str | None) -> None:
        """Answer with one model, or with all; raises `RequestError`s."""
        exchange.journey.route = self.route if name is None else self.route_of_one
        caller = exchange.journey.caller
        require_scope(caller, "inference")
        if exchange.method not in {"GET", "HEAD"}:
            raise MethodNotAllowed(f"{exchange.method[:20]} is not allowed here: GET the models.", allowed=("GET", "HEAD"))
        anthropic = VERSION in exchange.headers
        body = self.listed(caller, anthropic=anthropic) if name is None else self.one(name, caller, anthropic=anthropic)
        await exchange.sender.whole(200, body, PRIVATE)

    def listed(self, caller: Caller, *, anthropic: bool) -> bytes:
        """All names that can be served to this caller."""
        models = [model for name, model in self._all(anthropic=anthropic).items() if allows(caller, name)]
        return anthropic_answer.model_list(models) if anthropic else openai.model_list(models)

    def one(self, name: str, caller: Caller, *, anthropic: bool) -> bytes:
        """One model, also by a name that is not listed but would be routed; `ModelNotFound` or `ModelNotAllowed` otherwise."""
        require_model(caller, name)
        directory = self._directory()
        route = resolve(name, directory)
        if isinstance(route, NoRoute):
            raise discreet(ModelNotFound(explain(route), name=name), caller)
        return encode(self._object(name, directory, anthropic=anthropic))

    def _all(self, *, anthropic: bool) -> dict[str, ModelObject]:
        """All that are listed, by name: made once for what can be routed to, since some providers have hundreds."""
        directory, (known, made) = self._directory(), self._made
        if directory is not known:
            made = {}
            self._made = (directory, made)
        if anthropic not in made:
            made[anthropic] = {name: self._object(name, directory, anthropic=anthropic) for name in names(directory)}
        return made[anthropic]

    def _object(self, name: str, directory: Directory, *, anthropic: bool) -> ModelObject:
        if anthropic:
            return anthropic_answer.model_object(name, created=self._created)
        route = resolve(name, directory)
        served_by = ALIAS_OWNER if name in directory.aliases or isinstance(route, NoRoute) else route.targets[0].provider
        return openai.model_object(name, owner=served_by, created=self._created)
