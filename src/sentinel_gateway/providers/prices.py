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
}
"""Our kinds of tokens, in the library's words."""
REQUESTS: Final = "requests_kcount"
"""USD for a thousand calls."""


class PriceBook:
    """Prices by target, as `ports.Prices`. `note` hears once of each target whose price is not known."""

    def __init__(self, clock: Clock, note: Callable[..., None]) -> None:
        self._clock = clock
        self._note = note
        self._rules = PriceRules()
        self._bound: dict[str, Tariff | Unpriced] = {}
        self._noted: set[str] = set()

    def __repr__(self) -> str:
        return f"<PriceBook of {len(self._bound)} targets>"

    async def use(self, rules: PriceRules) -> None:
        """Go by these rules from now on; what they need of the library is loaded first, off the loop."""
        if any(preset in SHELVES for preset in rules.presets.values()):
            await asyncio.to_thread(_library)
        self._rules, self._bound = rules, {}

    def __call__(self, target: str) -> Pricing:
        """What this target takes now."""
        bound = self._bound.get(target)
        if bound is None:
            bound = self._bind(target)
        return bound if isinstance(bound, Unpriced) else bound.at(self._clock())

    def known(self) -> list[str]:
        """The targets that were asked, and have a price of their own."""
        now = self._clock()
        tariffs = ((target, bound) for target, bound in self._bound.items() if isinstance(bound, Tariff))
        return sorted(target for target, tariff in tariffs if not tariff.at(now).estimated)

    def _bind(self, target: str) -> Tariff | Unpriced:
        found = self._find(target)
        if len(self._bound) >= MOST_BOUND:
            self._bound.clear()
        self._bound[target] = found
        return found

    def _find(self, target: str) -> Tariff | Unpriced:
        rules = self._rules
        if (own := _best(rules.own, target)) is not None:
            return Tariff(((ALWAYS, own),))
        provider, _, model = target.partition("/")
        if provider in rules.simulated:
            return SIMULATED
        tariff = listed(rules.presets.get(provider, provider), model)
        if tariff is not None:
            return tariff
        if target not in self._noted and len(self._noted) < MOST_BOUND:
            self._noted.add(target)
            self._note("price_unknown", target=target, counted=rules.unknown)
        if rules.unknown == "estimate":
            return UNKNOWN
        return Unpriced(target, refused=rules.unknown == "refuse")


SIMULATED: Final = Tariff(((ALWAYS, Price(FALLBACK.rates, as_of=FALLBACK.as_of, source="simulated", estimated=True)),))
"""The demo costs nothing; it is told what another would have taken, so that the first minute shows what a cache saves."""
UNKNOWN: Final = Tariff(((ALWAYS, FALLBACK),))


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

    batch = next((one.prices for one in model.price_variants or () if one.when == {"processing": "batch"}), None)
    listed = model.prices if isinstance(model.prices, list) else [types.ConditionalPrice(prices=model.prices)]
    for one in listed:
        match one.constraint:
            case types.StartDateConstraint(start_date=start):
                when, as_of = When(datetime.combine(start, time(), UTC).timestamp()), str(start)
            case types.TimeOfDateConstraint(start_time=start, end_time=end):
                when, as_of = When(daily=(_second(start), _second(end))), _edition()
            case _:
                when, as_of = ALWAYS, _edition()
        if (price := _price(one.prices, batch, as_of=as_of)) is not None:
            yield when, price


def _price(prices: "library.ModelPrice", batch: "library.ModelPrice | None", *, as_of: str) -> Price | None:
    known = {part: value for part, key in PARTS.items() if (value := prices.__dict__.get(key)) is not None}
    if "input" not in known and "output" not in known:
        return None
    starts = sorted({tier.start for value in known.values() for tier in getattr(value, "tiers", ())})
    return Price(
        _rates(known),
        tuple(Tier(start, _rates(known, start)) for start in starts),
        yocto(Fraction(prices.__dict__.get(REQUESTS) or 0) * 1000),
        _share(known, batch),
        as_of=as_of,
        source=_source(),
    )


def _rates(known: Mapping[str, Any], start: int | None = None) -> Rates:
    """Of requests just beyond `start` tokens of input, or of short ones. What is not listed (output, of embeddings) is free."""
    found = {part: yocto(_at(value, start)) for part, value in known.items()}
    return Rates.of({"input": 0, "output": 0} | found)


def _at(value: Any, start: int | None) -> Any:
    """The decimals of a price that may have tiers."""
    base = getattr(value, "base", value)
    if start is None:
        return base
    return next((tier.price for tier in reversed(getattr(value, "tiers", ())) if tier.start <= start), base)


def _share(known: Mapping[str, Any], batch: "library.ModelPrice | None") -> tuple[int, int]:
    """What a batch takes, where it takes the same share of input and of output."""
    if batch is None:
        return 1, 1
    shares = {
        Fraction(_at(batch.__dict__.get(PARTS[part]) or 0, None)) / Fraction(whole)
        for part in ("input", "output")
        if (whole := _at(known.get(part, 0), None))
    }
    return shares.pop().as_integer_ratio() if len(shares) == 1 else (1, 1)


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
