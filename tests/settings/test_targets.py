"""Public names, their targets and strategies, and what a gateway does when one fails."""

from decimal import Decimal

import pytest

from sentinel_gateway import rules
from sentinel_gateway.core.circuit import CircuitRules
from sentinel_gateway.core.pricing import FALLBACK, Price, Rates, Unpriced, yocto
from sentinel_gateway.core.retrying import RetryRules
from sentinel_gateway.core.routing import Ability, Conduct, Deadlines, Hedge, Target
from sentinel_gateway.core.standing import StandingRules

LOCAL = "providers: {local: {dialect: openai, base_url: 'http://127.0.0.1:9001/v1'}}\n"
A, B, C = Target("local", "a"), Target("local", "b"), Target("local", "c")


@pytest.fixture
def route(configure):
    """The route of the one name that is configured."""

    def make(model, price=lambda *_: None):
        return rules.routes(configure(f"{LOCAL}models: {{fast: {model}}}").settings, price)["fast"]

    return make


@pytest.mark.parametrize("written", ["[local/a, local/b]", "{targets: [{target: local/a}, local/b]}", "local/a, local/b"])
def test_a_plain_list_is_an_order(route, written):
    found = route(written if written.startswith(("[", "{")) else f"'{written}'")
    assert (found.targets, found.strategy, found.sticky, found.abilities) == ((A, B), "priority", False, ())


def test_weights_make_it_weighted(route):
    found = route("{targets: [{target: local/a, weight: 3}, local/b], sticky: true}")
    assert (found.targets, found.strategy, found.weights, found.sticky) == ((A, B), "weighted", (3.0, 1.0), True)


@pytest.mark.parametrize("strategy", ["priority", "weighted", "least_latency", "least_busy"])
def test_strategies(route, strategy):
    assert route(f"{{targets: [local/a, local/b], strategy: {strategy}}}").strategy == strategy


def dollars(rate):
    return Price(Rates.of({"input": yocto(Decimal(rate)), "output": yocto(Decimal(rate))}))


def test_the_cheapest_comes_first_and_what_has_no_price_last(route):
    prices = {"local/a": Unpriced("local/a"), "local/b": dollars(5), "local/c": dollars(2), "local/d": FALLBACK}
    found = route("{targets: [local/a, local/b, local/c], strategy: cheapest}", prices.get)
    assert route("{targets: [local/d, local/b], strategy: cheapest}", prices.get).targets[0] == B, "an estimate is no price"
    assert (found.targets, found.strategy) == ((C, B, A), "priority")


def test_what_a_target_can_do(route):
    found = route("[{target: local/a, tools: false, context: 8192}, {target: local/b, vision: false}, local/c]")
    assert found.abilities == (Ability(tools=False, context=8192), Ability(vision=False), Ability())


def test_what_is_compared(configure):
    one = configure(f"{LOCAL}models: {{fast: [local/a, local/b], slow: local/c}}").settings
    assert rules.compared(one) == ["local/a", "local/b"]


def test_the_defaults_are_those_of_the_contract_and_of_seed_001(configure):
    settings = configure().settings
    assert rules.retries(settings) == RetryRules(attempts=3, patience=60.0) == RetryRules()
    assert (
        rules.standings(settings)
        == StandingRules(CircuitRules(failures=5, successes=2, pause=60.0), 0.1, 30.0)
        == StandingRules()
    )


def test_what_is_configured_is_what_counts(configure):
    settings = configure(
        "routing: {max_attempts: 2, patience: 9, retry_budget: 0.5, cool_down: 4, breaker: {failures: 7}}"
    ).settings
    assert rules.retries(settings) == RetryRules(2, 9.0)
    assert rules.standings(settings) == StandingRules(CircuitRules(7, 2, 60.0), 0.5, 4.0)


def test_nothing_is_looked_up_where_all_is_as_usual(route):
    assert route("[local/a, local/b]").conduct is None


def test_how_a_route_s_targets_are_asked(route):
    conduct = route(
        "{targets: [{target: local/a, timeouts: {first_byte: 9, idle: 2, total: 5}}, {target: local/b, retry_uncertain: true}], "
        "retry_uncertain: false, on_disconnect: drain, timeouts: {first_byte: 3, total: 20}}"
    ).conduct
    assert conduct == Conduct(
        careful=frozenset({A}),
        deadlines={A: Deadlines(3.0, 2.0, 5.0), B: Deadlines(first_byte=3.0)},
        total=20.0,
        drain=True,
    )
    assert conduct.deadlines_of(A, 0.0) == Deadlines(3.0, 2.0, 5.0)
    assert conduct.deadlines_of(A, 17.5) == Deadlines(3.0, 2.0, 2.5)
    assert conduct.deadlines_of(B, 1.25) == Deadlines(3.0, None, 18.75)


@pytest.mark.parametrize(
    ("written", "hedge"), [("{after: 2}", Hedge(2.0, 0.05)), ("{after: p95, max_cost_share: 0.2}", Hedge(None, 0.2))]
)
def test_when_a_second_target_is_asked(route, written, hedge):
    assert route(f"{{targets: [local/a, local/b], hedge: {written}}}").conduct == Conduct(hedge=hedge)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("{targets: local/a, hedge: {after: 2}}", "hedges, which takes a second target"),
        ("{targets: [local/a, local/b], hedge: {after: 2}, retry_uncertain: false}", "which asks twice"),
        ("{targets: [local/a, local/b], hedge: {after: p99}}", "p95"),
        ("{targets: [local/a, local/b], hedge: {after: 0}}", "more than 0"),
        ("{targets: local/a, on_disconnect: stay}", "cancel"),
        ("{targets: local/a, timeouts: {connect: 1}}", "connect"),
    ],
)
def test_what_can_not_be_meant_is_a_fault(faults, model, said):
    found = faults(f"{LOCAL}models: {{fast: {model}}}")
    assert found
    assert any(said in f"{place} {sentence}" for place, sentence in found)
