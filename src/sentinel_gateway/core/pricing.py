"""What a call of a model costs: integers from end to end, and rounded once.

A rate is a whole number of yocto-USD (10^-24 USD) a token, so a price in USD per million tokens is held exactly to its eighteenth
decimal. What one row of the ledger comes to is summed in that unit and rounded once, to nano-USD (10^-9 USD), half to even.
"""

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from typing import ClassVar, Final, Literal, Self

import msgspec

from sentinel_gateway.core.chat import Usage

YOCTO_PER_NANO: Final = 10**15
YOCTO_PER_TOKEN: Final = 10**18
"""Where a million tokens take 1 USD."""
NANO_PER_USD: Final = 10**9
CENT_PLACES: Final = 7
"""Decimal places of nano-USD in a cent."""
DAY: Final = 86_400

Basis = Literal["price", "estimated", "unknown"]
"""What an amount goes by: the model's own price and the provider's usage; an estimate of either; or nothing, and then it is 0."""

PART_OF: Final = {
    "cached_input": "input",
    "cache_write": "input",
    "cache_write_1h": "cache_write",
    "audio_input": "input",
    "reasoning": "output",
    "audio_output": "output",
}
"""What tokens of a kind without a rate of its own cost as much as; each stands behind what it goes by."""


class Rates(msgspec.Struct, frozen=True, dict=True):
    """What a token of each kind takes, in yocto-USD. None is negative."""

    input: int
    output: int
    cached_input: int
    """Input that the provider's prompt cache had."""
    cache_write: int
    """Input that it took in."""
    cache_write_1h: int
    """The same, for an hour."""
    audio_input: int
    reasoning: int
    audio_output: int

    @classmethod
    def of(cls, known: Mapping[str, int]) -> Self:
        """From those that are known, by name, `input` and `output` among them; all others go by `PART_OF`."""
        whole = dict(known)
        for part, of in PART_OF.items():
            whole.setdefault(part, whole[of])
        return cls(**whole)

    @cached_property
    def dearest_input(self) -> int:
        """The most that a token of input may take."""
        return max(self.input, self.cached_input, self.cache_write, self.cache_write_1h, self.audio_input)

    @cached_property
    def dearest_output(self) -> int:
        """The most that a token of output may take."""
        return max(self.output, self.reasoning, self.audio_output)

    def most(self, input_tokens: int, output_tokens: int) -> int:
        """The most that so many tokens may take."""
        return input_tokens * self.dearest_input + output_tokens * self.dearest_output


class Tier(msgspec.Struct, frozen=True):
    """Rates of a request whose input is longer than `above` tokens: of all its tokens, not of those beyond."""

    above: int
    rates: Rates


class Price(msgspec.Struct, frozen=True):
    """What a model takes at one time.

    `tiers` ascend. `request` is what each call takes beside its tokens, in yocto-USD. `service_tiers` are the prices of calls
    that the provider serves otherwise (`flex`, `priority`, `batch`), by the name that its answers tell.
    """

    rates: Rates
    tiers: tuple[Tier, ...] = ()
    request: int = 0
    service_tiers: Mapping[str, "Price"] = {}
    as_of: str = ""
    """The day from which on it is known to hold, as 2026-01-31; empty if nobody says."""
    source: str = ""
    """Who says so."""
    estimated: bool = False
    """It is another model's, for want of its own."""

    def usd_per_million(self, kind: str) -> float:
        """What a million tokens of this kind take, to be shown."""
        return float(getattr(self.rates, kind) / YOCTO_PER_TOKEN)


class Unpriced(msgspec.Struct, frozen=True):
    """What `target` (`provider/model`) takes is not known. It is told as 0, and marked; `refused`: it is not to be asked."""

    as_of: ClassVar[str] = ""
    target: str
    refused: bool = False


Pricing = Price | Unpriced


class PriceRules(msgspec.Struct, frozen=True):
    """Where prices come from.

    `own` are the operator's, by target or pattern; `presets` says of a provider what it is, where that is not its name;
    `simulated` ones cost nothing; `unknown` is what is done about a model that nobody has a price for.
    """

    own: Mapping[str, Price] = {}
    presets: Mapping[str, str] = {}
    simulated: frozenset[str] = frozenset()
    unknown: Literal["estimate", "refuse", "allow"] = "estimate"


class Costs(msgspec.Struct):
    """What one use of a model has come to: counts of requests, tokens that providers were paid for, and nano-USD."""

    requests: int = 0
    hits: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: int = 0
    estimated: int = 0
    """Of `cost`."""
    saved: int = 0
    saved_tokens: int = 0
    unpriced: int = 0
    """Calls whose price is not known: they are in no amount."""
    updated: float = 0.0
    """When it last changed, in Unix seconds."""

    def add(self, other: "Costs") -> None:
        """Take in another's."""
        for name in self.__struct_fields__:
            both = getattr(self, name), getattr(other, name)
            setattr(self, name, max(both) if name == "updated" else sum(both))


def cost(price: Pricing, usage: Usage) -> int:
    """What a call with this usage has cost, in nano-USD: 0 or more, rounded once, half to even.

    One that was served at a tier whose price nobody knows is taken to have cost as much as others.
    """
    if isinstance(price, Unpriced):
        return 0
    if usage.service_tier:
        price = price.service_tiers.get(usage.service_tier, price)
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    rates = _rates_for(price, prompt) if price.tiers else price.rates
    spent = price.request + prompt * rates.input + completion * rates.output
    if usage.has_details:  # few answers: the rest is corrections of nothing
        spent += _corrections(rates, usage)
    return _in_nano(spent)


def basis(price: Pricing, usage: Usage) -> Basis:
    """What `cost` goes by."""
    if isinstance(price, Unpriced):
        return "unknown"
    unknown_tier = usage.service_tier and usage.service_tier not in price.service_tiers
    return "estimated" if price.estimated or usage.estimated or unknown_tier else "price"


def at_any_tier(price: Pricing) -> tuple[Pricing, ...]:
    """All that a call may turn out to take which leaves it to the provider how it is served."""
    return (price,) if isinstance(price, Unpriced) else (price, *price.service_tiers.values())


def at_share(price: Price, share: Fraction) -> Price:
    """This share of a price, as that of a service tier: each of its rates is rounded to a whole number of yocto-USD."""

    def of(rates: Rates) -> Rates:
        return Rates(*(round(rate * share) for rate in msgspec.structs.astuple(rates)))

    tiers = tuple(Tier(tier.above, of(tier.rates)) for tier in price.tiers)
    return msgspec.structs.replace(price, rates=of(price.rates), tiers=tiers, request=round(price.request * share))


def _corrections(rates: Rates, usage: Usage) -> int:
    """What tokens of a kind with a rate of its own take beyond the usual one, or less than that, in yocto-USD."""
    longer = usage.cache_write_1h_tokens
    return (
        usage.cached_tokens * (rates.cached_input - rates.input)
        + (usage.cache_write_tokens - longer) * (rates.cache_write - rates.input)
        + longer * (rates.cache_write_1h - rates.input)
        + usage.audio_input_tokens * (rates.audio_input - rates.input)
        + usage.reasoning_tokens * (rates.reasoning - rates.output)
        + usage.audio_output_tokens * (rates.audio_output - rates.output)
    )


def parts(price: Price, usage: Usage) -> dict[str, int]:
    """What each kind of tokens of a call has cost, in yocto-USD: they add up to what `cost` rounds, where no audio was in it."""
    rates = _rates_for(price, usage.prompt_tokens)
    plain = usage.prompt_tokens - usage.cached_tokens - usage.cache_write_tokens
    return {
        "request": price.request,
        "input": plain * rates.input,
        "cached_input": usage.cached_tokens * rates.cached_input,
        "cache_write": usage.cache_write_tokens * rates.cache_write,
        "output": (usage.completion_tokens - usage.reasoning_tokens) * rates.output,
        "reasoning": usage.reasoning_tokens * rates.reasoning,
    }


def booked_parts(price: Pricing, usage: Usage, booked: int) -> dict[str, float] | None:
    """The same in USD, at the service tier at which they add up to what was booked (nano-USD).

    None where they do at none: the price is another by now.
    """
    for one in at_any_tier(price):
        found = {} if isinstance(one, Unpriced) else parts(one, usage)
        if found and _in_nano(sum(found.values())) == booked:
            return {kind: amount / YOCTO_PER_NANO / NANO_PER_USD for kind, amount in found.items()}
    return None


def _rates_for(price: Price, prompt: int) -> Rates:
    for tier in reversed(price.tiers):
        if prompt > tier.above:
            return tier.rates
    return price.rates


def bound(price: Pricing, input_tokens: int, max_output: int) -> int:
    """The most that a call with so many tokens of input and output at most may cost, in nano-USD, rounded up."""
    if isinstance(price, Unpriced):
        return 0
    dearest = price.rates.most(input_tokens, max_output)
    if price.tiers:
        reached = [tier.rates for tier in price.tiers if tier.above < input_tokens]
        dearest = max([dearest, *(rates.most(input_tokens, max_output) for rates in reached)])
    return -(-(price.request + dearest) // YOCTO_PER_NANO)


def affordable(price: Pricing, input_tokens: int, nano_usd: int) -> int | None:
    """The most tokens of output with which `bound` stays within `nano_usd`, 0 or more; None if no number of them costs anything.

    0 where the input alone costs more.
    """
    if isinstance(price, Unpriced):
        return None
    reached = [price.rates, *(tier.rates for tier in price.tiers if tier.above < input_tokens)]
    room = nano_usd * YOCTO_PER_NANO - price.request
    dear = [(room - input_tokens * rates.dearest_input, rates.dearest_output) for rates in reached]
    if any(left < 0 for left, _ in dear):
        return 0
    return min((left // rate for left, rate in dear if rate), default=None)


def _in_nano(yocto_usd: int) -> int:
    """Rounded half to even: what lies in the middle goes up from an odd number only."""
    whole, rest = divmod(yocto_usd, YOCTO_PER_NANO)
    return whole + (2 * rest + whole % 2 > YOCTO_PER_NANO)


class When(msgspec.Struct, frozen=True):
    """From when on a price holds, in Unix seconds, and at what time of the day (UTC seconds from midnight; may cross it)."""

    since: float = 0.0
    daily: tuple[int, int] | None = None

    def holds(self, now: float) -> bool:
        """Does it hold at this moment?"""
        if now < self.since or self.daily is None:
            return now >= self.since
        start, end = self.daily
        time = now % DAY
        return start <= time < end if start <= end else time >= start or time < end


ALWAYS: Final = When()


class Tariff(msgspec.Struct, frozen=True):
    """What a model takes at which time: of the entries that hold, the last one; where none does, the first. Never empty."""

    entries: tuple[tuple[When, Price], ...]

    def at(self, now: float) -> Price:
        """The price at this moment."""
        for when, price in reversed(self.entries):
            if when is ALWAYS or when.holds(now):
                return price
        return self.entries[0][1]


def yocto(usd_per_million: Fraction | Decimal) -> int:
    """A price of a million tokens in USD as a rate of one: exact to the eighteenth decimal."""
    return round(Fraction(usd_per_million) * YOCTO_PER_TOKEN)


def usd(nano_usd: int) -> str:
    """An amount in nano-USD as decimals of USD, exactly: 0.000031."""
    whole, rest = divmod(abs(nano_usd), NANO_PER_USD)
    decimals = f".{rest:09}".rstrip("0") if rest else ""
    return f"{'-' if nano_usd < 0 else ''}{whole}{decimals}"


def about_usd(nano_usd: float, digits: int) -> str:
    """The same to so many digits that say something, and to the cent at least: 0.00003077, 12345.67."""
    nano = round(nano_usd)
    return usd(round(nano, -min(max(len(str(abs(nano))) - digits, 0), CENT_PLACES)))


FREE: Final = Price(Rates.of({"input": 0, "output": 0}))
"""Where nothing is counted."""
FALLBACK: Final = Price(
    Rates.of({"input": 590_000_000_000_000_000, "output": 790_000_000_000_000_000}),
    as_of="2026-02-21",
    source="llama-3.3-70b-versatile",
    estimated=True,
)
"""Stands for a model whose price is not known: Llama 3.3 70B at Groq, 0.59 and 0.79 USD per million tokens (seed 000)."""
