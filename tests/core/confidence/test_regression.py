"""The regression finds what made the labels, and never more than they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.core.confidence.regression import curvature, fit, left_out, probability

TRUE = np.array([1.5, -2.0, 0.5])


def drawn(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(seed)
    rows = np.column_stack([chance.standard_normal((count, 2)), np.ones(count)])
    return rows, (chance.random(count) < probability(rows @ TRUE)).astype(float)


def test_it_finds_the_weights_that_made_the_labels():
    rows, right = drawn(20_000)
    assert fit(rows, right, centre=np.zeros(3), strength=np.ones(3)) == pytest.approx(TRUE, abs=0.1)


def test_without_labels_it_is_the_centre():
    found = fit(np.empty((0, 3)), np.empty(0), centre=TRUE, strength=np.ones(3))
    assert found.tolist() == TRUE.tolist()


def test_a_label_is_told_as_if_it_were_not_known():
    """As if each had been left out in turn, which takes a fit for each; and what is no label, by all of them."""
    rows, right = drawn(60)
    centre, strength = np.zeros(3), np.full(3, 0.5)
    weights = fit(rows, right, centre=centre, strength=strength)
    bent = curvature(rows, weights, strength)
    others = [fit(np.delete(rows, n, 0), np.delete(right, n), centre=centre, strength=strength) for n in range(60)]
    truth = np.array([probability(row @ other) for row, other in zip(rows, others, strict=True)])
    told = left_out(rows, right, weights, bent)
    assert told == pytest.approx(truth, abs=0.02)
    flattered = probability(rows @ weights)
    assert np.abs(told - truth).max() < 0.3 * np.abs(flattered - truth).max()
    assert left_out(rows, np.full(60, np.nan), weights, bent).tolist() == flattered.tolist()


def test_what_is_held_firmly_moves_little_and_what_is_held_loosely_moves():
    rows, right = drawn(50)
    found = fit(rows, right, centre=np.zeros(3), strength=np.array([1e6, 1e-3, 1.0]))
    assert abs(found[0]) < 1e-3
    assert found[1] < -1


@given(
    st.lists(
        st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.booleans()),
        max_size=30,
    ),
    st.floats(0.1, 10),
)
def test_no_step_away_from_the_result_leads_down(labels, strength):
    """Whatever the numbers are: it ends, is finite, and is the minimum."""
    rows = np.array([(a, b, 1.0) for a, b, _ in labels]).reshape(len(labels), 3)
    right = np.array([float(label) for *_, label in labels])
    hold = np.full(3, strength)

    def cost(weights):
        logits = rows @ weights
        return (np.logaddexp(0, logits) - right * logits).sum() + strength * (weights**2).sum() / 2

    found = fit(rows, right, centre=np.zeros(3), strength=hold)
    assert np.isfinite(found).all()
    for direction in np.eye(3):
        for step in (-0.1, 0.1):
            assert cost(found) <= cost(found + step * direction) + 1e-6
