"""Logistic regression with a Gaussian prior, by Newton's method: small, exact, the same result for the same numbers."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

CLOSE: Final = 1e-6
LEAST_LEFT: Final = 0.01
"""A label that nearly made a weight alone: without it, that weight would be the prior's, and not infinite."""
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
        step = np.asarray(np.linalg.solve(curvature(rows, weights, strength), slope), np.float64)
        while (lower := _cost(weights - step, rows, right, centre, strength)) >= cost and np.abs(step).max() > CLOSE:
            step = step / 2.0
        if lower >= cost:
            break
        weights, cost = weights - step, lower
    return weights


def curvature(rows: Numbers, weights: Numbers, strength: Numbers) -> Numbers:
    """That of the cost at these weights, of labels on these rows."""
    chances = probability(rows @ weights)
    bent: Numbers = (rows.T * (chances * (1.0 - chances))) @ rows + np.diag(strength)
    return bent


def left_out(rows: Numbers, right: Numbers, weights: Numbers, curvature: Numbers) -> Numbers:
    """The probability of "right" for each row by the weights that all other labels would have made, to one step of Newton's.

    `right` may be NaN: such a row has had no part in them. `weights` are those of `fit`, and `curvature` is theirs.
    """
    logits = rows @ weights
    chances = probability(logits)
    labelled = ~np.isnan(right)
    reach = np.einsum("ij,ji->i", rows, np.linalg.solve(curvature, rows.T))
    pull = np.where(labelled, chances - right, 0.0) * reach
    bend = np.where(labelled, chances * (1.0 - chances), 0.0) * reach
    return probability(logits + pull / np.maximum(1.0 - bend, LEAST_LEFT))


def _cost(weights: Numbers, rows: Numbers, right: Numbers, centre: Numbers, strength: Numbers) -> float:
    logits = rows @ weights
    losses = np.logaddexp(0.0, logits) - right * logits
    return float(losses.sum() + (strength * (weights - centre) ** 2).sum() / 2.0)
