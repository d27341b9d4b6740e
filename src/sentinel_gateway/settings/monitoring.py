"""The room `monitoring`: what `/api/monitoring` shows, and where it is kept."""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from sentinel_gateway.settings.room import Room

_PREFIX: Final = re.compile(r"[A-Za-z0-9_.:/-]{0,64}")


def check_prefix(prefix: str) -> str:
    """What stands before keys in Redis."""
    if not _PREFIX.fullmatch(prefix):
        raise ValueError("must have at most 64 letters, digits and . _ : / -, such as 'team-a:'")
    return prefix


class Monitoring(Room):
    prefix: Annotated[str, AfterValidator(check_prefix)] = Field(
        default="",
        description="What stands before the keys of recent figures in Redis, such as 'team-a:', where others use the same names.",
    )
