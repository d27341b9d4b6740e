"""Whose error budget holds: the strictest, and of equal ones the one that holds for more."""

from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.core.budget import NONE, ErrorBudget, ErrorBudgets, in_arm
from sentinel_gateway.core.experiments import Arm, Place

RATES = st.none() | st.floats(0, 1)


@given(st.floats(0, 1), RATES, RATES, RATES)
def test_the_strictest_holds(deployment, model, key, namespace):
    models, namespaces = ({} if rate is None else {"m": rate} for rate in (model, namespace))
    found = ErrorBudgets(deployment, models, namespaces).of(model="m", namespace="m", key=key)
    said = {"deployment": deployment, "model": model, "key": key, "namespace": namespace}
    assert found.rate == min(rate for rate in said.values() if rate is not None)
    assert said[found.by] == found.rate
    assert found.by == next(by for by, rate in said.items() if rate == found.rate)


def test_what_is_named_elsewhere_is_nothing_here():
    budgets = ErrorBudgets(0.01, {"m": 0.001}, {"n": 0.002})
    assert budgets.of(model="other", namespace="", key=None) == ErrorBudget(0.01, "deployment")
    assert budgets.of(model="m", namespace="n", key=0.0) == ErrorBudget(0.0, "key")


def test_what_is_stricter_than_the_deployment_is_named():
    budgets = ErrorBudgets(0.01, {"m": 0.001, "lax": 0.5}, {"n": 0.002})
    named = {"model:m": 0.001, "key:k": 0.003, "namespace:n": 0.002}
    assert budgets.stricter(model="m", namespace="n", key=("k", 0.003)) == named
    assert budgets.stricter(model="lax", namespace="", key=("k", 0.01)) == {}
    assert ErrorBudgets(0.01).stricter(model="m", namespace="n", key=("k", None)) is NONE


@given(RATES, RATES, st.floats(0, 1))
def test_an_arm_is_judged_by_one_rate_whoever_asks(own, key, deployment):
    """Each request is held to the strictest of all; but what one key allows less is no measure for the whole arm."""
    place, budgets = Place("cheaper", Arm("small", max_wrong_hit_rate=own), 7), ErrorBudgets(deployment)
    usual, stricter = budgets.of(model="m", namespace="", key=key), budgets.stricter(model="m", namespace="", key=("k", key))
    found, named = in_arm(place, usual, stricter, budgets)
    assert found.rate == min(rate for rate in (deployment, own, key) if rate is not None)
    assert named == stricter | {"experiment:cheaper=small": min(rate for rate in (deployment, own) if rate is not None)}
