"""A process that claims keys, keeps every other outcome, and says on stdout what is done, until it is killed."""

import asyncio
import hashlib
import sys
from functools import partial
from pathlib import Path

from sentinel_gateway.core.idempotency import Answered, Claim, Quota
from sentinel_gateway.stores.idempotency import SqliteIdempotency, open_file

NOW = 1_800_000_300.0


def claim_of(number: int, tenant: str = "a") -> Claim:
    mark = hashlib.sha256(b"%b %d" % (tenant.encode(), number)).digest()
    return Claim(mark, hashlib.sha256(mark).digest(), tenant)


def outcome_of(number: int) -> Answered:
    return Answered(b"%d" % number * 100)


async def work(folder: Path) -> None:
    store = SqliteIdempotency(partial(open_file, folder), quota=Quota(keys=1_000_000))
    number = 0
    while True:
        await store.claim(claim_of(number), NOW)
        print(f"claimed {number}", flush=True)
        if number % 2:
            await store.keep(claim_of(number), outcome_of(number))
            print(f"kept {number}", flush=True)
        number += 1


if __name__ == "__main__":
    asyncio.run(work(Path(sys.argv[1])))
