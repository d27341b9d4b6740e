"""C7: two nodes that share a Redis, and nobody is told what was cleared more than a second ago, on whichever node that was.

Questions are asked at both all the while, in several words, the provider takes its time, and everything is cleared again and
again: by tag, by namespace, by model, by who asked, by age, by similarity, or all of it. Some answers live for a second. The
provider marks each answer by who asked, and so by when: an answer that was asked for before a clear, and is served a second
after it, has survived it in memory, in Redis, or on its way there.
"""

import asyncio
import itertools
import json
import random
import re
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.gateway import DEADLINE, Gateway, chat, one_provider, running_gateway
from tests.servers import PATIENT

pytestmark = pytest.mark.anyio

SECRET = "5f2b8c0de1a94f7763b2c9d80e4f1a6b"
MARK = re.compile(r"mock answer (\w+) to")
KNOWN_WITHIN = 1.0
"""Seconds after which a clear holds on all nodes."""
WORKERS = 12
MODELS = ("mock-model", "mock-small")
TOPICS = {
    "red": "How long does an onion soup have to cook?",
    "green": "What is the capital of France?",
    "blue": "Who wrote the novel about the white whale?",
}
"""What is asked about under each tag: similar to nothing that is asked under another."""
SIMILAR = 0.6
WORDINGS = ("{topic} Case {number}.", "Case {number}. {topic}")
NAMESPACES = ("", "elsewhere")
QUESTIONS = 4
LIFETIME = 1
"""Seconds, of some answers."""
OLD = 1.5
THINKING = 0.12
"""Seconds that the provider takes."""
RUNS = [pytest.param(5, 2.0, True, id="some"), pytest.param(118, KNOWN_WITHIN, False, id="two minutes", marks=pytest.mark.long)]
"""Seconds of clears, those after which each holds, and whether it may hold so much later as the machine was slow around it: the
shorter run is for machines that are busy."""


@dataclass(frozen=True)
class Said:
    """One answer: to which question it was, who had asked for it first, and when this one asked and was told."""

    model: str
    tag: str
    namespace: str
    writer: str
    lifetime: float
    mark: str
    asked: float
    told: float
    outcome: str
    tier: str
    is_made: bool
    """For this caller, and not found or shared."""


@dataclass(frozen=True)
class Cleared:
    """A clear: what it was of, and when it began and was done."""

    selector: dict[str, Any]
    begun: float
    done: float

    def covers(self, made: Said) -> bool:
        """Was this answer to go? It had been asked for."""
        chosen, older_than = dict(self.selector), self.selector.get("older_than")
        chosen.pop("older_than", None)
        if older_than is not None and made.told > self.begun - older_than:
            return False
        return made.asked < self.begun and all(getattr(made, what) == value for what, value in chosen.items())


class Crowd:
    """Those who ask, each with one of the `keys`, by their ids; and the one who clears."""

    def __init__(self, nodes: list[Gateway], keys: dict[str, str], seed: int) -> None:
        self._nodes = nodes
        self._keys = keys
        self._chance = random.Random(seed)
        self._numbers = itertools.count()
        self.said: list[Said] = []
        self.cleared: list[Cleared] = []
        self._is_over = False

    async def ask(self) -> None:
        """Who asks stands in `user`, which is no part of any key of ours, and in the provider's mark."""
        chance = self._chance
        model, tag, namespace = chance.choice(MODELS), chance.choice(list(TOPICS)), chance.choice(NAMESPACES)
        writer, lifetime = chance.choice(list(self._keys)), chance.choice([0, 0, 0, LIFETIME])
        text = chance.choice(WORDINGS).format(topic=TOPICS[tag], number=chance.randrange(QUESTIONS))
        body = json.dumps(chat(text, model=model, user=f"caller-{next(self._numbers)}")).encode()
        headers = {"x_cache_tags": tag, "authorization": f"Bearer {self._keys[writer]}"}
        headers |= ({"x_cache_namespace": namespace} if namespace else {}) | ({"x_cache_ttl": str(lifetime)} if lifetime else {})
        asked = time.monotonic()
        answer = await chance.choice(self._nodes).ask(body, **headers)
        assert answer.status == 200, answer.body
        mark = MARK.search(answer.json["choices"][0]["message"]["content"])[1]
        status = answer.headers["cache-status"]
        is_made, tier = answer.cache == "miss" and "collapsed" not in status, status.partition(";")[0]
        what = model, tag, namespace, writer, lifetime or 3600
        self.said.append(Said(*what, mark, asked, time.monotonic(), answer.cache, tier, is_made))

    async def clear(self) -> None:
        chance = self._chance
        model, tag = chance.choice(MODELS), chance.choice(list(TOPICS))
        similar = {"similar_to": TOPICS[tag], "min_similarity": SIMILAR}
        asked, selector = chance.choice(
            [
                ({}, {}),
                ({"tag": tag}, {"tag": tag}),
                ({"namespace": "elsewhere"}, {"namespace": "elsewhere"}),
                ({"model": f"mock/{model}"}, {"model": model}),
                ({"writer": (writer := chance.choice(list(self._keys)))}, {"writer": writer}),
                ({"older_than": OLD}, {"older_than": OLD}),
                (similar, {"tag": tag}),
                (similar | {"namespace": "elsewhere"}, {"tag": tag, "namespace": "elsewhere"}),
            ]
        )
        node, begun = chance.choice(self._nodes), time.monotonic()
        answer = await node.request("POST", "/admin/cache/clear", json=asked, headers=node.admin)
        if answer.status == 200 and "not all" not in answer.json["message"]:  # else Redis was late: it may hold or not
            self.cleared.append(Cleared(selector, begun, time.monotonic()))

    async def go_on(self, seconds: float, known_within: float) -> None:
        """For so long, and until there was enough of everything; then for a while without a clear, so that each is looked at."""
        begun = time.monotonic()
        async with asyncio.timeout(seconds + 2 * DEADLINE), asyncio.TaskGroup() as crowd:
            for _ in range(WORKERS):
                crowd.create_task(self._ask_on())
            while time.monotonic() < begun + seconds or not self.has_seen(seconds):
                await asyncio.sleep(self._chance.uniform(0.3, 0.9))
                await self.clear()
            await asyncio.sleep(known_within + self.slowness(self.cleared[-1], known_within) + 0.5)
            self._is_over = True

    async def _ask_on(self) -> None:
        while not self._is_over:
            await self.ask()

    def slowness(self, clear: Cleared, known_within: float) -> float:
        """Seconds that this machine took at most, beyond what the provider takes, for one of the answers around this clear."""
        end = clear.done + known_within
        around = [said.told - said.asked for said in self.said if said.told > clear.begun and said.asked < end]
        return max(0.0, max(around, default=0.0) - THINKING)

    def has_seen(self, seconds: float) -> bool:
        """Enough clears, and answers of each kind."""
        found = Counter(said.tier if said.outcome == "exact" else said.outcome for said in self.said)
        kinds = ("semantic", "sentinel-redis", "sentinel-memory")
        return len(self.cleared) > seconds / 2 and all(found[kind] > seconds for kind in kinds)

    def survivors(self, known_within: float, *, forgives: bool) -> list[tuple[Said, Said, Cleared | None]]:
        """Answers that were served though a clear should have taken them, or their time was over; as made, and that clear."""
        made = {said.mark: said for said in self.said if said.is_made}
        served = [(said, made[said.mark]) for said in self.said]
        cleared = list[tuple[Said, Said, Cleared | None]]()
        for clear in self.cleared:
            holds = clear.done + known_within + (self.slowness(clear, known_within) if forgives else 0.0)
            cleared += [(said, first, clear) for said, first in served if said.asked > holds and clear.covers(first)]
        return cleared + [(said, first, None) for said, first in served if said.asked > first.told + first.lifetime]


@pytest.mark.parametrize(("seconds", "known_within", "forgives"), RUNS)
async def test_what_was_cleared_on_one_node_is_served_by_none(upstream, tmp_path, redis8, seconds, known_within, forgives):
    redis8.flush()
    upstream.script(f"latency_ms={1000 * THINKING:.0f}", times=1_000_000)
    environ: dict[str, Any] = {
        "REDIS_URL": redis8.url,
        "SENTINEL_SECRET": SECRET,
        "SENTINEL_REPLICAS": "2",
        "SENTINEL_DATA_DIR": str(tmp_path / "shared"),
        "SENTINEL_CACHE__SEMANTIC__THRESHOLD": "0.8",
        **PATIENT,
    }
    async with AsyncExitStack() as running:
        nodes = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            how: dict[str, Any] = {"config": one_provider(upstream.base_url), "environ": environ, "semantic": True}
            nodes.append(await running.enter_async_context(running_gateway(tmp_path / name, **how, alone=name == "one")))
        keys = {}
        for number in range(3):
            asked = {"name": f"key {number}", "tenant": "acme"}
            made = (await nodes[0].request("POST", "/admin/keys", json=asked, headers=nodes[0].admin)).json
            keys[made["id"]] = made["key"]
            await is_known(nodes[1], made["key"])
        crowd = Crowd(nodes, keys, seed=seconds)
        await crowd.go_on(seconds, known_within)
    found = Counter((said.outcome, said.tier) for said in crowd.said)
    print(f"{len(crowd.said)} answers, {len(crowd.cleared)} clears; {dict(found)}")
    assert crowd.survivors(known_within, forgives=forgives) == []


async def is_known(node: Gateway, key: str) -> None:
    """Wait until the node has read this key."""
    async with asyncio.timeout(DEADLINE):
        while (await node.get("/v1/models", headers={"authorization": f"Bearer {key}"})).status != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
