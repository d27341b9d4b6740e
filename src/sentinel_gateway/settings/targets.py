"""Public model names, what serves them, and what is done when that fails."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from sentinel_gateway.settings.room import Count, Lifetime, Room, Seconds, Share, Usd
from sentinel_gateway.settings.values import split_list


class Limits(Room):
    """Of one key, one tenant or one model. Unset: no limit."""

    requests_per_minute: Count | None = Field(
        default=None, description="Requests a minute, cache hits too; a key with limits of its own has those."
    )
    tokens_per_minute: Count | None = Field(
        default=None, description="Tokens a minute that providers are asked for; hits cost none."
    )
    concurrency: Count | None = Field(default=None, description="Requests in flight.")


class Budget(Room):
    """Of one key or one tenant. Unset: no budget."""

    day: Usd | None = Field(default=None, description="USD a day (UTC) that providers may cost; a key with a budget has that.")
    month: Usd | None = Field(default=None, description="USD a calendar month (UTC).")


class Deadlines(Room):
    """Beside the timeouts of the provider, the shorter of which holds."""

    first_byte: Seconds | None = Field(
        default=None, description="Seconds to the first byte; without streaming that is the whole answer. Unset: the provider's."
    )
    idle: Seconds | None = Field(default=None, description="Seconds between two pieces of a stream. Unset: the provider's.")
    total: Seconds | None = Field(
        default=None,
        description="Seconds a call may take in all; of a model: a request with all its calls. Unset: the provider's.",
    )


class Hedging(Room):
    """Asking a second target while the first has not begun to answer."""

    after: Seconds | Literal["p95"] = Field(
        description="Seconds after which the second is asked; p95: the time in which the first begins 95 % of its answers."
    )
    max_cost_share: Share = Field(
        default=0.05, description="Share of the model's cost of the day that calls may have which lose; 0: only what is free."
    )


class TargetSettings(Room):
    """What serves a public name, and what it can do where that is less than others can."""

    target: str = Field(description="provider/model.")
    weight: Annotated[float, Field(gt=0, le=1_000_000)] = Field(
        default=1.0, description="How often it is asked first, beside the weights of the others."
    )
    tools: bool = Field(default=True, description="False: it is not asked where a request has tools.")
    vision: bool = Field(default=True, description="False: it is not asked where a request has pictures.")
    context: Count | None = Field(
        default=None, description="Tokens of input that it takes; a request that seems longer goes to others."
    )
    output: Count | None = Field(default=None, description="Most tokens that it answers with. Unset: tokens.output.")
    retry_uncertain: bool | None = Field(default=None, description="As the model's, for this target alone.")
    timeouts: Deadlines = Field(default=Deadlines(), description="How long a call may take here, where that is less than usual.")

    @model_validator(mode="before")
    @classmethod
    def _spread(cls, data: Any) -> Any:
        return {"target": data} if isinstance(data, str) else data


class ModelSettings(Room):
    """A public model name: its targets in order of preference."""

    targets: Annotated[tuple[TargetSettings, ...], BeforeValidator(split_list)] = Field(
        description="provider/model names, or {target, weight, tools, vision, context, output, retry_uncertain, timeouts}; the "
        "next is asked when one fails."
    )
    strategy: Literal["priority", "weighted", "least_latency", "least_busy", "cheapest"] | None = Field(
        default=None, description="Which target is asked first. Unset: the first, or by their weights where any is set."
    )
    sticky: bool = Field(default=False, description="With weighted: each conversation stays with its target.")
    ttl: Lifetime | None = Field(default=None, description="Seconds to keep its answers; 0: not at all.")
    retry_uncertain: bool = Field(
        default=True,
        description="False: what a target may have begun with is asked of nobody again; only where it can't be reached, is busy "
        "(429, 503) or refuses is another asked.",
    )
    hedge: Hedging | None = Field(default=None, description="When a second target is asked beside the first. Unset: never.")
    timeouts: Deadlines = Field(default=Deadlines(), description="How long its requests may take, where that is less than usual.")
    on_disconnect: Literal["cancel", "drain"] = Field(
        default="cancel", description="When all who wait have left: cancel the call, or read its answer to the end and keep it."
    )
    limits: Limits = Field(default=Limits(), description="What each tenant may use of it.")
    max_wrong_hit_rate: Share | None = Field(default=None, description="As cache.max_wrong_hit_rate, if it is stricter.")

    @model_validator(mode="before")
    @classmethod
    def _spread(cls, data: Any) -> Any:
        return {"targets": data} if isinstance(data, str | list | tuple) else data

    @model_validator(mode="after")
    def _check(self) -> "ModelSettings":
        if not self.targets:
            raise ValueError("needs at least one target, such as groq/llama-3.3-70b-versatile")
        if len(set(self.names)) < len(self.targets):
            raise ValueError("names the same target twice")
        if self.weighted and self.strategy not in {None, "weighted"}:
            raise ValueError(f"sets weights, which strategy {self.strategy} does not go by: leave out the one or the other")
        if self.sticky and not (self.weighted or self.strategy == "weighted"):
            raise ValueError("is sticky, which only strategy weighted can be: set that, or leave it out")
        if self.hedge is not None and len(self.targets) == 1:
            raise ValueError("hedges, which takes a second target: name one, or leave hedge out")
        if self.hedge is not None and not all(self.retries_uncertain(target) for target in self.targets):
            raise ValueError("hedges, which asks twice, and has retry_uncertain: false, which forbids that: leave out the one")
        return self

    def retries_uncertain(self, target: TargetSettings) -> bool:
        """May what this target may have begun with be asked again?"""
        return self.retry_uncertain if target.retry_uncertain is None else target.retry_uncertain

    @property
    def names(self) -> tuple[str, ...]:
        """The targets as `provider/model`."""
        return tuple(target.target for target in self.targets)

    @property
    def weighted(self) -> bool:
        """Is any weight set?"""
        return any("weight" in target.model_fields_set for target in self.targets)


class Breaker(Room):
    failures: Count = Field(default=5, description="Failures in a row after which a target is left alone.")
    successes: Count = Field(default=2, description="Successes in a row after which it is asked like any other again.")
    pause: Seconds = Field(default=60.0, description="Seconds until it is tried again; where it is the last target, 1.")


class Routing(Room):
    default: str | None = Field(
        default=None,
        min_length=1,
        description="What answers a query that names no model: provider/model, or a name under models. Unset: the first of "
        "openai/gpt-4, groq/llama-3.3-70b-versatile and a provider's only model that is on, or the demo.",
    )
    max_attempts: Annotated[int, Field(ge=1, le=10)] = Field(
        default=3, description="Most calls of providers for a request, at all its targets together."
    )
    retry_budget: Share = Field(
        default=0.1, description="Share of a target's requests that may be asked of it again; 0: none is."
    )
    patience: Seconds = Field(
        default=60.0, description="Seconds in which a request may ask a target again, or wait for one that asked for a pause."
    )
    cool_down: Lifetime = Field(
        default=30.0, description="Longest pause that a provider's 429 may ask for; 0: such a target is asked on."
    )
    max_drains: Annotated[int, Field(ge=0, le=10_000)] = Field(
        default=64, description="Answers that may be read to their end at once after all who waited have left; more are cut off."
    )
    breaker: Breaker = Field(default=Breaker(), description="When a target that fails is left alone.")
