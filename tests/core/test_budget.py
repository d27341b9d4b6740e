"""Whose error budget holds: the strictest, and of equal ones the one that holds for more."""

from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.core.budget import NONE, ErrorBudget, ErrorBudgets

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
