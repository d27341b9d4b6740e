"""The settings of `metrics`."""

from typing import Annotated, Final

from pydantic import BeforeValidator, Field

from sentinel_gateway.settings.room import Room
from sentinel_gateway.settings.values import split_list

MOST: Final = 10
Percentile = Annotated[float, Field(gt=0, lt=100)]


class Metrics(Room):
    percentiles: Annotated[tuple[Percentile, ...], BeforeValidator(split_list), Field(max_length=MOST)] = Field(
        default=(50.0, 95.0, 99.0),
        description="Percentiles of the last five minutes' latencies that /metrics tells, such as 99.9; at most 10.",
    )
