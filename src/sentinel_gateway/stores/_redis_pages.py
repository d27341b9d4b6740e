"""The shared tier looked through for whoever administrates, by the index that counts it: no SCAN, and a few keys at a time."""

import math
from collections.abc import Callable, Iterable
from typing import Any, Final

from msgspec.structs import replace

from sentinel_gateway.core.browsing import FOREVER, Page, Place, View
from sentinel_gateway.core.caching import Head
from sentinel_gateway.stores._redis import Client, has_answered
from sentinel_gateway.stores._redis_values import head_end, read_head, read_text

LOOKED_AT: Final = 64
"""Keys looked at together: some 2 ms of the event loop, and less of Redis'."""
LOOKS: Final = 4
"""So often for one page."""
HEAD_BYTES: Final = 2048
"""More than nearly every head has; the rest of a longer one is asked for."""
TEXT_BYTES: Final = 8192
"""More than a head and its question have, but for the very longest: those are shown without it."""


async def page(client: Client, index: bytes, view: View, now: float, *, after: Place | None, most: int) -> Page:
    """Entries of the view by their expiry, behind that place. Their questions are told without proof.

    Names whose values Redis has evicted, or that are none of ours, are left out.
    """
    found: list[Head] = []
    rank = await _rank(client, index, view, now, after)
    for _ in range(LOOKS):
        named: Any = await client.zrange(index, rank, rank + LOOKED_AT - 1, desc=not view.rising, withscores=True)
        heads = await heads_of(client, [name for name, _ in named], at_least=TEXT_BYTES)
        for name, score in named:
            if view.state == "pinned" and not view.rising and score < FOREVER:
                return Page(tuple(found))
            after = Place(score, name.decode("utf-8", "surrogateescape"))
            head = heads[name]
            if head is not None and view.matches(head, now):
                found.append(head)
                if len(found) == most:
                    return Page(tuple(found), after)
        if len(named) < LOOKED_AT:
            return Page(tuple(found))
        rank += LOOKED_AT
    return Page(tuple(found), after)


async def _rank(client: Client, index: bytes, view: View, now: float, after: Place | None) -> int:
    """Of the first name behind that place. Where the name has gone meanwhile, those follow that would have followed it."""
    if after is None:
        return await _below(client, index, _lowest(view, now)) if view.rising else 0
    rank_of: Callable[..., Any] = client.zrank if view.rising else client.zrevrank
    rank = await rank_of(index, after.mark.encode("utf-8", "surrogateescape"))
    if rank is not None:
        return int(rank) + 1
    return await (_below if view.rising else _above)(client, index, after.at)


def _lowest(view: View, now: float) -> float:
    """No entry of the view is forgotten earlier than that."""
    match view.state:
        case "live":
            return now
        case "pinned":
            return FOREVER
        case _:
            return -math.inf


async def _below(client: Client, index: bytes, score: float) -> int:
    return int(await client.zcount(index, "-inf", f"({score!r}"))


async def _above(client: Client, index: bytes, score: float) -> int:
    return int(await client.zcount(index, f"({score!r}", "+inf"))


async def heads_of(client: Client, names: Iterable[bytes], *, at_least: int = HEAD_BYTES) -> dict[bytes, Head | None]:
    """What stands under these names, without proof; None where it is nothing of ours, or nothing at all.

    Questions are among it where the bytes suffice.
    """
    starts = await _starts(client, dict.fromkeys(names, at_least))
    longer = {name: head_end(start) for name, start in starts.items() if len(start) == at_least < head_end(start)}
    starts |= await _starts(client, longer)
    return {name: _read(start) for name, start in starts.items()}


def _read(start: bytes) -> Head | None:
    head = read_head(start)
    return None if head is None else replace(head, text=read_text(start) or "")


async def _starts(client: Client, lengths: dict[bytes, int]) -> dict[bytes, bytes]:
    """The first bytes of values; none of what is no string."""
    if not lengths:
        return {}
    pipe = client.pipeline(transaction=False)
    for name, length in lengths.items():
        pipe.getrange(name, 0, length - 1)
    found = await pipe.execute(raise_on_error=False)
    for start in found:
        if isinstance(start, Exception) and not has_answered(start):
            raise start
    return {name: start if isinstance(start, bytes) else b"" for name, start in zip(lengths, found, strict=True)}


async def existing(client: Client, names: list[bytes]) -> list[bytes]:
    """Those that there are, be they strings or not."""
    if not names:
        return []
    pipe = client.pipeline(transaction=False)
    for name in names:
        pipe.execute_command("EXISTS", name)  # pipe.exists() of a cluster is something else
    told = await pipe.execute()
    return [name for name, there in zip(names, told, strict=True) if there]
