"""D12: who floods the embedder delays others' hits by little, and starves nobody: what it cannot do in time is a miss."""

import asyncio
import json
import random
import sys
from pathlib import Path

import pytest

from bench.load import Clients, Message, Report, closed_loop, open_loop
from bench.processes import Process

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
EIGHT_THOUSAND_TOKENS = 6_000
"""Words, of which the tokenizer makes some more tokens."""
WORDS = (
    "harvest",
    "copper",
    "lantern",
    "meadow",
    "quarrel",
    "thimble",
    "orchard",
    "velvet",
    "walnut",
    "yonder",
    "anchor",
    "basil",
)


def chat(text: str) -> bytes:
    return json.dumps({"model": "openai/mock-model", "messages": [{"role": "user", "content": text}]}).encode()


def prose(seed: int, words: int) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words)) + "?"


HIT = Message(chat("What is the capital of France?"))
MESSAGES = 3_000
FLOODS = {"8,000 tokens": (EIGHT_THOUSAND_TOKENS, 0.0), "100 tokens": (90, 0.010)}
"""Words of each question, and the seconds by which it may delay hits where 1.5 times is less: the long ones are D12's own; the
short ones fit the model, which then never rests."""


async def hits(url: str, seconds: float) -> Report:
    return await open_loop(url, lambda _: HIT, Clients(8), rate=100, seconds=seconds)


@pytest.mark.long
@pytest.mark.parametrize("flood", FLOODS)
async def test_exact_hits_hold_while_the_embedder_is_flooded(serve, tmp_path, flood):
    """Three quiet and three flooded stretches in turn; the middle ones are compared."""
    words, grace = FLOODS[flood]
    messages = iter([Message(chat(prose(number, words))) for number in range(MESSAGES)])  # now: later it would delay the hits
    command = (sys.executable, "-m", "bench.chaos", "--keep-calls", "0")
    with Process("mock", command, environment={"PYTHONPATH": str(ROOT)}, directory=tmp_path, core=0) as mock:
        upstream = mock.wait_for_line().split()[-1]
        program = serve(OPENAI_API_KEY="sk-flood", OPENAI_BASE_URL=f"{upstream}/latency_ms=200/v1", LOG_LEVEL="error")
        url = f"{program.base_url}/v1/chat/completions"
        await closed_loop(url, lambda _: HIT, Clients(1), requests=2)
        quiet, flooded, asked = [], [], 0
        for _ in range(3):
            quiet.append((await hits(url, 5)).latency.p99)
            flooding = asyncio.create_task(closed_loop(url, lambda _: next(messages), Clients(16), seconds=6))
            await asyncio.sleep(0.5)
            report = await hits(url, 5)
            flooded.append(report.latency.p99)
            assert report.problems == {}
            drowned = await flooding
            assert drowned.problems == {}
            asked += drowned.good
        metrics = program.request("GET", "/metrics").body.decode()
        program.stop()
    quiet_p99, flooded_p99 = sorted(quiet)[1], sorted(flooded)[1]
    print(f"{flood}: {asked} questions; p99 of hits {quiet_p99 * 1000:.1f} ms quiet, {flooded_p99 * 1000:.1f} ms flooded")
    assert asked > 100
    assert "sentinel_cache_requests_total" in metrics
    assert flooded_p99 <= max(1.5 * quiet_p99, quiet_p99 + grace)
