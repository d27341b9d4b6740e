"""What stands in for the world when a log is replayed: the provider, who answers as the log says, and the ways to it."""

from collections.abc import Mapping
from typing import Final

import msgspec

from sentinel_gateway import rules
from sentinel_gateway.core.chat import Answer, ChatRequest, Usage
from sentinel_gateway.core.routing import Directory, NoRoute, Route, Target, resolve
from sentinel_gateway.core.tokens import countable
from sentinel_gateway.errors import UpstreamRefused
from sentinel_gateway.ports import ChunkStream, Completion, Prices, TokenCounter, UpstreamCall
from sentinel_gateway.providers.catalogue import SHELVES, Catalogue
from sentinel_gateway.providers.demo import MODELS as DEMO_MODELS
from sentinel_gateway.providers.demo import NAME as DEMO
from sentinel_gateway.providers.prices import listed
from sentinel_gateway.settings.model import Settings
from sentinel_gateway.telemetry.events import Unheard

FIRST_GUESS: Final = "openai"
"""Whose prices are looked at first: a log of OpenAI's requests is most likely one of OpenAI's models."""
UNKNOWN: Final = "unknown"
"""The provider of a model that is in nobody's prices."""
NOT_LOGGED: Final = "(the log has no answer)"
COMPLETION_TOKENS: Final = 250
"""Of an answer that is not in the log, before any other has been."""


class Recorded:
    """A `Provider` that gives the answer it was handed; without one it fails, as the log says that it did."""

    def __init__(self, name: str = "log") -> None:
        self.name = name
        self.answer: Answer | None = None

    def __repr__(self) -> str:
        return f"<Recorded {self.name}>"

    async def complete(self, call: UpstreamCall) -> Completion:
        if self.answer is None:
            raise UpstreamRefused(f"The log has an error for {call.model}.", upstream_status=400)
        return Completion(b"", self.answer)

    async def open_stream(self, call: UpstreamCall) -> ChunkStream:
        raise UpstreamRefused(f"The log of {call.model} is replayed whole.", upstream_status=400)

    async def list_models(self) -> frozenset[str]:
        return frozenset()


class Routes:
    """Who answers a model of the log: as the configuration says, else whoever's prices list it."""

    def __init__(self, settings: Settings, prices: Prices, names: Mapping[str, frozenset[str]]) -> None:
        self._aliases = dict(rules.routes(settings, prices))
        self._names = names
        self.guessed: set[str] = set()
        """Models that the configuration has no way for."""

    def __repr__(self) -> str:
        return f"<Routes {', '.join(self._names)}, {len(self.guessed)} guessed>"

    @classmethod
    async def of(cls, settings: Settings, prices: Prices) -> "Routes":
        """By the price library, which works offline; no provider is asked."""
        enabled = {name: provider for name, provider in settings.providers.items() if provider.enabled and name != DEMO}
        listed = {name: frozenset(provider.models) for name, provider in enabled.items() if provider.models}
        catalogue = Catalogue([Recorded(name) for name in enabled], listed=listed, events=Unheard())
        await catalogue.load()
        return cls(
            settings, prices, {name: catalogue.names(name) for name in enabled} | ({DEMO: DEMO_MODELS} if settings.demo else {})
        )

    def directory(self) -> Directory:
        """What can be routed to."""
        return Directory(self._aliases, tuple(self._names), self._names, known={}, simulated=frozenset({DEMO}))

    def admit(self, model: str) -> None:
        """See to it that this model has a way."""
        if isinstance(resolve(model, self.directory()), NoRoute):
            self._aliases[model] = Route((_guess(model),))
            self.guessed.add(model)


def _guess(model: str) -> Target:
    provider, slash, rest = model.partition("/")
    if slash and provider in SHELVES:
        return Target(provider, rest)
    owner = next((name for name in (FIRST_GUESS, *SHELVES) if listed(name, model) is not None), UNKNOWN)
    return Target(owner, model)


class Usages:
    """The tokens that requests took: as the log says, else counted, and where there is no answer, as many as others had."""

    def __init__(self, counter: TokenCounter, *, media_tokens: int) -> None:
        self._counter = counter
        self._media_tokens = media_tokens
        self._known = 0
        self._tokens = 0

    def __repr__(self) -> str:
        return f"<Usages of {self._known} answers>"

    async def complete(self, request: ChatRequest, answer: Answer | None) -> Answer:
        """The answer with its usage; without one, another in its place that says nothing."""
        if answer is not None and answer.usage is not None:
            self._note(answer.usage.completion_tokens)
            return answer
        asked = countable(request.fields, model=request.model, media_tokens=self._media_tokens)
        prompt = asked.total(await self._counter.count(asked.texts, encoding=asked.encoding)).tokens
        if answer is None:
            likely = min(self._mean(), request.token_limit or self._mean()) * request.choices
            return _nothing_said(request, Usage(prompt, likely, prompt + likely))
        texts = [str(choice["message"].get("content") or "") for choice in answer.fields["choices"]]
        counted = (await self._counter.count(texts, encoding=asked.encoding)).tokens
        self._note(counted)
        return msgspec.structs.replace(answer, usage=Usage(prompt, counted, prompt + counted))

    def _note(self, tokens: int) -> None:
        self._known += 1
        self._tokens += tokens

    def _mean(self) -> int:
        return max(1, self._tokens // self._known) if self._known else COMPLETION_TOKENS


def _nothing_said(request: ChatRequest, usage: Usage) -> Answer:
    message = {"role": "assistant", "content": NOT_LOGGED}
    choices = [{"index": number, "message": message, "finish_reason": "stop"} for number in range(request.choices)]
    fields = {"object": "chat.completion", "model": request.model, "choices": choices}
    return Answer(fields, ("stop",) * request.choices, usage)
