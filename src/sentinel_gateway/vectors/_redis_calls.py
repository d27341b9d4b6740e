"""What an index asks of Redis, a function for each call. The keys of a scope stand in one slot of a cluster."""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from importlib import resources
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from redis.exceptions import NoScriptError, ResponseError

from sentinel_gateway.core.caching import Head

Client = Any
"""A client of redis-py: of one server, or of a cluster."""
T = TypeVar("T")

PREFIX: Final = "sentinel:vectors:1"
"""With the version of what lies below it. Nothing outside of it is ever touched."""
HEADS, WAITING, SET, ENDS = ("heads", "waiting", "set", "ends")
"""The keys of a scope, explained in the script."""

SCRIPT: Final = resources.files("sentinel_gateway.vectors").joinpath("lua/questions.lua").read_text()
SCRIPT_SHA: Final = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
PROBE: Final = """
redis.call("VADD", KEYS[1], "VALUES", 2, 1, 0, "probe", "SETATTR", "x")
redis.call("EXPIRE", KEYS[1], 1)
return redis.call("VSIM", KEYS[1], "ELE", "probe", "WITHATTRIBS")
"""
"""All of vector sets that is needed; Redis 8.2 has it."""

SCANNED: Final = 500
"""Keys of whatever kind that are looked through in one call."""


class Link(Protocol):
    """The way to Redis (`stores/_redis.py`). Calls raise `StoreDown`; those that no request waits for are made patiently."""

    @property
    def works(self) -> bool: ...

    async def call(self, work: Callable[[Client], Awaitable[T]]) -> T: ...

    async def call_patiently(self, work: Callable[[Client], Awaitable[T]]) -> T: ...

    async def close(self) -> None: ...


class Step(NamedTuple):
    """A step of the script, in the scope whose keys begin with `base`. `head` is that of a question to be added."""

    base: str
    arguments: tuple[str | bytes | float, ...]
    head: Head | None = None


async def probe(client: Client, key: str) -> str | None:
    """Why its vector sets can't be used, in its own words; None if they can."""
    try:
        await client.eval(PROBE, 1, key)
    except ResponseError as exc:
        return str(exc)
    return None


async def take_steps(client: Client, steps: Sequence[Step]) -> list[Any]:
    """What each step answers. A server that has never seen the script is given it."""
    try:
        return await _take_steps(client, steps)
    except NoScriptError:
        await client.script_load(SCRIPT)
        return await _take_steps(client, steps)


async def _take_steps(client: Client, steps: Sequence[Step]) -> list[Any]:
    pipe = client.pipeline(transaction=False)
    for base, arguments, _ in steps:
        keys = [base + name for name in (HEADS, WAITING, SET, ENDS)]
        pipe.execute_command("EVALSHA", SCRIPT_SHA, len(keys), *keys, *arguments)
    answers: list[Any] = await pipe.execute()
    return answers


async def search(client: Client, base: str, vector: bytes, *, count: int, effort: int) -> list[tuple[bytes, bytes | None]]:
    """Near questions with a vector: key and value, nearly always the nearest, nearly in order."""
    found = await client.execute_command("VSIM", base + SET, "FP32", vector, "COUNT", count, "EF", effort, "WITHATTRIBS")
    return list(zip(found[::2], found[1::2], strict=True))


async def servers(client: Client) -> list[Any]:
    """Those that hold keys; each can be asked by itself."""
    await client.initialize()
    return list(client.get_primaries()) if hasattr(client, "get_primaries") else [client]


async def scan(_: Client, server: Any, ours: str, cursor: int) -> tuple[int, list[bytes]]:
    """The next cursor, 0 after the last; some keys of ours under which questions are kept: those that wait, or have a vector."""
    cursor, keys = await server.execute_command("SCAN", cursor, "MATCH", f"{ours}*", "COUNT", SCANNED)
    return int(cursor), [key for key in keys if key.endswith((f":{HEADS}".encode(), f":{ENDS}".encode()))]


async def wipe(client: Client, bases: Sequence[str]) -> int:
    """Remove all questions of these scopes; how many."""
    pipe = client.pipeline(transaction=False)
    for base in bases:
        pipe.execute_command("HLEN", base + HEADS)
        pipe.execute_command("VCARD", base + SET)
        pipe.execute_command("UNLINK", *(base + name for name in (HEADS, WAITING, SET, ENDS)))
    answers: list[int] = await pipe.execute()
    return sum(answers[0::3]) + sum(answers[1::3])
