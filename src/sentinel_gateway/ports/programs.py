"""Programs: what answers by asking models, once or often, and computes in between."""

from collections.abc import Collection
from typing import Any, Protocol

from sentinel_gateway.core.chat import ChatRequest, Fields


class Ask(Protocol):
    """How a program asks models: bytes of a chat request in, those of its `chat.completion` out.

    Raises `RequestError`s, and `CancelledError` once nobody waits for the program. `fresh`: nothing that is stored will do.
    """

    async def __call__(self, body: bytes, *, fresh: bool = False) -> bytes: ...


class Program(Protocol):
    """One program, loaded. The same object serves all who ask for it."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str:
        """Another for whatever may make its answers other ones."""
        ...

    @property
    def semantic(self) -> bool:
        """May what it asks be answered by what was asked in other words?"""
        ...

    def read(self, given: str | Fields) -> Fields:
        """What is given, by its inputs' names; a text is the only one that it needs. Raises `Unprocessable` with every fault."""
        ...


class Prediction(ChatRequest, frozen=True, kw_only=True):
    """A request that `program` answers. `fields` tell it from others; nobody is sent them."""

    program: Program
    inputs: Fields
    parameters: Fields
    """What each question to a model is asked with, beside its messages."""
    request_id: str | None = None
    """What its caller calls it, in the body."""


class Programs(Protocol):
    """All of them, by their names."""

    @property
    def names(self) -> Collection[str]: ...

    async def load(self) -> None:
        """To be awaited before the first `find`; then it does nothing. Raises `NotInstalled`."""
        ...

    def find(self, name: str) -> Program:
        """One of `names`; raises `ProgramFailed` where it could not be loaded."""
        ...

    async def run(self, asked: Prediction, ask: Ask) -> Any:
        """What it puts out, as JSON has it: text, or an object where it has several outputs.

        Raises what `ask` raised, `AnswerUnfit`, or `ProgramFailed` from whatever else it raised. Cancelled, it asks nothing more.
        """
        ...
