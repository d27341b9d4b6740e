"""A process that writes to the disk tier and says on stdout how far it is committed, until it is killed."""

import asyncio
import hashlib
import sys
from pathlib import Path

from sentinel_gateway.core.caching import Entry
from sentinel_gateway.stores.sqlite import SqliteLimits, SqliteStore

NOW = 1_800_000_300.0
STEP = 40
MODEL = "mini"


def entry_of(number: int) -> Entry:
    """Each entry's members follow from its number, so a mixed one would show. Two of three answer a question."""
    key = hashlib.sha256(b"%d" % number).hexdigest()
    body = key.encode() * (number % 60)
    return Entry(
        key=key,
        body=body,
        model="a/b",
        created=NOW,
        expires=NOW + 3600,
        prompt_tokens=number,
        tags=(f"tag-{number % 7}",),
        scope="s" if number % 3 else "",
        text=f"What is {number}?" if number % 3 else "",
    )


def vector_of(key: str) -> bytes:
    """The vector of an entry's question follows from its key."""
    return hashlib.shake_128(key.encode()).digest(1536)


async def write(folder: Path, number: int) -> None:
    store = await SqliteStore.open(folder, limits=SqliteLimits(), clock=lambda: NOW, on_event=lambda event, **_: print(event))
    while True:
        for n in range(number, number + STEP):
            store.put(entry_of(n))
        keys = [entry_of(n).key for n in range(number, number + STEP)]
        store.keep_vectors([(key, vector_of(key)) for key in keys], model=MODEL)
        await store.flush()
        number += STEP
        print(number, flush=True)


if __name__ == "__main__":
    asyncio.run(write(Path(sys.argv[1]), int(sys.argv[2])))
