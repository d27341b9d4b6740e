"""Which models have a label of their own: names come from callers, labels must not.

Who has a label keeps it. Who is `other` may get one later, as providers list their models when they can: what was counted before
stays with `other` then, for a counter that moved to another label would seem to begin anew.
"""

from typing import TYPE_CHECKING, Final

from sentinel_gateway.telemetry.tallies import OTHER

if TYPE_CHECKING:
    from collections.abc import Callable

MOST: Final = 40


class Models:
    """The labels so far. `knows` tells whether a name is one of the configuration's, or one that a provider lists."""

    def __init__(self) -> None:
        self.knows: Callable[[str], bool] = _nobody
        self._own: set[str] = set()

    def __repr__(self) -> str:
        return f"<Models {len(self._own)} with a label>"

    def label(self, model: str) -> str:
        """Its name, or `other` as long as nobody knows it. Not for each request: `knows` looks through catalogues."""
        if model not in self._own:
            if not model or len(self._own) >= MOST or not self.knows(model):
                return OTHER
            self._own.add(model)
        return model


def _nobody(_: str) -> bool:
    return False
