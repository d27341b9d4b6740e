"""A script that Redis carries out as one step."""

import hashlib
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any, TypeVar

from redis.exceptions import NoScriptError

from sentinel_gateway.stores._redis import Client, RedisLink

T = TypeVar("T")


class Script:
    """One of `lua/*.lua`, carried out by name; a server that does not have it is given its text."""

    def __init__(self, name: str) -> None:
        self._text = resources.files(__package__).joinpath(f"lua/{name}.lua").read_text("utf-8")
        self._digest = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()  # what Redis calls it

    async def run(
        self, link: RedisLink, keys: Sequence[str], arguments: Sequence[bytes | str | int], read: Callable[[Any], T]
    ) -> T:
        """What `read` makes of its answer. All keys are in one hash slot. Raises `StoreDown`.

        An answer of which `read` makes nothing, so that it raises, is as bad as none: the server has gone mad.
        """

        async def work(client: Client) -> T:
            try:
                answer = await client.evalsha(self._digest, len(keys), *keys, *arguments)
            except NoScriptError:
                answer = await client.eval(self._text, len(keys), *keys, *arguments)
            return read(answer)

        return await link.call(work)
