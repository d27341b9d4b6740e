"""The last hours of providers: two are told from what is recent, on all nodes; more than that the ledger tells, to 30 days."""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from sentinel_gateway.core.pricing import NANO_PER_USD
from sentinel_gateway.core.windows import MILLIS, Window
from sentinel_gateway.errors import HistoryUnavailable, InvalidField, StoreDown
from sentinel_gateway.ports import Clock
from sentinel_gateway.ports.ledger import Windows
from sentinel_gateway.ports.recent import HOUR, HourStats, RecentMetrics, hour_of

AT_HAND: Final = 2
"""Hours that need no ledger."""
NO_LEDGER: Final = (
    "Invalid value for 'hours': more than 2 are told from the ledger, which is off. Set ledger.enabled, or ask for 2."
)
NOT_NOW: Final = "The ledger, which tells of more than 2 hours, can't be read now: ask again, or for 2 hours."

Hours = Mapping[str, HourStats]
"""By their names, oldest first; hours without calls are left out."""


class ProviderHours:
    """`windows` is None where there is no ledger."""

    def __init__(self, recent: RecentMetrics, windows: Windows | None, clock: Clock) -> None:
        self._recent = recent
        self._windows = windows
        self._clock = clock

    def __repr__(self) -> str:
        return f"<ProviderHours {self._recent!r} {self._windows!r}>"

    async def of(self, provider: str, hours: int) -> Hours:
        """Those of one provider. Raises `InvalidField` without a ledger, `HistoryUnavailable` if it can't be asked."""
        if hours <= AT_HAND:
            return await self._recent.get_hourly_stats(provider, hours)
        return (await self._from_ledger(hours, provider)).get(provider, {})

    async def of_all(self, providers: Collection[str], hours: int) -> Mapping[str, Hours]:
        """Those of these providers, or of all that the ledger knows; of those with calls."""
        if hours > AT_HAND:
            return await self._from_ledger(hours, None)
        found = {name: await self._recent.get_hourly_stats(name, hours) for name in providers}
        return {name: stats for name, stats in found.items() if stats}

    async def _from_ledger(self, hours: int, provider: str | None) -> Mapping[str, Hours]:
        if self._windows is None:
            raise InvalidField(NO_LEDGER, param="hours")
        now = int(self._clock())
        try:
            rows = await self._windows.hourly(now // HOUR * HOUR - (hours - 1) * HOUR, now + 1, provider)
        except StoreDown as exc:
            raise HistoryUnavailable(NOT_NOW, retry_after=1.0) from exc
        return await asyncio.to_thread(_by_provider, rows)  # there may be very many


def _by_provider(rows: Iterable[Window]) -> Mapping[str, Hours]:
    found: dict[str, dict[str, HourStats]] = {}
    for row in rows:
        _add(found.setdefault(row.provider, {}).setdefault(hour_of(row.start), HourStats()), row)
    return found


def _add(stats: HourStats, row: Window) -> None:
    """Add a model's hour to its provider's."""
    stats.total_requests += row.decided
    stats.successful_requests += row.successes
    stats.failed_requests += row.failures
    stats.tokens_input += row.prompt_tokens
    stats.tokens_output += row.completion_tokens
    stats.total_cost = round(stats.total_cost + row.cost / NANO_PER_USD, 9)
    stats.latency_ms += row.latency / MILLIS
