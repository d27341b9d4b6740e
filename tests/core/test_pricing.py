"""Money: whole numbers, exact to the last digit, rounded once a row."""

from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from sentinel_gateway.core.chat import Usage, read_usage
from sentinel_gateway.core.pricing import (
    ALWAYS,
    DAY,
    FALLBACK,
    PART_OF,
    YOCTO_PER_NANO,
    Costs,
    Price,
    Rates,
    Tariff,
    Tier,
    Unpriced,
    When,
    affordable,
    at_any_tier,
    at_share,
    basis,
    booked_parts,
    bound,
    cost,
    usd,
)

MTOK = 10**18  # yocto-USD a token, of 1 USD per million tokens

rate = st.integers(0, 200 * MTOK)


@st.composite
def rates(draw):
    known = {"input": draw(rate), "output": draw(rate)}
    return Rates.of(known | {part: draw(rate) for part in PART_OF if draw(st.booleans())})


@st.composite
def prices(draw):
    starts = sorted(draw(st.lists(st.integers(0, 400_000), max_size=2, unique=True)))
    tiers = tuple(Tier(above, draw(rates())) for above in starts)
    return Price(draw(rates()), tiers, draw(st.integers(0, 10**22)))


@st.composite
def usages(draw, most=500_000):
    prompt, completion = draw(st.integers(0, most)), draw(st.integers(0, most))
    cached = draw(st.integers(0, prompt))
    written = draw(st.integers(0, prompt - cached))
    heard = draw(st.integers(0, prompt - cached - written))
    thought = draw(st.integers(0, completion))
    return Usage(
        prompt,
        completion,
        prompt + completion,
        cached_tokens=cached,
        cache_write_tokens=written,
        cache_write_1h_tokens=draw(st.integers(0, written)),
        audio_input_tokens=heard,
        reasoning_tokens=thought,
        audio_output_tokens=draw(st.integers(0, completion - thought)),
        has_details=True,
    )


def exactly(price, usage):
    """By fractions, part by part, as an invoice would have it: in nano-USD."""
    known = price.rates
    for tier in price.tiers:
        if usage.prompt_tokens > tier.above:
            known = tier.rates
    told = usage.cached_tokens + usage.cache_write_tokens + usage.audio_input_tokens
    said = usage.reasoning_tokens + usage.audio_output_tokens
    parts = [
        ((usage.prompt_tokens - told), known.input),
        (usage.cached_tokens, known.cached_input),
        (usage.cache_write_tokens - usage.cache_write_1h_tokens, known.cache_write),
        (usage.cache_write_1h_tokens, known.cache_write_1h),
        (usage.audio_input_tokens, known.audio_input),
        (usage.completion_tokens - said, known.output),
        (usage.reasoning_tokens, known.reasoning),
        (usage.audio_output_tokens, known.audio_output),
        (1, price.request),
    ]
    return Fraction(sum(tokens * yocto for tokens, yocto in parts), YOCTO_PER_NANO)


@given(prices(), usages())
def test_the_cost_is_the_sum_of_its_parts_rounded_once_half_to_even(price, usage):
    assert cost(price, usage) == round(exactly(price, usage))  # Python rounds fractions half to even


@pytest.mark.parametrize(("tokens", "nano"), [(1, 0), (3, 2), (5, 2), (7, 4), (2, 1)])
def test_half_a_nano_dollar_goes_to_the_even_one(tokens, nano):
    half = Price(Rates.of({"input": YOCTO_PER_NANO // 2, "output": 0}))
    assert cost(half, Usage(tokens, 0, tokens)) == nano
    assert nano == int((Decimal(tokens) / 2).quantize(Decimal(1), ROUND_HALF_EVEN))


@given(prices(), usages())
def test_it_is_never_negative_and_never_more_than_its_bound(price, usage):
    assert 0 <= cost(price, usage) <= bound(price, usage.prompt_tokens, usage.completion_tokens)


@given(prices(), usages(), st.integers(0, 1000), st.integers(0, 1000))
def test_more_is_never_bound_by_less(price, usage, more_in, more_out):
    least = bound(price, usage.prompt_tokens, usage.completion_tokens)
    most = bound(price, usage.prompt_tokens + more_in, usage.completion_tokens + more_out)
    assert cost(price, usage) <= least <= most


@given(rates(), usages(), st.integers(0, 10_000))
def test_more_output_never_costs_less(known, usage, more):
    longer = replace(usage, completion_tokens=usage.completion_tokens + more)
    assert cost(Price(known), usage) <= cost(Price(known), longer)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_bill_of_whole_nano_dollars_adds_up_to_the_last_digit(first, second, third, fourth):
    price = Price(Rates.of({"input": 3 * YOCTO_PER_NANO, "output": 7 * YOCTO_PER_NANO}))
    both = cost(price, Usage(first, second, 0)) + cost(price, Usage(third, fourth, 0))
    assert both == cost(price, Usage(first + third, second + fourth, 0))


@given(st.lists(usages(most=10_000), min_size=1, max_size=30), rates())
def test_rows_are_each_rounded_by_half_a_nano_dollar_at_most(calls, known):
    price = Price(known)
    off = sum(cost(price, usage) for usage in calls) - sum(exactly(price, usage) for usage in calls)
    assert abs(off) <= Fraction(len(calls), 2)


@given(prices(), st.integers(0, 300_000), st.integers(0, 10**12))
def test_what_is_affordable_fits_and_one_more_does_not(price, given_in, budget):
    most = affordable(price, given_in, budget)
    if most is None:
        assert bound(price, given_in, 10**9) <= budget
        return
    assume(bound(price, given_in, 0) <= budget)
    assert bound(price, given_in, most) <= budget < bound(price, given_in, most + 1)


def test_nothing_is_affordable_where_the_input_alone_costs_more():
    assert affordable(FALLBACK, 1_000_000, 500_000_000) == 0
    assert affordable(FALLBACK, 0, 790) == 1


def test_above_its_threshold_all_tokens_take_the_tier_s_rate():
    low, high = Rates.of({"input": 3 * MTOK, "output": 15 * MTOK}), Rates.of({"input": 6 * MTOK, "output": 22 * MTOK})
    price = Price(low, (Tier(200_000, high),))
    assert cost(price, Usage(200_000, 1000, 0)) == 200_000 * 3000 + 1000 * 15_000
    assert cost(price, Usage(200_001, 1000, 0)) == 200_001 * 6000 + 1000 * 22_000


def test_kinds_without_a_rate_of_their_own_cost_as_their_whole():
    known = Rates.of({"input": 5, "output": 9, "cache_write": 7})
    assert (known.cached_input, known.cache_write_1h, known.audio_input) == (5, 7, 5)
    assert (known.reasoning, known.audio_output) == (9, 9)


def test_an_amount_says_what_it_goes_by():
    known = Price(FALLBACK.rates)
    assert basis(known, Usage(1, 1, 2)) == "price"
    assert basis(known, Usage(1, 1, 2, estimated=True)) == "estimated"


@given(st.dictionaries(st.sampled_from(["flex", "priority", "batch"]), prices()), prices(), usages())
def test_a_call_takes_the_price_of_the_tier_that_it_was_served_at(tiers, standard, usage):
    """Exactly: as if that were the model's only price. One that nobody knows is billed as usual, and marked."""
    price = replace(standard, service_tiers=tiers)
    assert cost(price, usage) == cost(standard, usage)
    for tier in ("flex", "priority", "batch", "scale"):
        served = replace(usage, service_tier=tier)
        assert cost(price, served) == cost(tiers.get(tier, standard), usage)
        assert basis(price, served) == ("price" if tier in tiers else "estimated")
        assert cost(price, served) <= max(bound(one, usage.prompt_tokens, usage.completion_tokens) for one in at_any_tier(price))


@given(prices(), usages(), st.decimals(0, 100, places=6).map(Fraction))
def test_a_share_is_one_of_all_that_a_call_takes(price, usage, share):
    """Off by no more than the rounding of rates, half a yocto-USD a token, and that of the two sums."""
    whole, part = cost(price, usage), cost(at_share(price, share), usage)
    assert abs(part - whole * share) <= Fraction(1, 2) + share / 2 + Fraction(10**7, YOCTO_PER_NANO)


def test_half_of_a_price_is_half_of_a_bill():
    price = Price(Rates.of({"input": MTOK, "output": MTOK}), request=10**18)
    usage = Usage(1000, 1000, 2000)
    assert cost(at_share(price, Fraction(1, 2)), usage) * 2 == cost(price, usage) == 2_001_000


def test_the_parts_of_a_bill_are_those_of_the_tier_at_which_they_add_up_to_it():
    standard = Price(Rates.of({"input": 2 * MTOK, "output": 8 * MTOK}))
    price = replace(standard, service_tiers={"priority": at_share(standard, Fraction(7, 4))})
    usage = Usage(1000, 100, 1100)
    assert booked_parts(price, usage, 2_800_000)["output"] == pytest.approx(0.0008)
    assert booked_parts(price, usage, 4_900_000)["output"] == pytest.approx(0.0014)
    assert booked_parts(price, usage, 4_900_001) is None


@pytest.mark.parametrize("told", ["default", "standard", "on_demand", "", None, 7, ["priority"], {}])
def test_the_standard_tier_is_no_other(told):
    assert read_usage({"prompt_tokens": 1, "completion_tokens": 1}, told).service_tier == ""


def test_what_has_no_price_is_told_as_nothing_and_marked():
    unknown = Unpriced("local/qwen")
    assert cost(unknown, Usage(10**6, 10**6, 0)) == bound(unknown, 10**6, 10**6) == 0
    assert affordable(unknown, 10**6, 0) is None
    assert basis(unknown, Usage()) == "unknown"


def test_the_fallback_is_that_of_the_first_seed():
    assert cost(FALLBACK, Usage(1_000_000, 0, 0)) == 590_000_000
    assert cost(FALLBACK, Usage(0, 1_000_000, 0)) == 790_000_000
    assert basis(FALLBACK, Usage()) == "estimated"


@pytest.mark.parametrize(
    ("seconds", "found"), [(0, "off"), (1799, "off"), (1800, "peak"), (59_399, "peak"), (59_400, "off"), (DAY - 1, "off")]
)
def test_a_price_may_hold_for_some_hours_of_each_day(seconds, found):
    off, peak = Price(FALLBACK.rates, source="off"), Price(FALLBACK.rates, source="peak")
    tariff = Tariff(((ALWAYS, off), (When(daily=(1800, 59_400)), peak)))
    assert tariff.at(20_000 * DAY + seconds).source == found


def test_a_price_may_hold_over_midnight_and_from_a_day_on():
    old, new, night = (Price(FALLBACK.rates, source=name) for name in ("old", "new", "night"))
    tariff = Tariff(((ALWAYS, old), (When(since=100 * DAY), new), (When(since=200 * DAY, daily=(80_000, 1000)), night)))
    assert tariff.at(100 * DAY - 1).source == "old"
    assert tariff.at(100 * DAY).source == "new"
    assert tariff.at(200 * DAY + 999).source == tariff.at(200 * DAY + 80_000).source == "night"
    assert tariff.at(200 * DAY + 1000).source == "new"


def test_before_all_of_them_the_first_one_holds():
    first, later = Price(FALLBACK.rates, source="first"), Price(FALLBACK.rates, source="later")
    tariff = Tariff(((When(since=100 * DAY), first), (When(since=200 * DAY), later)))
    assert tariff.at(0).source == "first"


@pytest.mark.parametrize(
    ("nano", "shown"),
    [(0, "0"), (31_000, "0.000031"), (17_500, "0.0000175"), (1, "0.000000001"), (2_500_000_000, "2.5"), (-5, "-0.000000005")],
)
def test_dollars_are_told_to_the_last_digit(nano, shown):
    assert usd(nano) == shown


# --- what providers report ---


def test_explicit_zeros_are_kept():
    assert read_usage({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}) == Usage(0, 0, 0)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        {"prompt_tokens": -1, "completion_tokens": 5},
        {"prompt_tokens": 5, "completion_tokens": -1},
        {"prompt_tokens": 5.0, "completion_tokens": 1},
        {"prompt_tokens": "5", "completion_tokens": 1},
        {"prompt_tokens": True, "completion_tokens": 1},
    ],
)
def test_what_is_absent_or_no_count_is_not_taken_for_usage(usage):
    assert read_usage(usage) is None


def test_details_are_read():
    told = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 30, "cache_write_1h_tokens": 10, "audio_tokens": 5},
        "completion_tokens_details": {"reasoning_tokens": 20, "audio_tokens": None, "accepted_prediction_tokens": 3},
    }
    assert read_usage(told) == Usage(
        100,
        50,
        150,
        cached_tokens=40,
        cache_write_tokens=30,
        cache_write_1h_tokens=10,
        audio_input_tokens=5,
        reasoning_tokens=20,
        has_details=True,
    )


def test_thoughts_that_are_left_out_of_the_completion_are_counted_in():
    told = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 115,
        "completion_tokens_details": {"reasoning_tokens": 100},
    }
    assert read_usage(told) == Usage(10, 105, 115, reasoning_tokens=100, has_details=True)


@pytest.mark.parametrize(
    "more",
    [
        {"total_tokens": 14},
        {"total_tokens": 2**53},
        {"prompt_tokens_details": {"cached_tokens": 11}},
        {"prompt_tokens_details": {"cached_tokens": 6, "cache_write_tokens": 5}},
        {"prompt_tokens_details": {"cached_tokens": -1}},
        {"prompt_tokens_details": {"cache_write_1h_tokens": 1}},
        {"prompt_tokens_details": [1]},
        {"completion_tokens_details": {"reasoning_tokens": 6}},
        {"completion_tokens_details": {"reasoning_tokens": 3, "audio_tokens": 3}},
    ],
)
def test_what_contradicts_itself_is_taken_without_its_details_and_marked(more):
    told = read_usage({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15} | more)
    assert told is not None
    assert told.estimated
    assert not told.has_details
    assert (told.prompt_tokens, told.completion_tokens) == (10, 5)


@given(prices(), usages())
def test_parts_add_up_to_what_was_booked_or_are_not_told(price, usage):
    text = replace(usage, cache_write_1h_tokens=0, audio_input_tokens=0, audio_output_tokens=0)
    booked = cost(price, text)
    parts = booked_parts(price, text, booked)
    assert sum(parts.values()) == pytest.approx(booked / 1e9, rel=1e-9, abs=1e-9)
    assert booked_parts(price, text, booked + 1) is None
    assert booked_parts(Unpriced("x/y"), text, 0) is None


def test_a_price_is_shown_by_the_million():
    price = Price(Rates.of({"input": 3 * MTOK, "output": 15 * MTOK // 2, "cached_input": 0, "cache_write": MTOK}))
    assert [price.usd_per_million(kind) for kind in ("input", "output", "cached_input", "cache_write")] == [3.0, 7.5, 0.0, 1.0]


def test_costs_add_up_and_the_last_change_is_the_last():
    costs = Costs(cost=1, saved=2, updated=5.0)
    costs.add(Costs(cost=10, estimated=3, unpriced=1, updated=4.0))
    costs.add(Costs(saved=1, saved_tokens=7, updated=6.0))
    assert (costs.cost, costs.estimated, costs.saved, costs.saved_tokens, costs.unpriced) == (11, 3, 3, 7, 1)
    assert costs.updated == 6.0
