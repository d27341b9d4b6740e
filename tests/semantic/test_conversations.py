"""Real conversations: no turn of one is ever answered from another."""

import csv
import gzip
from collections import defaultdict
from pathlib import Path

import pytest

from bench.chaos import ChaosUpstream
from tests.gateway import Gateway, one_provider, running_gateway

pytestmark = pytest.mark.anyio

TOPICS = Path(__file__).parent / "data" / "cast_2019_2022.tsv.gz"


def conversations() -> list[list[str]]:
    """What the users said, turn by turn."""
    said = defaultdict(list)
    with gzip.open(TOPICS, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            said[row["year"], row["conversation"]].append(row["raw_utterance"])
    return list(said.values())


async def say(gateway: Gateway, turns: list[dict[str, str]], text: str) -> tuple[str, str]:
    """How the cache took part, and the answer."""
    answer = await gateway.ask({"model": "mock-model", "messages": [*turns, {"role": "user", "content": text}]})
    return answer.cache, answer.json["choices"][0]["message"]["content"]


async def test_no_answer_crosses_a_conversation(tmp_path):
    """Sent as clients send them, with all that was said before. The very same turns alone do match across conversations."""
    talks = conversations()
    crossed, alone = [], []
    async with (
        ChaosUpstream() as upstream,
        running_gateway(tmp_path, config=one_provider(upstream.base_url), semantic=True) as gateway,
    ):
        for talk in talks:
            turns: list[dict[str, str]] = []
            for text in talk:
                cache, content = await say(gateway, turns, text)
                if turns and cache != "miss":
                    crossed.append(text)
                turns += [{"role": "user", "content": text}, {"role": "assistant", "content": content}]
        for talk in talks:
            for text in talk[1:]:
                cache, _ = await say(gateway, [{"role": "system", "content": "Turns without their past."}], text)
                if cache != "miss":
                    alone.append(text)
    assert sum(map(len, talks)) > 600
    assert len(alone) > 5, "these conversations put nothing to the test"
    assert crossed == []
