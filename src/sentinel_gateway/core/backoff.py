"""Who tries wrong keys, and how often: guessing one takes for ever anyway, but each try costs us a hash and a line of the log."""

import ipaddress
from typing import Final

IPV6_NETWORK: Final = 64
"""Bits. Whoever has one IPv6 address has at least this many."""


class Backoff:
    """Each address may fail `burst` times at once, and once more every `pause` seconds.

    At most `addresses` are remembered, the one that failed longest ago is forgotten first.
    """

    __slots__ = ("_addresses", "_burst", "_free_at", "_pause")

    def __init__(self, *, burst: int, pause: float, addresses: int) -> None:
        self._burst = burst
        self._pause = pause
        self._addresses = addresses
        self._free_at: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._free_at)

    def __repr__(self) -> str:
        return f"<Backoff {len(self)} of {self._addresses} addresses>"

    def wait(self, address: str, now: float) -> float:
        """Seconds until this address may fail once more; 0 if it may now. Counts nothing."""
        free_at = self._free_at.get(_source(address), now)
        return max(free_at - now - (self._burst - 1) * self._pause, 0.0)

    def failed(self, address: str, now: float) -> float:
        """Count a failure; seconds until this address may fail again, 0 if this one was within its measure."""
        wait = self.wait(address, now)
        source = _source(address)
        free_at = max(self._free_at.pop(source, now), now)
        self._free_at[source] = free_at if wait else free_at + self._pause
        if len(self._free_at) > self._addresses:
            del self._free_at[next(iter(self._free_at))]
        return wait


def _source(address: str) -> str:
    """The address, or the network of an IPv6 address."""
    if ":" not in address:
        return address
    try:
        network = ipaddress.ip_network((address, IPV6_NETWORK), strict=False)
    except ValueError:
        return address
    return str(network)
