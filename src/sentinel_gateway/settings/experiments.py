"""The room `experiments`: what is tried on live traffic, on whom, and in which arms."""

import re
from collections.abc import Iterator
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from sentinel_gateway.settings.room import Lifetime, Room, Share, Texts
from sentinel_gateway.settings.values import check_alias

LEAST_ARMS, MOST_ARMS = 2, 10
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


def check_name(name: str) -> str:
    """Of an experiment or an arm: it stands in a header, and in the names of metrics."""
    if not _NAME.fullmatch(name):
        raise ValueError("a name here has up to 40 lower-case letters, digits, '_' and '-', and starts with a letter or digit")
    return name


ExperimentName = Annotated[str, AfterValidator(check_name)]


class ArmSettings(Room):
    """What is done otherwise for whoever is in it. The cache of each arm is its own."""

    weight: Annotated[float, Field(gt=0, le=1_000_000)] = Field(
        default=1.0, description="How many are in it, beside the weights of the others."
    )
    model: Annotated[str, AfterValidator(check_alias)] | None = Field(
        default=None,
        description="What answers instead: provider/model, or a name under models with its targets and their strategy.",
    )
    cache: bool = Field(default=True, description="False: nothing is read from the cache, and nothing kept.")
    semantic: bool = Field(default=True, description="False: nothing is answered in other words.")
    threshold: Share | None = Field(
        default=None, description="From this similarity on answers serve in other words, whatever was learned; guards stay."
    )
    max_wrong_hit_rate: Share | None = Field(default=None, description="As cache.max_wrong_hit_rate, if it is stricter.")
    ttl: Lifetime | None = Field(default=None, description="Seconds to keep answers, unless x-cache-ttl says otherwise.")
    shadow: bool = Field(
        default=False,
        description="True: what would serve in other words is compared with a provider's answer, and the caller is given that.",
    )

    @property
    def weighs_words(self) -> bool:
        """Does it say how to answer in other words?"""
        return self.threshold is not None or self.max_wrong_hit_rate is not None or self.shadow

    def faults(self) -> Iterator[str]:
        """What does not go together."""
        if not (self.cache and self.semantic) and self.weighs_words:
            yield "says how to answer in other words, and that nothing is: leave out the one or the other"
        if not self.cache and self.ttl is not None:
            yield "has a ttl, and keeps nothing (cache: false): leave out the one or the other"


class ExperimentSettings(Room):
    """Stop it by leaving it out, or by enabled: false, and reload."""

    enabled: bool = Field(default=True, description="False stops it; what it came to can still be read.")
    by: Literal["conversation", "key", "tenant"] = Field(
        default="conversation", description="What is in one arm as a whole: conversation, key or tenant."
    )
    share: Annotated[float, Field(gt=0, le=1)] = Field(default=1.0, description="Share of these that take part.")
    models: Texts = Field(default=(), description="Public names that it is about. Unset: all.")
    keys: Texts = Field(default=(), description="Ids of the keys that it is about. Unset: all.")
    tenants: Texts = Field(default=(), description="Tenants that it is about. Unset: all.")
    namespaces: Texts = Field(default=(), description="Namespaces (x-cache-namespace) that it is about. Unset: all.")
    arms: dict[ExperimentName, ArmSettings] = Field(
        description="Two or more, by name; the first is what the others are compared with."
    )

    @property
    def is_unlike(self) -> bool:
        """Are there arms that fill caches of unlike size?"""
        return len({arm.weight for arm in self.arms.values()}) > 1 and any(arm.cache for arm in self.arms.values())

    def faults(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """The same, each with its place below this room."""
        if not LEAST_ARMS <= len(self.arms) <= MOST_ARMS:
            yield ("arms",), f"needs {LEAST_ARMS} to {MOST_ARMS} of them: the first, {{}}, may leave all as it is"
        for name, arm in self.arms.items():
            yield from ((("arms", name), sentence) for sentence in arm.faults())
