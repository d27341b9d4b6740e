"""What is extra, within its budget. What a target takes is looked up beside the path, once; till it is known nothing is spent."""

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Final

from sentinel_gateway.core.spending import DayBook, Rate, Tokens
from sentinel_gateway.ports import Clock

Price = Callable[[str, int, int], Decimal | None]
"""Of a target, prompt tokens and completion tokens, in USD; None where it is unknown. May take long."""
UNKNOWN: Final = "groq/llama-3.3-70b-versatile"
"""Stands for a target without a known price."""
SAMPLE: Final = 1_000_000
NANO_PER_SAMPLE: Final = Decimal(10**9) / SAMPLE


class Spending:
    """Counts what is used, and says whether what is extra may cost more. To be closed."""

    def __init__(self, price: Price, clock: Clock) -> None:
        self._price = price
        self._clock = clock
        self._book = DayBook()
        self._rates: dict[str, Rate] = {}
        self._asking: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Spending {self._book!r}, {len(self._rates)} rates>"

    def limit(self, share: float) -> None:
        """From now on what is extra may be this share of the day's cost."""
        self._book.share = share

    def note(self, target: str, prompt: int, completion: int, *, extra: bool) -> None:
        """As `DayBook.note`."""
        self._book.note(target, Tokens(prompt, completion), self._clock(), extra=extra)

    def allows(self, target: str, prompt: int, completion: int) -> bool:
        """May a call to this target that takes about so many tokens be made beyond what callers need?"""
        now = self._clock()
        if not self.knows(self._book.targets(now) | {target}):
            return False
        return self._book.allows(self._rates[target].of(Tokens(prompt, completion)), self._rates, now)

    def knows(self, targets: frozenset[str]) -> bool:
        """Are the prices of all of these known? If not, they will be soon."""
        unpriced = targets - self._rates.keys()
        if unpriced:
            self._ask(unpriced)
        return not unpriced

    def today(self) -> tuple[float, float]:
        """The day so far in USD: all, and what was extra, as far as prices are known by now."""
        whole, extra = self._book.costs(self._rates, self._clock())
        return whole / 1e9, extra / 1e9

    async def close(self) -> None:
        """Wait for what is being looked up."""
        if self._asking is not None:
            await self._asking

    def _ask(self, targets: frozenset[str]) -> None:
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._learn(targets))

    async def _learn(self, targets: frozenset[str]) -> None:
        self._rates |= await asyncio.to_thread(lambda: {target: self._rate(target) for target in targets})

    def _rate(self, target: str) -> Rate:
        return Rate(self._nano(target, SAMPLE, 0), self._nano(target, 0, SAMPLE))

    def _nano(self, target: str, prompt: int, completion: int) -> float:
        price = self._price(target, prompt, completion)
        if price is None:
            price = self._price(UNKNOWN, prompt, completion) or Decimal(0)
        return float(price * NANO_PER_SAMPLE)
