"""The process from outside: memory, descriptors, threads; and from inside what its census says."""

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

EVERY: Final = 5.0
"""Seconds from one sample to the next."""


class Sample(msgspec.Struct, frozen=True):
    """At one moment, `at` seconds after the first. `resident` in bytes; `objects`, `waited` and `tasks` by the last census."""

    at: float
    resident: int
    descriptors: int
    threads: int
    objects: int
    waited: int
    tasks: int


class Census(msgspec.Struct, frozen=True):
    """What `census/sitecustomize.py` writes: objects that are kept, those that waited to be collected, tasks that run."""

    objects: int
    waited: int
    tasks: int
    kinds: Mapping[str, int]


class Watch:
    """One process."""

    def __init__(self, pid: int, census: Path) -> None:
        self.samples: list[Sample] = []
        self._process = Path("/proc", str(pid))
        self._census = census
        self._began = time.monotonic()

    def __repr__(self) -> str:
        return f"<Watch of {self._process.name}, {len(self.samples)} samples>"

    def census(self) -> Census:
        """The last."""
        return msgspec.json.decode(self._census.read_bytes(), type=Census)

    def look(self) -> Sample:
        """As it is now; not kept."""
        status = dict(line.split(":", 1) for line in (self._process / "status").read_text().splitlines())
        census = self.census()
        return Sample(
            at=time.monotonic() - self._began,
            resident=int(status["VmRSS"].split()[0]) * 1024,
            descriptors=sum(1 for _ in (self._process / "fd").iterdir()),
            threads=int(status["Threads"]),
            objects=census.objects,
            waited=census.waited,
            tasks=census.tasks,
        )

    async def keep_looking(self, told: Callable[[Sample], None]) -> None:
        """Until it is cancelled."""
        while True:
            self.samples.append(self.look())
            told(self.samples[-1])
            await asyncio.sleep(EVERY)
