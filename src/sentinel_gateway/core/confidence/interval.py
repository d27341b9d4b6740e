"""The rate of wrong hits from a weighted sample of them, with its interval.

An explored hit stands for all that were served: its weight is one by the chance to be explored. Such sums have no exact
interval; that of Fay and Feuer (Statistics in Medicine 16, 1997, 791-801) takes the sum for a gamma variable, and is on the safe
side: it covers the truth at least as often as it says in nearly all published simulations.
"""

from collections.abc import Iterable
from math import exp, lgamma, log, sqrt
from statistics import NormalDist
from typing import Final

import msgspec

COVERED: Final = 0.95
LARGE: Final = 200.0
STEPS: Final = 6
"""Of Newton's method: each doubles the digits."""
CLOSE: Final = 1e-9


class Estimate(msgspec.Struct, frozen=True):
    """A rate and the interval that covers it with 95 %, all from 0 to 1, from so many labels. `high` is 1 without any."""

    rate: float
    low: float
    high: float
    observations: int


def wrong_hit_interval(labels: Iterable[tuple[bool, float]], requests: float) -> Estimate:
    """Wrong hits by requests that reached the decision. `labels`: is the answer right, and how many hits the label stands for."""
    seen = [(right, weight) for right, weight in labels if weight > 0]
    if not seen or requests <= 0:
        return Estimate(0.0, 0.0, 1.0, len(seen))
    wrong = [weight for right, weight in seen if not right]
    mass, spread, heaviest = sum(wrong), sum(weight * weight for weight in wrong), max(weight for _, weight in seen)
    tail = (1.0 - COVERED) / 2.0
    low, high = lower(mass, spread, tail), upper(mass, spread, heaviest, tail)
    rate, low, high = (min(1.0, value / requests) for value in (mass, low, high))
    return Estimate(rate, low, high, len(seen))


def upper(mass: float, spread: float, heaviest: float, tail: float) -> float:
    """What a weighted sum of Poisson counts hardly exceeds: it does with the chance `tail`.

    `mass` is the sum as it was seen, `spread` that of the squared weights, `heaviest` the largest weight that one more could
    have had.
    """
    scale = (spread + heaviest * heaviest) / (mass + heaviest)
    return scale * gamma_quantile((mass + heaviest) / scale, 1.0 - tail)


def lower(mass: float, spread: float, tail: float) -> float:
    """What the sum hardly falls below."""
    if mass <= 0.0:
        return 0.0
    scale = spread / mass
    return scale * gamma_quantile(mass / scale, tail)


def gamma_quantile(shape: float, chance: float) -> float:
    """Of the gamma distribution with scale 1: to 1e-6 up to a shape of 200, to 1e-4 above (Wilson and Hilferty's cube root)."""
    part = 1.0 / (9.0 * shape)
    found = shape * max(0.01, 1.0 - part + NormalDist().inv_cdf(chance) * sqrt(part)) ** 3
    if shape > LARGE:
        return found
    for _ in range(STEPS):
        density = exp((shape - 1.0) * log(found) - found - lgamma(shape))
        step = (_gamma_below(shape, found) - chance) / density
        found = max(found - step, found / 2.0)
    return found


def _gamma_below(shape: float, value: float) -> float:
    """The chance of less than `value`, by its power series."""
    term = total = 1.0
    place = shape
    while term > CLOSE * total:
        place += 1.0
        term *= value / place
        total += term
    return total * exp(shape * log(value) - value - lgamma(shape + 1.0))
