"""I1: look-ups that are cancelled wherever they just are, through a proxy that delays; the next must never be told their answers.

`storm` takes any way to look a key up. As a program, `python storm.py PORT CALLS`, it tries the plain client of whatever redis-py
is installed there: 4.5.1, with which this happened in public, gives others' answers.
"""

import asyncio
import random
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

KEYS = 500
CANCELLED = 0.2

LookUp = Callable[[str], Awaitable[object]]
"""The value of a key: itself, and something more. An error is no answer, so it is no wrong one."""


def key(number: int) -> str:
    return f"key-{number:03}"


def value(key: str) -> str:
    """What is to be stored under a key: it says whose it is."""
    return f"the value of {key} " * 20


async def storm(look_up: LookUp, *, calls: int, longest: float, at_once: int = 64) -> Counter[str]:
    """What came of so many look-ups: right, wrong, cancelled, or the name of an error.

    One in five is cancelled, at a moment within `longest` seconds.
    """
    chance, came, numbers = random.Random(calls), Counter[str](), iter(range(calls))

    async def one(wanted: str) -> str:
        try:
            found = await look_up(wanted)
        except Exception as exc:  # noqa: BLE001 - an error of any kind is told by its name
            return type(exc).__name__
        return "right" if found == value(wanted) else "missing" if found is None else "wrong"

    async def ask() -> None:
        for _ in numbers:
            asking = asyncio.create_task(one(key(chance.randrange(KEYS))))
            if chance.random() < CANCELLED:
                await asyncio.sleep(chance.random() * longest)
                asking.cancel()
            await asyncio.wait({asking})
            came["cancelled" if asking.cancelled() else asking.result()] += 1

    await asyncio.gather(*(ask() for _ in range(at_once)))
    return came


async def plain(port: int, calls: int) -> Counter[str]:
    """The storm on the plain client of this environment."""
    from redis.asyncio import Redis  # noqa: PLC0415 - of whatever version

    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tests.faults.proxy import Fault, FaultProxy  # noqa: PLC0415

    async with FaultProxy(port) as proxy:
        client = Redis(port=proxy.port, decode_responses=True)
        await client.mset({key(number): value(key(number)) for number in range(KEYS)})
        proxy.answers.fault = Fault(jitter=0.1)
        came = await storm(client.get, calls=calls, longest=0.1)
        await client.connection_pool.disconnect()
    assert proxy.did["delayed"] > calls / 2
    return came


if __name__ == "__main__":
    print(dict(asyncio.run(plain(int(sys.argv[1]), int(sys.argv[2])))))
