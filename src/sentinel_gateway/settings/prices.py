"""What models take, where the operator knows it better than the price library. Money is USD, and never a float."""

from datetime import date
from decimal import Decimal
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from sentinel_gateway.settings.room import Count, Room

Usd = Annotated[Decimal, Field(ge=0, le=1_000_000, decimal_places=18)]

Share = Annotated[Decimal, Field(ge=0, le=100, decimal_places=6)]
SERVICE_TIERS: Final = ("flex", "priority", "batch")
"""Members of a price: what is taken of it at that tier."""


class RateSettings(Room):
    """USD per million tokens. What is not set costs as much as what it is part of."""

    input: Usd = Field(description="USD per million tokens of input, such as '0.59'.")
    output: Usd = Field(description="USD per million tokens of output.")
    cached_input: Usd | None = Field(default=None, description="Of input that the provider's prompt cache had; unset: as input.")
    cache_write: Usd | None = Field(default=None, description="Of input that it took in; unset: as input.")
    cache_write_1h: Usd | None = Field(default=None, description="The same, for an hour; unset: as cache_write.")
    audio_input: Usd | None = Field(default=None, description="Of spoken input; unset: as input.")
    reasoning: Usd | None = Field(default=None, description="Of thoughts; unset: as output.")
    audio_output: Usd | None = Field(default=None, description="Of spoken output; unset: as output.")


class TierSettings(RateSettings):
    above: Count = Field(description="For requests with more tokens of input than this: for all of their tokens.")


class PriceSettings(RateSettings):
    """Of one model, or of all that a pattern means."""

    request: Usd | None = Field(default=None, description="USD for each call, beside its tokens.")
    flex: Share | None = Field(default=None, description="Share of all that which a call takes that was served as 'flex'.")
    priority: Share | None = Field(default=None, description="The same of one that was served as 'priority', such as 2.")
    batch: Share | None = Field(default=None, description="The same of one that was served as 'batch'.")
    as_of: date | None = Field(
        default=None, description="The day from which on it holds, such as 2026-01-31; unset: the day on which it was read."
    )
    tiers: tuple[TierSettings, ...] = Field(default=(), description="Other rates for long requests.")

    @model_validator(mode="after")
    def _check(self) -> "PriceSettings":
        starts = [tier.above for tier in self.tiers]
        if starts != sorted(set(starts)):
            raise ValueError("has tiers out of order: write them by 'above', the lowest first, each once")
        return self


def check_pattern(text: str) -> str:
    """A target, or a pattern of targets."""
    provider, slash, model = text.partition("/")
    if not (provider and slash and model):
        raise ValueError("must be provider/model, where * stands for anything: 'local/*'")
    return text


class Prices(Room):
    unknown: Literal["estimate", "refuse", "allow"] = Field(
        default="estimate",
        description="A model without a known price: 'estimate' counts that of Llama 3.3 70B, 'refuse' does not ask it, "
        "'allow' counts nothing.",
    )
    models: dict[Annotated[str, AfterValidator(check_pattern)], PriceSettings] = Field(
        default={}, description="Prices by provider/model, where * stands for anything; they stand above the price library's."
    )
