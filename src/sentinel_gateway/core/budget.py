"""How many wrong answers to reworded questions are allowed, and who says so: of all that hold for a request, the strictest."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

import msgspec

from sentinel_gateway.core.experiments import Place

Allower = Literal["deployment", "model", "key", "namespace", "experiment"]
"""Whose rate it is."""
OF: Final = ":"
"""Stands in the name of a budget, and in that of no scope."""
NONE: Final[Mapping[str, float]] = MappingProxyType({})


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
        budget = ErrorBudget(self.deployment)
        for by, rate in self._said(model, namespace, key):
            if rate is not None and rate < budget.rate:
                budget = ErrorBudget(rate, by)
        return budget

    def stricter(self, *, model: str, namespace: str, key: tuple[str, float | None]) -> Mapping[str, float]:
        """The rates below the deployment's that hold for a request, each by name: `model:gpt-4o`. `key`: its id, and rate."""
        id_, allowed = key
        if allowed is None and not self.models and not self.namespaces:
            return NONE
        names = {"model": model, "key": id_, "namespace": namespace}
        said = self._said(model, namespace, allowed)
        return {f"{by}{OF}{names[by]}": rate for by, rate in said if rate is not None and rate < self.deployment}

    def _said(self, model: str, namespace: str, key: float | None) -> tuple[tuple[Allower, float | None], ...]:
        return ("model", self.models.get(model)), ("key", key), ("namespace", self.namespaces.get(namespace))


def in_arm(
    place: Place, budget: ErrorBudget, stricter: Mapping[str, float], budgets: ErrorBudgets
) -> tuple[ErrorBudget, Mapping[str, float]]:
    """The same for a request of an experiment. Each arm has a budget by name, so that what it serves is judged by itself.

    The arm's rate is the same whoever asks: what one key, model or namespace may allow less is judged under that one's name.
    """
    own = place.arm.max_wrong_hit_rate
    if own is not None and own < budget.rate:
        budget = ErrorBudget(own, "experiment")
    rate = budgets.deployment if own is None else min(own, budgets.deployment)
    return budget, {**stricter, wrong_hits_of(place.name): rate}


def wrong_hits_of(place: str) -> str:
    """The name of the budget of an arm, by the name of its place: `experiment:cheaper=small`."""
    return f"experiment{OF}{place}"
