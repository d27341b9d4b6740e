"""Which targets serve a model name? Decided from the names alone, in four steps (docs/decisions/004)."""

import difflib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Final, Literal

import msgspec

NEAR_MATCHES: Final = 3
LONGEST: Final = 256
"""Characters of a name that are compared: the search takes the square of them."""


class Target(msgspec.Struct, frozen=True, dict=True):
    """A model at a provider; written `provider/model`."""

    provider: str
    model: str

    @cached_property
    def name(self) -> str:
        """As it is written: what is known of a target is looked up by it, for each request."""
        return f"{self.provider}/{self.model}"

    def __str__(self) -> str:
        return self.name


Strategy = Literal["priority", "weighted", "least_latency", "least_busy"]
"""Who is asked first: the first, by chance, the one with the quickest first word, the one with the fewest requests under way."""


class Ability(msgspec.Struct, frozen=True):
    """What a target can do, as far as the operator says. `context`: tokens of input."""

    tools: bool = True
    vision: bool = True
    context: int | None = None


class Deadlines(msgspec.Struct, frozen=True):
    """Seconds that a call may take, where that is other than its provider's: the shorter holds. None: as the provider's."""

    first_byte: float | None = None
    idle: float | None = None
    total: float | None = None


NO_DEADLINES: Final = Deadlines()


class Hedge(msgspec.Struct, frozen=True):
    """Ask a second target when the first has not begun to answer after so many seconds; whoever begins first is heard.

    `after` is None where it is the time in which the target begins 95 % of its answers. What is paid for calls that lose may be
    `share` of what the route costs in a day.
    """

    after: float | None
    share: float


class Conduct(msgspec.Struct, frozen=True):
    """How a route's targets are asked, where that is other than usual.

    `careful`: of these nothing is asked again, and nobody else instead, once they may have begun with a request. `deadlines` are
    those of a call to a target, `total` the seconds of a request with all its calls. `drain`: a call that nobody waits for any
    more is read to its end if its answer can be kept.
    """

    careful: frozenset[Target] = frozenset()
    deadlines: Mapping[Target, Deadlines] = {}
    total: float | None = None
    hedge: Hedge | None = None
    drain: bool = False

    def deadlines_of(self, target: Target, spent: float) -> Deadlines:
        """Those of a call that begins when the request has taken so many seconds already."""
        own = self.deadlines.get(target, NO_DEADLINES)
        if self.total is None:
            return own
        left = round(self.total - spent, 3)
        return Deadlines(own.first_byte, own.idle, left if own.total is None else min(left, own.total))


class Route(msgspec.Struct, frozen=True, dict=True):
    """Where a request goes: its targets in order of preference, never empty.

    `weights` and `abilities` are the targets', in their order; empty where all are alike. `sticky`: a conversation goes where it
    went before.
    """

    targets: tuple[Target, ...]
    strategy: Strategy = "priority"
    weights: tuple[float, ...] = ()
    sticky: bool = False
    abilities: tuple[Ability, ...] = ()
    conduct: Conduct | None = None
    """None where all is as usual, as it is for every name that the operator has not written down."""

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The targets as `provider/model`."""
        return tuple(map(str, self.targets))


class NoRoute(msgspec.Struct, frozen=True):
    """Nobody serves `name`; `why` is a sentence that names the fix, `near` are names that would work."""

    name: str
    why: str
    near: tuple[str, ...] = ()


class Directory(msgspec.Struct, frozen=True, dict=True):
    """What can be routed to.

    `aliases` are the operator's `models:`; `providers` the enabled ones; `catalogues` the model names known for each;
    `known` are presets that exist but are off, with the variables that switch each on; `simulated` providers (the demo)
    are never somebody's only provider.
    """

    aliases: Mapping[str, Route]
    providers: tuple[str, ...]
    catalogues: Mapping[str, frozenset[str]]
    known: Mapping[str, str]
    simulated: frozenset[str] = frozenset()

    @cached_property
    def by_model(self) -> Mapping[str, str]:
        """Of `names` each by its last part, the first of those that share it: made once, since some providers have hundreds."""
        return {known.rsplit("/", 1)[-1]: known for known in reversed(names(self))}


def resolve(name: str, directory: Directory) -> Route | NoRoute:
    """(1) an alias, (2) `provider/model`, (3) a name in exactly one catalogue, (4) the only real provider there is."""
    if name in directory.aliases:
        return directory.aliases[name]
    provider, slash, rest = name.partition("/")
    if slash and rest and provider in directory.providers:
        return Route((Target(provider, rest),))
    owners = [p for p in directory.providers if name in directory.catalogues.get(p, ())]
    if len(owners) == 1:
        return Route((Target(owners[0], name),))
    if len(owners) > 1:
        choices = tuple(f"{owner}/{name}" for owner in owners)
        return NoRoute(name, f"several providers serve it: write one of {', '.join(choices)}.", choices)
    if slash and rest and provider in directory.known:
        return NoRoute(name, f"provider '{provider}' is off: set {directory.known[provider]}.", near(name, directory))
    real = [p for p in directory.providers if p not in directory.simulated]
    if len(real) == 1:
        return Route((Target(real[0], name),))
    return NoRoute(name, _unknown(real), near(name, directory))


def _unknown(real: Sequence[str]) -> str:
    if not real:
        return "no provider is configured but the demo (model 'demo'): set a provider's key, such as OPENAI_API_KEY, and restart."
    return f"no enabled provider lists it: write provider/model with one of {', '.join(real)}, or add it under models:."


def explain(none: NoRoute) -> str:
    """The sentence for whoever asked."""
    near_ones = f" Did you mean {' or '.join(repr(name) for name in none.near)}?" if none.near else ""
    return f"The model '{none.name[:200]}' can't be served: {none.why}{near_ones} GET /v1/models lists what can."


def names(directory: Directory) -> list[str]:
    """Every name that a client may send: aliases first, then `provider/model` of each catalogue."""
    listed = list(directory.aliases)
    for provider in directory.providers:
        catalogue = sorted(directory.catalogues.get(provider, ()))
        listed += catalogue if provider in directory.simulated else [f"{provider}/{model}" for model in catalogue]
    return listed


def is_listed(name: str, directory: Directory) -> bool:
    """Is it one of `names`, or one that a catalogue has without its provider?"""
    provider, _, rest = name.partition("/")
    catalogues = directory.catalogues
    return (
        name in directory.aliases or rest in catalogues.get(provider, ()) or any(name in listed for listed in catalogues.values())
    )


def near(name: str, directory: Directory) -> tuple[str, ...]:
    """Names that exist and look like `name`, the nearest first."""
    matches = difflib.get_close_matches(name.rsplit("/", 1)[-1][:LONGEST], directory.by_model, n=NEAR_MATCHES)
    return tuple(directory.by_model[match] for match in matches)
