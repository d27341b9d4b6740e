"""A chat to try models with: one question to several side by side, each answer with where it came from and what it cost.

The conversation is the browser's: it is kept in the page and nowhere else, and what is said there is shown as text. What is asked
takes from the limits and budgets of whoever is signed in, so it takes the scope that asking takes.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec
from fastapi import Request

from sentinel_gateway.api.dashboard.asking import Asking
from sentinel_gateway.api.dashboard.pages import HOME, Context, Page, Passage, Screen
from sentinel_gateway.api.models import Models

if TYPE_CHECKING:
    from sentinel_gateway.core.access import Caller

PATH: Final = f"{HOME}/playground"
MOST: Final = 4
"""Models side by side."""
OFFERED: Final = 2000
"""Names of models that are offered to choose from; any other can be typed."""
BODY: Final = {
    "type": "object",
    "description": "A chat completion request, as POST /v1/chat/completions takes it, of 64 KiB at most.",
    "properties": {"model": {"type": "string"}, "messages": {"type": "array", "items": {"type": "object"}}},
    "required": ["model", "messages"],
}


class Listed(msgspec.Struct):
    """A model, as its list tells it."""

    id: str


class ModelList(msgspec.Struct):
    data: list[Listed]


class Playground(Screen):
    """The page. `first` is the model that stands there at first, if the caller may use it."""

    page = Page(
        name="playground",
        title="Playground",
        path=PATH,
        access="inference",
        reads=("/v1/models", "/v1/chat/completions", "/api/monitoring/requests"),
    )

    def __init__(self, asking: Asking, models: Models, first: str) -> None:
        self._asking = asking
        self._models = models
        self._first = first

    def __repr__(self) -> str:
        return f"<Playground of {self._asking!r}>"

    def passages(self) -> Sequence[Passage]:
        return [Passage(path=f"{PATH}/ask", access="inference", app=self._asking.answer, takes=BODY)]

    async def show(self, request: Request) -> Context:
        """What may be asked of."""
        caller: Caller = request.state.caller
        names = [one.id for one in msgspec.json.decode(self._models.listed(caller, anthropic=False), type=ModelList).data]
        first = self._first if self._first in names else next(iter(names), "")
        return {"models": names[:OFFERED], "first": first, "most": MOST}
