"""The operator's own prices: written as decimals, read as whole numbers."""

from fractions import Fraction

import pytest
from msgspec.structs import replace

from sentinel_gateway import rules
from sentinel_gateway.core.chat import Usage
from sentinel_gateway.core.pricing import basis, cost


@pytest.fixture
def priced(configure):
    """The price rules of a file."""

    def read(written: str, **environ: str):
        return rules.price_rules(configure(f"prices: {{{written}}}", env=environ).settings)

    return read


def test_a_price_in_full(priced):
    found = priced(
        "models: {'local/*': {input: '0.1', output: 0.3, cached_input: '0.01', cache_write: '0.125', reasoning: '0.4', "
        "audio_input: 1, audio_output: 2, request: '0.0005', flex: '0.5', priority: 1.75, as_of: 2026-01-31, "
        "tiers: [{above: 200000, input: '0.2', output: '0.6'}]}}"
    )
    price = found.own["local/*"]
    usage = Usage(1000, 1000, 2000, cached_tokens=100, cache_write_tokens=100, reasoning_tokens=200, has_details=True)
    assert cost(price, usage) == 500_000 + 800 * 100 + 100 * 10 + 100 * 125 + 800 * 300 + 200 * 400
    assert cost(price, Usage(200_001, 0, 0)) == 500_000 + 200_001 * 200
    assert (price.as_of, price.source, price.estimated) == ("2026-01-31", "settings", False)
    for tier, share in {"flex": Fraction(1, 2), "priority": Fraction(7, 4), "batch": 1}.items():
        assert cost(price, replace(usage, service_tier=tier)) == cost(price, usage) * share, tier
        assert basis(price, replace(usage, service_tier=tier)) == ("estimated" if tier == "batch" else "price")
    assert found.unknown == "estimate"


def test_a_float_in_yaml_is_what_was_written(priced):
    price = priced("models: {local/a: {input: 0.1, output: 0.3}}").own["local/a"]
    assert cost(price, Usage(10, 10, 0)) == 4000


@pytest.mark.parametrize("unknown", ["estimate", "refuse", "allow"])
def test_what_is_done_about_an_unknown_price(priced, unknown):
    assert priced(f"unknown: {unknown}").unknown == unknown
    assert priced("", SENTINEL_PRICES__UNKNOWN=unknown).unknown == unknown


@pytest.mark.parametrize(
    ("written", "place", "sentence"),
    [
        ("unknown: maybe", "prices.unknown", "'estimate', 'refuse' or 'allow'"),
        ("models: {gpt-4o: {input: 1, output: 1}}", "prices.models.gpt-4o", "provider/model, where * stands for anything"),
        ("models: {local/a: {input: -1, output: 1}}", "prices.models.local/a.input", "must be at least 0"),
        ("models: {local/a: {input: 1}}", "prices.models.local/a.output", "lacks 'output'"),
        ("models: {local/a: {input: cheap, output: 1}}", "prices.models.local/a.input", "a number such as 0.59"),
        ("models: {local/a: {input: .inf, output: 1}}", "prices.models.local/a.input", "a number such as 0.59"),
        ("models: {local/a: {input: 1, output: 1, batch: 101}}", "prices.models.local/a.batch", "at most 100"),
        ("models: {local/a: {input: [1], output: 1}}", "prices.models.local/a.input", "a number such as 0.59"),
        ("models: {local/a: {input: 0.1234567890123456789, output: 1}}", "prices.models.local/a.input", "at most 18 decimals"),
        ("models: {local/a: {input: 1, output: 1, as_of: soon}}", "prices.models.local/a.as_of", "a day such as 2026-01-31"),
        (
            "models: {local/a: {input: 1, output: 1, tiers: [{above: 9, input: 1, output: 1}, {above: 5, input: 1, output: 1}]}}",
            "prices.models.local/a",
            "tiers out of order",
        ),
    ],
)
def test_faults_name_their_place_and_what_would_be_right(faults, written, place, sentence):
    ((where, said),) = faults(f"prices: {{{written}}}")
    assert where == f"sentinel.yaml:1 {place}"
    assert sentence in said
