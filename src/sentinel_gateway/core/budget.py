"""How many wrong answers to reworded questions are allowed, and who says so: of all that hold for a request, the strictest."""

from collections.abc import Mapping
from typing import Literal

import msgspec

Allower = Literal["deployment", "model", "key", "namespace"]
"""Whose rate it is."""


class ErrorBudget(msgspec.Struct, frozen=True):
    """The most wrong hits by requests that reached the decision, 0 to 1, and whose word that is."""

    rate: float
    by: Allower = "deployment"


class ErrorBudgets(msgspec.Struct, frozen=True):
    """The operator's: for all, by the public names of models, and by the namespaces that callers name."""

    deployment: float = 0.01
    models: Mapping[str, float] = {}
    namespaces: Mapping[str, float] = {}

    def of(self, *, model: str, namespace: str, key: float | None) -> ErrorBudget:
        """What holds for a request; `key` is what its key allows, if it says so. Of equal ones the one that holds for more."""
        said: tuple[tuple[Allower, float | None], ...] = (
            ("model", self.models.get(model)),
            ("key", key),
            ("namespace", self.namespaces.get(namespace)),
        )
        budget = ErrorBudget(self.deployment)
        for by, rate in said:
            if rate is not None and rate < budget.rate:
                budget = ErrorBudget(rate, by)
        return budget
