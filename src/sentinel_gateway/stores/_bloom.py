"""A Bloom filter: what was never added is told in half a microsecond, nearly always, and what was added is never denied."""

from collections.abc import Collection


class BloomFilter:
    """A set of 64-bit hashes, signed or not, in `size` bytes (a power of two), that may say yes in error and never no.

    Each hash sets two bits, one by each of its halves: with 33 bits a hash one strange hash in 300 is taken for a member, with
    more bits for each a third would cost more than it saves.
    """

    def __init__(self, size: int) -> None:
        self._bits = bytearray(size)
        self._mask = size * 8 - 1
        self.added = 0
        """Hashes, one as often as it was added."""

    def add(self, hashes: Collection[int]) -> None:
        bits, mask = self._bits, self._mask
        for hashed in hashes:
            first, second = hashed & mask, hashed >> 32 & mask
            bits[first >> 3] |= 1 << (first & 7)
            bits[second >> 3] |= 1 << (second & 7)
        self.added += len(hashes)

    def __contains__(self, hashed: int) -> bool:
        bits, mask = self._bits, self._mask
        first, second = hashed & mask, hashed >> 32 & mask
        return bool(bits[first >> 3] >> (first & 7) & bits[second >> 3] >> (second & 7) & 1)

    def __repr__(self) -> str:
        return f"<BloomFilter {self.added} in {len(self._bits)} bytes>"
