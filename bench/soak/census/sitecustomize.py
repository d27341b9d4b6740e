"""On the path of a gateway that is watched: what the garbage collector knows of, counted into a file now and then.

The gateway has no door for that, and shall not have one. What waits to be collected comes and goes by tens of thousands, and
would hide what is kept: so objects are counted once a minute, after a collection, and what that found is told as well. In between
nothing is collected but by the gateway itself, for what waits is memory in use.
"""

import asyncio
import gc
import json
import os
import threading
import time
from collections import Counter
from itertools import count
from pathlib import Path

FILE = "SOAK_CENSUS"
"""Where it is told. A process that has no such variable is not watched."""
EVERY = 10.0
COLLECTS = 6
"""Of so many times it looks, it collects once."""
MOST = 60
"""Kinds that are told, the commonest first."""


def running() -> int:
    """Tasks; those that have ended wait for nobody."""
    return sum(type(one) is asyncio.Task and not one.done() for one in gc.get_objects())


def kept() -> dict[str, object]:
    """The objects that are left when all others are collected."""
    waited = gc.collect()
    kinds = Counter(type(one).__qualname__ for one in gc.get_objects())
    return {"objects": kinds.total(), "waited": waited, "kinds": dict(kinds.most_common(MOST))}


def keep_counting(file: Path) -> None:
    """For as long as the process lives. Whoever reads the file sees the last census or this one, never half of it."""
    told: dict[str, object] = {}
    for number in count():
        if number % COLLECTS == 0:
            told = kept()
        written = file.with_suffix(".new")
        written.write_text(json.dumps(told | {"tasks": running()}))
        written.replace(file)
        time.sleep(EVERY)


if (place := os.environ.get(FILE)) is not None:
    threading.Thread(target=keep_counting, args=(Path(place),), name="census", daemon=True).start()
