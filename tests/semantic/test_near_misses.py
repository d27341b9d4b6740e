"""Near misses through the whole gateway and the model that is built in: none is ever served."""

import asyncio
from collections import Counter

import pytest

from bench.chaos import ChaosUpstream
from tests.gateway import chat, one_provider, running_gateway
from tests.guards.near_misses import near_misses, rewordings

pytestmark = pytest.mark.anyio

PAIRS = 5_000
AT_ONCE = 12
SHARDS = 8
"""A test each, so that none takes long."""
EACH_TIME = 1
"""Of them with every run; tests/guards judges all pairs each time, without a gateway."""
ATTEMPTS = 5
"""The embedder may be late on a busy machine; a pair is asked anew then, for only a judged pair says anything."""


async def outcomes(folder, pairs: list[tuple[str, str]], threshold: str) -> Counter[str]:
    """Each pair in a cache of its own: what became of the second question."""
    seen: Counter[str] = Counter()
    async with (
        ChaosUpstream() as upstream,
        running_gateway(folder, config=one_provider(upstream.base_url), semantic=True) as gateway,
    ):

        async def ask(number: int, stored: str, asked: str) -> str:
            for attempt in range(ATTEMPTS):
                own = {"x-cache-namespace": f"{number}-{attempt}"}
                first = await gateway.ask(chat(stored), **own)
                assert first.cache == "miss"
                second = await gateway.ask(chat(asked), **own, **{"x-similarity-threshold": threshold})
                found = second.cache if second.cache != "miss" else second.tiers["sentinel-vector"]["detail"]
                if found != "tier-down":
                    break
            return found

        numbered = list(enumerate(pairs))
        for start in range(0, len(numbered), AT_ONCE):
            seen.update(await asyncio.gather(*(ask(number, *pair) for number, pair in numbered[start : start + AT_ONCE])))
    return seen


@pytest.mark.parametrize("shard", [pytest.param(n, marks=() if n < EACH_TIME else pytest.mark.long) for n in range(SHARDS)])
async def test_5_000_near_misses_none_served(tmp_path, shard):
    """Not even to a caller who asks for the least similarity that there is."""
    pairs = [(found.question, found.near_miss) for found in near_misses()]
    assert len(pairs) >= PAIRS
    some = pairs[shard::SHARDS]
    seen = await outcomes(tmp_path, some, "0.7")
    print(seen)
    assert seen.total() == len(some)
    assert sum(count for reason, count in seen.items() if reason.startswith("guard-")) > len(some) / 2, "few came near enough"
    assert seen["semantic"] == seen["exact"] == seen["tier-down"] == 0


async def test_rewordings_are_served(tmp_path):
    """The same guards and the same model still find what was only said differently."""
    pairs = [(found.question, found.rewording) for found in rewordings()][:300]
    seen = await outcomes(tmp_path, pairs, "0.8")
    assert seen["semantic"] > seen.total() / 2, seen
