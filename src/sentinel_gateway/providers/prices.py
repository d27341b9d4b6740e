"""What a target takes: the operator's word, else the price library's offline data, bound once a model as whole numbers.

The library's own sum takes 19 us, and loading its data 0.25 s and 12 MB: it is loaded off the loop, and only where a provider is
on whose prices it has. Its decimals are held exactly.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, time
from fnmatch import fnmatchcase
from fractions import Fraction
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from sentinel_gateway.core.chat import tier_of
from sentinel_gateway.core.pricing import (
    ALWAYS,
    FALLBACK,
    Price,
    PriceRules,
    Pricing,
    Rates,
    Tariff,
    Tier,
    Unpriced,
    When,
    yocto,
)
from sentinel_gateway.ports import Clock
from sentinel_gateway.providers.catalogue import SHELVES

if TYPE_CHECKING:
    from genai_prices import types as library

LIBRARY: Final = "genai-prices"
MOST_BOUND: Final = 1024
"""Targets whose price is remembered: callers may name any model of a provider."""
PARTS: Final = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cached_input": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "audio_input": "input_audio_mtok",
    "reasoning": "output_reasoning_mtok",
    "audio_output": "output_audio_mtok",
    "request": "requests_kcount",
}
"""Our kinds of tokens in the library's words, and what a thousand calls take beside them."""
SERVED: Final = frozenset({"processing", "service_tier", "speed"})
"""By which the library tells the other prices of a model that answers tell as well: `usage.speed` of Anthropic among them."""
UNLISTED: Final = "neither prices.models nor the price library has it"
Known = dict[str, Any]
"""What the library says of a model, by our kinds: decimals, or those with tiers."""


class PriceBook:
    """Prices by target, as `ports.Prices`. `note` hears once of each target whose price is not known."""

    def __init__(self, clock: Clock, note: Callable[..., None]) -> None:
        self._clock = clock
        self._note = note
        self._rules = PriceRules()
        self._bound: dict[str, Tariff | Pricing] = {}
        self._noted: set[str] = set()

    def __repr__(self) -> str:
        return f"<PriceBook of {len(self._bound)} targets>"

    async def use(self, rules: PriceRules) -> None:
        """Go by these rules from now on; what they need of the library is loaded first, off the loop.

        The operator's own prices that name no day are of today, or of the day on which they were first read as they are.
        """
        if any(preset in SHELVES for preset in rules.presets.values()):
            await asyncio.to_thread(_library)
        own = {target: self._dated(price, self._rules.own.get(target)) for target, price in rules.own.items()}
        self._rules, self._bound = replace(rules, own=own), {}

    def __call__(self, target: str) -> Pricing:
        """What this target takes now."""
        bound = self._bound.get(target)
        if bound is None:
            bound = self._bind(target)
        return bound.at(self._clock()) if isinstance(bound, Tariff) else bound

    def _dated(self, price: Price, before: Price | None) -> Price:
        if price.as_of:
            return price
        if before is not None and replace(before, as_of="") == price:
            return before
        return replace(price, as_of=f"{datetime.fromtimestamp(self._clock(), UTC):%Y-%m-%d}")

    def known(self) -> list[str]:
        """The targets that were asked, and have a price of their own."""
        prices = ((target, self(target)) for target in self._bound)
        return sorted(target for target, price in prices if isinstance(price, Price) and not price.estimated)

    def _bind(self, target: str) -> Tariff | Pricing:
        found = self._find(target)
        if len(self._bound) >= MOST_BOUND:
            self._bound.clear()
        self._bound[target] = found
        return found

    def _find(self, target: str) -> Tariff | Pricing:
        """A tariff only where it hangs on the time what the target takes."""
        rules = self._rules
        if (own := _best(rules.own, target)) is not None:
            return own
        provider, _, model = target.partition("/")
        if provider in rules.simulated:
            return SIMULATED
        tariff = listed(rules.presets.get(provider, provider), model)
        if tariff is not None:
            return tariff if len(tariff.entries) > 1 else tariff.entries[0][1]
        if target not in self._noted and len(self._noted) < MOST_BOUND:
            self._noted.add(target)
            self._note("price_unknown", target=target, counted=rules.unknown, reason=UNLISTED)
        if rules.unknown == "estimate":
            return FALLBACK
        return Unpriced(target, refused=rules.unknown == "refuse")


SIMULATED: Final = Price(FALLBACK.rates, as_of=FALLBACK.as_of, source="simulated", estimated=True)
"""The demo costs nothing; it is told what another would have taken, so that the first minute shows what a cache saves."""


def _best(own: Mapping[str, Price], target: str) -> Price | None:
    """Of the patterns that fit the one that says most: the target itself, else the longest."""
    if target in own:
        return own[target]
    fitting = [pattern for pattern in own if fnmatchcase(target, pattern)]
    return own[max(fitting, key=len)] if fitting else None


@cache
def _library() -> Mapping[str, "library.Provider"]:
    from genai_prices.data import providers  # noqa: PLC0415  # 12 MB and 0.25 s that a gateway without need saves

    return {provider.id: provider for provider in providers}


def listed(preset: str, model: str) -> Tariff | None:
    """The library's price of a model at a provider that Sentinel knows; None where it has none for tokens. May load it."""
    shelf = SHELVES.get(preset)
    found = None if shelf is None else _library()[shelf.library_id].find_model(model)
    entries = () if found is None else tuple(_entries(found))
    return Tariff(entries) if entries else None


def _entries(model: "library.ModelInfo") -> Iterator[tuple[When, Price]]:
    from genai_prices import types  # noqa: PLC0415  # loaded already

    listed = model.prices if isinstance(model.prices, list) else [types.ConditionalPrice(prices=model.prices)]
    plain = [(_when(one.constraint), _known(one.prices)) for one in listed]
    plain = [(when, known) for when, known in plain if "input" in known or "output" in known]
    served = [(_when(one.constraint), _tier(one.when), _known(one.prices)) for one in model.price_variants or ()]
    served = [(when, tier, known) for when, tier, known in served if tier and when.daily is None]
    days = {when.since for when, _ in plain} | {when.since for when, *_ in served}
    for since in sorted(days) if plain else ():
        tiers: dict[str, Known] = {}
        for when, tier, known in served:
            if when.since <= since:
                tiers[tier] = known | tiers.get(tier, {})  # the first that says something of a kind of tokens is heard
        for when, known in _holding(plain, since):
            price = _price(known, when.since)
            whole = {tier: _price(known | other, when.since) for tier, other in tiers.items()}
            yield When(since, when.daily) if since or when.daily else ALWAYS, replace(price, service_tiers=whole)


def _when(constraint: Any) -> When:
    from genai_prices import types  # noqa: PLC0415  # loaded already

    match constraint:
        case types.StartDateConstraint(start_date=start):
            return When(datetime.combine(start, time(), UTC).timestamp())
        case types.TimeOfDateConstraint(start_time=start, end_time=end):
            return When(daily=(_second(start), _second(end)))
    return ALWAYS


def _tier(when: Mapping[str, str]) -> str:
    """How answers tell what this other price is for; empty where it is not for how a call is served."""
    ((of, tier), *others) = when.items()
    return tier_of(tier) if of in SERVED and not others else ""


def _holding(plain: list[tuple[When, Known]], since: float) -> list[tuple[When, Known]]:
    """Of those that may hold from a day on the last that holds at all hours, and those behind it; else the first of all."""
    begun = [(when, known) for when, known in plain if when.since <= since]
    begun = [(ALWAYS, plain[0][1]), *begun]
    last = max(place for place, (when, _) in enumerate(begun) if when.daily is None)
    return begun[last:]


def _known(prices: "library.ModelPrice") -> Known:
    return {part: value for part, key in PARTS.items() if (value := prices.__dict__.get(key)) is not None}


def _price(known: Known, since: float) -> Price:
    starts = sorted({tier.start for value in known.values() for tier in getattr(value, "tiers", ())})
    return Price(
        _rates(known),
        tuple(Tier(start, _rates(known, start)) for start in starts),
        yocto(Fraction(known.get("request", 0)) * 1000),
        as_of=f"{datetime.fromtimestamp(since, UTC):%Y-%m-%d}" if since else _edition(),
        source=_source(),
    )


def _rates(known: Known, start: int | None = None) -> Rates:
    """Of requests just beyond `start` tokens of input, or of short ones. What is not listed (output, of embeddings) is free."""
    found = {part: yocto(_at(value, start)) for part, value in known.items() if part != "request"}
    return Rates.of({"input": 0, "output": 0} | found)


def _at(value: Any, start: int | None) -> Any:
    """The decimals of a price that may have tiers."""
    base = getattr(value, "base", value)
    if start is None:
        return base
    return next((tier.price for tier in reversed(getattr(value, "tiers", ())) if tier.start <= start), base)


def _second(moment: time) -> int:
    """Of the day, in UTC."""
    at = moment if moment.tzinfo is None else datetime.combine(datetime(1970, 1, 1, tzinfo=UTC), moment).astimezone(UTC).time()
    return at.hour * 3600 + at.minute * 60 + at.second


@cache
def _source() -> str:
    return f"{LIBRARY} {version(LIBRARY)}"


@cache
def _edition() -> str:
    """The day up to which the library's data know of changes: it does not say of each price when it was looked up."""
    listed = (model.prices for provider in _library().values() for model in provider.models if isinstance(model.prices, list))
    starts = (getattr(one.constraint, "start_date", None) for prices in listed for one in prices)
    return str(max(start for start in starts if start is not None))
