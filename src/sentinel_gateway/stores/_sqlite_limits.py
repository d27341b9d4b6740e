"""What the disk tier may take, in bytes, entries and seconds."""

import msgspec


class SqliteLimits(msgspec.Struct, frozen=True):
    """Times in seconds."""

    max_bytes: int = 1 << 30
    """Of the file; its log may take 16 MiB more."""
    deadline: float = 0.05
    """For a look-up, and for `ping`."""
    short_deadline: float = 1.0
    """For `count`, and until a disk that is busy is told from one that is frozen.

    And for the first opening: after it the gateway starts without the disk, which is tried again and again.
    """
    long_deadline: float = 10.0
    """For what may have much to do: `clear`, `flush` and `close`."""
    stale: float = 0.0
    """For so long what has expired is kept: it may still serve if every target fails."""
    queue_entries: int = 4096
    queue_bytes: int = 32 << 20
    failures: int = 5
    """So many look-ups failed in a row, and for `pause` none is tried."""
    pause: float = 5.0
    """Also: writing is said to work again after so long without a failure. A disk on the brink would tell with each batch."""
