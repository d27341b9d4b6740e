"""The room `reports`: what is told by itself, each day or each week, to channels of alerts."""

from collections.abc import Iterator
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field

from sentinel_gateway.settings.room import Room, Texts

MOST_REPORTS: Final = 20
Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
Metric = Literal[
    "total_requests",
    "failed_requests",
    "error_rate",
    "tokens_input",
    "tokens_output",
    "total_cost",
    "cost_per_request",
    "latency_avg_ms",
    "latency_p50_ms",
    "latency_p95_ms",
    "latency_p99_ms",
    "first_token_avg_ms",
]


def check_zone(name: str) -> str:
    """A time zone that this system knows."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("must be a time zone that this system knows (tzdata), such as Europe/Berlin or UTC") from None
    return name


class ReportSettings(Room):
    """One report: when it comes, to whom, and what its table has."""

    every: Literal["day", "week"] = Field(default="day", description="day or week.")
    on: Weekday | None = Field(default=None, description="Of a weekly one: monday to sunday. Unset: monday.")
    at: Annotated[int, Field(ge=0, le=23)] = Field(default=8, description="The hour, in its zone.")
    zone: Annotated[str, AfterValidator(check_zone)] = Field(default="UTC", description="Its time zone, such as Europe/Berlin.")
    channels: Texts = Field(default=(), description="Names under alerts.channels. Unset: all of them.")
    by: Literal["provider", "model"] = Field(default="model", description="What its table has a row for.")
    metrics: Annotated[tuple[Metric, ...], Field(max_length=12)] = Field(
        default=("total_requests", "error_rate", "latency_p95_ms", "total_cost"), description="What its table tells of each."
    )

    def faults(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """What does not go together, each with its place below this room."""
        if self.every == "day" and self.on is not None:
            yield ("on",), "belongs to a weekly report: leave it out, or write every: week"
        if not self.metrics:
            yield ("metrics",), "needs at least one: leave it out to have the usual ones"
