"""What is extra, within its budget."""

from sentinel_gateway.core.chat import Usage
from sentinel_gateway.core.pricing import FALLBACK, NANO_PER_USD, Price, cost
from sentinel_gateway.core.spending import DayBook
from sentinel_gateway.ports import Clock, Prices


class Spending:
    """Counts what is used, and says whether what is extra may cost more. What has no price is taken to cost as `FALLBACK`."""

    def __init__(self, prices: Prices, clock: Clock) -> None:
        self.prices = prices
        self._clock = clock
        self.book = DayBook()

    def __repr__(self) -> str:
        return f"<Spending {self.book!r}>"

    def limit(self, share: float) -> None:
        """From now on what is extra may be this share of the day's cost."""
        self.book.share = share

    def note(self, target: str, usage: Usage, *, extra: bool) -> None:
        """This was used just now; as `DayBook.note`."""
        self.book.note(self._cost(target, usage), self._clock(), extra=extra)

    def allows(self, target: str, prompt: int, completion: int) -> bool:
        """May a call to this target that takes about so many tokens be made beyond what callers need?"""
        return self.book.allows(self._cost(target, Usage(prompt, completion)), self._clock())

    def today(self) -> tuple[float, float]:
        """The day so far in USD: all, and what was extra."""
        whole, extra = self.book.costs(self._clock())
        return whole / NANO_PER_USD, extra / NANO_PER_USD

    def _cost(self, target: str, usage: Usage) -> int:
        price = self.prices(target)
        return cost(price if isinstance(price, Price) else FALLBACK, usage)
