"""The room `admin`: what those who administrate are shown."""

from pydantic import Field

from sentinel_gateway.settings.room import Room


class Administration(Room):
    show_text: bool | None = Field(
        default=None,
        description="May administrators read and search stored questions and answers? Unset: only while nobody needs a key.",
    )
