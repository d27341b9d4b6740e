"""Buffered recovery, for callers who ask for it (`x-recovery: buffered`): a stream is withheld until its end is here.

One that breaks off on the way has told nobody anything. So the attempt has failed, as if it had before its first word, and the
next is made within the same attempts, patience and retry budget (`core/retrying.py`). The caller is given one answer, of one
target, or an error. What was generated in vain was paid for: it counts for the request, and for its caller's limits.
"""

from collections.abc import Callable
from typing import Final

from sentinel_gateway.pipeline.dispatch import OpenStream
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.relay import Relay

WITHHELD_BYTES: Final = 4 * 1024 * 1024
"""A longer stream is passed on from here as it comes, and ends where it breaks off. Half of what a flight keeps anyway."""


async def withhold(make: Callable[[OpenStream], Relay], journey: Journey, opened: OpenStream) -> Relay:
    """The relay of a stream that has come to its end; raises what it broke off with, once that is accounted for."""
    relay = make(opened)
    try:
        await relay.withhold(WITHHELD_BYTES)
    except BaseException as exc:  # who leaves pays as well
        spent = relay.usage
        # Who leaves leaves behind what was reserved, and that is the input.
        journey.lost += spent.total_tokens if isinstance(exc, Exception) else spent.completion_tokens
        await opened.give_up(spent)
        raise
    return relay
