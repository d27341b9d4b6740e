"""Which models have a label of their own: names come from callers, labels must not.

What a model is called is decided when it is first met, and stays: a counter that moved to another label would seem to begin anew.
"""

from typing import TYPE_CHECKING, Final

from sentinel_gateway.telemetry.tallies import OTHER

if TYPE_CHECKING:
    from collections.abc import Callable

MOST: Final = 40
REMEMBERED: Final = 1024


class Models:
    """The labels so far. `knows` tells whether a name is one of the configuration's, or one that a provider lists."""

    def __init__(self) -> None:
        self.knows: Callable[[str], bool] = _nobody
        self._labels: dict[str, str] = {}
        self._own = 0

    def __repr__(self) -> str:
        return f"<Models {self._own} with a label>"

    def label(self, model: str) -> str:
        """Its name, or `other`."""
        label = self._labels.get(model)
        return label or self._decide(model)

    def _decide(self, model: str) -> str:
        own = bool(model) and self._own < MOST and self.knows(model)
        self._own += own
        label = model if own else OTHER
        if own or len(self._labels) < REMEMBERED:
            self._labels[model] = label
        return label


def _nobody(_: str) -> bool:
    return False
