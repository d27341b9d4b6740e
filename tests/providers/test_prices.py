"""Prices as they are bound: the operator's, the library's to the last digit, and what stands for those that nobody knows."""

import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from itertools import product

import pytest
from genai_prices import Usage as LibraryUsage
from genai_prices import calc_price
from genai_prices.data import providers
from genai_prices.types import TieredPrices
from msgspec.structs import replace

from sentinel_gateway.core.chat import Usage
from sentinel_gateway.core.pricing import FALLBACK, NANO_PER_USD, Price, PriceRules, Rates, Unpriced, basis, cost, yocto
from sentinel_gateway.providers.catalogue import SHELVES
from sentinel_gateway.providers.prices import MOST_BOUND, PriceBook, listed

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC).timestamp()


class Bench:
    """A book, its clock, and what it said."""

    def __init__(self) -> None:
        self.now = NOW
        self.said: list[dict] = []
        self.book = PriceBook(lambda: self.now, lambda event, **fields: self.said.append({"event": event} | fields))

    async def of(self, target, **rules) -> Price | Unpriced:
        await self.book.use(PriceRules(**rules))
        return self.book(target)


@pytest.fixture
def bench():
    return Bench()


def dollars(rate):
    return Price(Rates.of({"input": yocto(Decimal(rate)), "output": yocto(Decimal(rate))}), source="settings")


async def test_a_price_of_the_library_says_whose_it_is_and_from_when(bench):
    price = await bench.of("groq/llama-3.3-70b-versatile", presets={"groq": "groq"})
    assert cost(price, Usage(1_000_000, 0, 0)) == 590_000_000
    assert cost(price, Usage(0, 1_000_000, 0)) == 790_000_000
    assert price.source.startswith("genai-prices ")
    assert datetime.fromisoformat(price.as_of)
    assert (basis(price, Usage()), bench.said) == ("price", [])
    assert FALLBACK.rates == price.rates, "the stand-in is that very model"


async def test_the_operators_own_price_is_of_the_day_it_names_or_else_of_the_day_it_was_read(bench):
    """So that each row of the ledger has a day of its price."""
    own = {"local/*": dollars("1"), "local/big": replace(dollars("2"), as_of="2026-01-31")}
    assert (await bench.of("local/small", own=own)).as_of == "2026-11-22"
    assert bench.book("local/big").as_of == "2026-01-31"
    bench.now += 86_400
    assert (await bench.of("local/small", own=own)).as_of == "2026-11-22", "it is the same price as before the reload"
    assert (await bench.of("local/small", own={"local/*": dollars("3")})).as_of == "2026-11-23"


async def test_a_provider_by_another_name_has_the_prices_of_what_it_is(bench):
    named = await bench.of("mine/gpt-4o", presets={"mine": "openai"})
    assert named == await bench.of("openai/gpt-4o", presets={"openai": "openai"})


def test_all_prices_of_the_library_are_bound_to_the_last_digit():
    """Against the library's own sums; what it prices by hours, pages or searches alone has no price for tokens here."""
    usages = [(0, 0), (1, 1), (1000, 250), (150_001, 7), (300_000, 1000)]
    shelves = {shelf.library_id: name for name, shelf in SHELVES.items()}
    at, compared = datetime.fromtimestamp(NOW, UTC), 0
    for provider in providers:
        if provider.id not in shelves:
            continue
        for model in provider.models:
            if not model.match.is_match(model.id) or provider.find_model(model.id) is not model:
                continue
            tariff = listed(shelves[provider.id], model.id)
            if tariff is None:
                continue
            for prompt, completion in usages:
                usage = LibraryUsage(input_tokens=prompt, output_tokens=completion)
                theirs = calc_price(usage, model.id, provider_id=provider.id, genai_request_timestamp=at).total_price
                ours = cost(tariff.at(NOW), Usage(prompt, completion, prompt + completion))
                assert ours == round(theirs * NANO_PER_USD), (provider.id, model.id, prompt)
                compared += 1
    assert compared > 2000


def test_cached_and_audio_tokens_take_what_the_library_says():
    tariff = listed("anthropic", "claude-sonnet-4-5")
    usage = Usage(1000, 0, 0, cached_tokens=500, cache_write_tokens=300, cache_write_1h_tokens=100, has_details=True)
    assert cost(tariff.at(NOW), usage) == 200 * 3000 + 500 * 300 + 200 * 3750 + 100 * 6000
    assert cost(tariff.at(NOW), Usage(200_001, 1, 0)) == 200_001 * 6000 + 22_500
    assert cost(tariff.at(NOW), replace(usage, service_tier="batch")) * 2 == cost(tariff.at(NOW), usage)


TIERS = {"flex": "service_tier", "priority": "service_tier", "batch": "processing", "fast": "service_tier"}


@pytest.mark.parametrize("day", ["2026-09-01", "2026-10-13", "2026-11-22", "2026-12-02", "2027-02-01"])
def test_each_service_tier_is_bound_to_the_last_digit(day):
    """Against the library's own sums: kinds of tokens that differ in their share, and prices that change on other days."""
    moment = datetime.fromisoformat(f"{day}T12:00:00+00:00")
    shelves, found = {shelf.library_id: name for name, shelf in SHELVES.items()}, Counter()
    varied = ((of, model) for of in providers if of.id in shelves for model in of.models if model.price_variants)
    for provider, model in varied:
        tariff = listed(shelves[provider.id], model.id)
        if tariff is None or provider.find_model(model.id) is not model:
            continue
        price = tariff.at(moment.timestamp())
        for tier, prompt in product(price.service_tiers, (1000, 150_001, 300_000)):
            of = "speed" if provider.id == "anthropic" and tier == "fast" else TIERS[tier]
            theirs = calc_price(
                LibraryUsage(input_tokens=prompt, cache_read_tokens=400, output_tokens=777),
                model.id,
                provider_id=provider.id,
                genai_request_timestamp=moment,
                price_context={of: tier},
            ).total_price
            usage = Usage(prompt, 777, 0, cached_tokens=400, has_details=True, service_tier=tier)
            assert cost(price, usage) == round(theirs * NANO_PER_USD), (provider.id, model.id, tier, prompt)
            assert basis(price, usage) == "price"
            found[provider.id, tier] += 1
    assert found["openai", "priority"] > 50 or day < "2026-10-12"
    assert found["anthropic", "batch"] > 20 or day < "2026-10-14"


def test_every_price_of_the_library_is_held_without_rounding():
    """Else an amount could differ from an invoice in its last digit."""
    for provider in providers:
        for model in provider.models:
            for one in [entry.prices for entry in model.prices] if isinstance(model.prices, list) else [model.prices]:
                for value in vars(one).values():
                    decimals = [value.base, *(t.price for t in value.tiers)] if isinstance(value, TieredPrices) else [value]
                    assert all(d is None or -d.as_tuple().exponent <= 18 for d in decimals), model.id


async def test_prices_change_with_the_day_and_with_the_hour(bench):
    peak = await bench.of("deepseek/deepseek-v4-flash", presets={"deepseek": "deepseek"})
    found = set()
    for day, hour in product(("2026-08-01", "2026-08-20", "2026-10-01"), range(24)):
        moment = datetime.fromisoformat(f"{day}T{hour:02}:30:00+00:00")
        bench.now = moment.timestamp()
        ours = cost(bench.book("deepseek/deepseek-v4-flash"), Usage(1_000_000, 0, 0))
        usage = LibraryUsage(input_tokens=1_000_000, output_tokens=0)
        theirs = calc_price(usage, "deepseek-v4-flash", provider_id="deepseek", genai_request_timestamp=moment).total_price
        assert ours == round(theirs * NANO_PER_USD), moment
        found.add(ours)
    assert len(found) >= 3
    assert isinstance(peak, Price)


async def test_the_operator_s_price_stands_above_the_library_s_and_the_closest_pattern_above_others(bench):
    own = {"*/*": dollars(1), "groq/*": dollars(2), "groq/llama-3*": dollars(3), "groq/llama-3.3-70b-versatile": dollars(4)}
    expected = {"groq/llama-3.3-70b-versatile": 4, "groq/llama-3.1-8b-instant": 3, "groq/other": 2, "openai/gpt-4o": 1}
    await bench.book.use(PriceRules(own=own, presets={"groq": "groq", "openai": "openai"}))
    for target, rate in expected.items():
        assert cost(bench.book(target), Usage(1000, 0, 0)) == rate * 1_000_000, target
    assert bench.book.known() == sorted(expected)


@pytest.mark.parametrize("target", ["local/qwen3", "groq/nobody-has-this", "mine/model/with/slashes"])
async def test_unknown_model_warns_once(bench, target):
    for _ in range(3):
        price = await bench.of(target, presets={"groq": "groq", "local": "vllm"})
        assert price == FALLBACK
    why = "neither prices.models nor the price library has it"
    assert bench.said == [{"event": "price_unknown", "target": target, "counted": "estimate", "reason": why}]
    assert bench.book.known() == []


@pytest.mark.parametrize(("unknown", "refused"), [("refuse", True), ("allow", False)])
async def test_what_has_no_price_is_refused_or_counts_nothing(bench, unknown, refused):
    price = await bench.of("local/qwen3", unknown=unknown)
    assert price == Unpriced("local/qwen3", refused=refused)
    assert (cost(price, Usage(10, 10, 20)), basis(price, Usage())) == (0, "unknown")


async def test_the_demo_is_told_at_the_first_seed_s_price_as_an_estimate(bench):
    price = await bench.of("demo/demo", simulated=frozenset({"demo"}), unknown="refuse")
    assert (price.rates, price.source, price.estimated) == (FALLBACK.rates, "simulated", True)
    assert bench.said == []


async def test_what_is_remembered_is_bounded(bench):
    await bench.book.use(PriceRules())
    for number in range(MOST_BOUND + 10):
        bench.book(f"local/{number}")
    assert len(bench.said) == MOST_BOUND
    assert f"of {10} targets" in repr(bench.book)


async def test_a_reload_forgets_what_was_bound(bench):
    assert cost(await bench.of("local/a", own={"local/a": dollars(1)}), Usage(1000, 0, 0)) == 1_000_000
    assert cost(await bench.of("local/a", own={"local/a": dollars(2)}), Usage(1000, 0, 0)) == 2_000_000


def test_who_needs_no_library_does_not_load_it():
    """It takes 12 MB and a quarter of a second."""
    code = """
import asyncio, sys
from sentinel_gateway.core.pricing import PriceRules
from sentinel_gateway.providers.prices import PriceBook
book = PriceBook(lambda: 0.0, lambda *_, **__: None)
asyncio.run(book.use(PriceRules(presets={"demo": "demo", "local": "vllm"}, simulated=frozenset({"demo"}))))
assert book("demo/demo").estimated and book("local/qwen3").estimated
sys.exit("genai_prices" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
