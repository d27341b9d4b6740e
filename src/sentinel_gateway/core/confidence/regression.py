"""Logistic regression with a Gaussian prior, by Newton's method: small, exact, the same result for the same numbers."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

CLOSE: Final = 1e-6
FARTHEST: Final = 30.0
"""Beyond this a logit says no more than "certain", and exp would overflow."""


def probability(logits: Numbers) -> Numbers:
    """Of the label "right"."""
    bounded: Numbers = np.clip(logits, -FARTHEST, FARTHEST)
    chances: Numbers = 1.0 / (1.0 + np.exp(-bounded))
    return chances


def fit(
    rows: Numbers, right: Numbers, *, centre: Numbers, strength: Numbers, breathe: Callable[[], None] = lambda: None
) -> Numbers:
    """The weights that explain the labels best, where moving a weight from `centre` by d costs strength * d^2 / 2 nats.

    `rows` is (labels, weights), `right` 0 or 1 for each row. Without rows it is `centre`. Always finite: the prior makes the
    problem strictly convex, and a step that does not lead down is halved. `breathe` is called with each step, of a millisecond.
    """
    weights = centre.copy()
    cost = _cost(weights, rows, right, centre, strength)
    step = np.ones_like(centre)
    while np.abs(step).max() > CLOSE:
        breathe()
        chances = probability(rows @ weights)
        slope = rows.T @ (chances - right) + strength * (weights - centre)
        curvature = (rows.T * (chances * (1.0 - chances))) @ rows + np.diag(strength)
        step = np.asarray(np.linalg.solve(curvature, slope), np.float64)
        while (lower := _cost(weights - step, rows, right, centre, strength)) >= cost and np.abs(step).max() > CLOSE:
            step = step / 2.0
        if lower >= cost:
            break
        weights, cost = weights - step, lower
    return weights


def _cost(weights: Numbers, rows: Numbers, right: Numbers, centre: Numbers, strength: Numbers) -> float:
    logits = rows @ weights
    losses = np.logaddexp(0.0, logits) - right * logits
    return float(losses.sum() + (strength * (weights - centre) ** 2).sum() / 2.0)
