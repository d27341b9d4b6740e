"""The settings of `batch`: many queries in one request."""

from typing import Annotated, Final

from pydantic import Field

from sentinel_gateway.settings.room import Count, Room

MOST_QUERIES: Final = 10_000
"""Of one batch, whatever is set: each is a request of its own, and all are read before the first is asked."""


class Batch(Room):
    queries: Annotated[int, Field(ge=1, le=MOST_QUERIES)] = Field(
        default=1_000, description="Most queries in one batch (POST /v1/query/batch)."
    )
    concurrency: Annotated[int, Field(ge=1, le=MOST_QUERIES)] = Field(
        default=32, description="Queries of one batch that are worked on at once."
    )
    in_flight: Count = Field(default=16, description="Batches worked on at once; more are refused with 503.")
