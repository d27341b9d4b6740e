"""A process that writes to the disk tier and says on stdout how far it is committed, until it is killed."""

import asyncio
import hashlib
import sys
from pathlib import Path

from sentinel_gateway.core.caching import Entry
from sentinel_gateway.stores.sqlite import SqliteLimits, SqliteStore

NOW = 1_800_000_300.0
STEP = 40


def entry_of(number: int) -> Entry:
    """Each entry's members follow from its number, so a mixed one would show."""
    key = hashlib.sha256(b"%d" % number).hexdigest()
    body = key.encode() * (number % 60)
    return Entry(
        key=key, body=body, model="a/b", created=NOW, expires=NOW + 3600, prompt_tokens=number, tags=(f"tag-{number % 7}",)
    )


async def write(folder: Path, number: int) -> None:
    store = await SqliteStore.open(folder, limits=SqliteLimits(), clock=lambda: NOW, on_event=lambda event, **_: print(event))
    while True:
        for n in range(number, number + STEP):
            store.put(entry_of(n))
        await store.flush()
        number += STEP
        print(number, flush=True)


if __name__ == "__main__":
    asyncio.run(write(Path(sys.argv[1]), int(sys.argv[2])))
