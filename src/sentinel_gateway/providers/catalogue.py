"""Which model names each provider is known to serve, so that a bare name finds its provider.

Three sources: the operator's own list, which is then all there is; else the price library's offline data together with
what the provider itself lists. Names are known now or later; nothing waits for them, and a failure leaves what was known.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sentinel_gateway.errors import UpstreamError
from sentinel_gateway.ports import Events, Provider

if TYPE_CHECKING:
    from genai_prices.types import Provider as PricedProvider


class Shelf(msgspec.Struct, frozen=True):
    """Where the price library keeps a provider's models. `prefixes` leaves out what that host serves under other APIs."""

    library_id: str
    prefixes: tuple[str, ...] = ()


SHELVES: Final[Mapping[str, Shelf]] = {
    "anthropic": Shelf("anthropic"),
    "azure": Shelf("azure"),
    "bedrock": Shelf("aws"),
    "cerebras": Shelf("cerebras"),
    "deepseek": Shelf("deepseek"),
    "fireworks": Shelf("fireworks"),
    "gemini": Shelf("google", prefixes=("gemini-", "gemma-")),
    "groq": Shelf("groq"),
    "mistral": Shelf("mistral"),
    "openai": Shelf("openai"),
    "openrouter": Shelf("openrouter"),
    "together": Shelf("together"),
    "xai": Shelf("x-ai"),
}
"""By preset name. What isn't here serves models of the operator's choice, and is only asked."""


class Catalogue:
    """The names known for `providers`. `listed` are the operator's own lists, by provider; they are never added to."""

    def __init__(self, providers: Sequence[Provider], *, listed: Mapping[str, frozenset[str]], events: Events) -> None:
        self._providers = providers
        self._listed = listed
        self._events = events
        self._priced: dict[str, frozenset[str]] = {}
        self._offered: dict[str, frozenset[str]] = {}
        self._failing: set[str] = set()

    def __repr__(self) -> str:
        counts = ", ".join(f"{provider.name} {len(self.names(provider.name))}" for provider in self._providers)
        return f"<Catalogue {counts or 'empty'}>"

    def names(self, provider: str) -> frozenset[str]:
        """Whatever is known now; empty for a provider that nothing is known of."""
        listed = self._listed.get(provider)
        if listed is not None:
            return listed
        return self._priced.get(provider, frozenset()) | self._offered.get(provider, frozenset())

    async def load(self) -> bool:
        """Read the price library, off the loop: it takes a quarter of a second. True if names have changed."""
        wanted = {name: SHELVES[name] for name in self._open_names() if name in SHELVES}
        priced = await asyncio.to_thread(_priced_names, wanted) if wanted else {}
        changed, self._priced = priced != self._priced, priced
        return changed

    async def refresh(self) -> bool:
        """Ask all providers at once. One event a failing provider, until it answers again. True if names have changed."""
        open_names = set(self._open_names())
        changes = await asyncio.gather(*(self._ask(provider) for provider in self._providers if provider.name in open_names))
        return any(changes)

    def _open_names(self) -> Iterator[str]:
        return (provider.name for provider in self._providers if provider.name not in self._listed)

    async def _ask(self, provider: Provider) -> bool:
        name = provider.name
        try:
            offered = await provider.list_models()
        except UpstreamError as exc:
            if name not in self._failing:
                self._failing.add(name)
                self._events.note("models_unlisted", provider=name, reason=exc.message)
            return False
        self._failing.discard(name)
        changed = offered != self._offered.get(name, frozenset())
        self._offered[name] = offered
        return changed


def _priced_names(wanted: Mapping[str, Shelf]) -> dict[str, frozenset[str]]:
    from genai_prices.data import providers  # noqa: PLC0415  # 12 MB and 0.25 s that a gateway without need saves

    shelves = {shelf.library_id: (name, shelf.prefixes) for name, shelf in wanted.items()}
    return {
        name: frozenset(model for model in _models(provider) if model.startswith(prefixes or ""))
        for provider in providers
        for name, prefixes in [shelves.get(provider.id, ("", ()))]
        if name
    }


def _models(provider: "PricedProvider") -> Iterator[str]:
    """The names by which the provider's API knows its models. A model's id is the library's own word, and not always one."""
    for model in provider.models:
        if model.match.is_match(model.id):
            yield model.id
        yield from _exact(model.match)


def _exact(clause: Any) -> Iterator[str]:
    if isinstance(name := getattr(clause, "equals", None), str):
        yield name
    for inner in getattr(clause, "or_", None) or ():
        yield from _exact(inner)
