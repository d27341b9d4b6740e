"""Conversations, real ones and made ones: no turn of one is ever answered from another."""

import csv
import gzip
import itertools
from collections import defaultdict
from collections.abc import Iterator
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


async def say(gateway: Gateway, turns: list[dict[str, str]], text: str, **headers: str) -> tuple[str, str]:
    """How the cache took part, and the answer."""
    answer = await gateway.ask({"model": "mock-model", "messages": [*turns, {"role": "user", "content": text}]}, **headers)
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


NEAR = {"x-similarity-threshold": "0.7"}
"""As little as anybody may ask for."""
ELLIPTICAL = [
    ("How does it work?", "How does this work?"),
    ("Who invented it?", "Who was it invented by?"),
    ("How much does it cost?", "What does it cost?"),
    ("What are the disadvantages of it?", "What are its disadvantages?"),
    ("Is it dangerous for children?", "Is that dangerous for children?"),
    ("And in Spain?", "What about in Spain?"),
    ("Can you tell me more about that?", "Tell me more about that."),
    ("Why is that so?", "Why is this so?"),
    ("What about the second one?", "And what about the second one?"),
    ("Are they still made?", "Do they still make them?"),
]
"""Follow-ups that mean nothing without what went before, in two wordings."""
SUBJECTS = [
    "a heat pump",
    "the stock exchange",
    "vaccination",
    "a pressure cooker",
    "the offside rule",
    "a jet engine",
    "carbon dating",
]


def said(*texts: str) -> list[dict[str, str]]:
    """Turns, the user's and the model's by turns."""
    return [{"role": role, "content": text} for role, text in zip(itertools.cycle(("user", "assistant")), texts, strict=False)]


def pasts() -> Iterator[list[dict[str, str]]]:
    """What may have gone before: nothing; a system prompt; a topic; the same topic with another answer, turn or speaker."""
    yield []
    for topic in SUBJECTS:
        yield [{"role": "system", "content": f"You answer questions about {topic}."}]
        yield said(f"What is {topic}?", f"It is {topic}.")
        yield said(f"What is {topic}?", f"It is {topic}!")
        yield said(f"Tell me about {topic}.", f"It is {topic}.")
        yield said(f"What is {topic}?", f"It is {topic}.", "Thanks.", "You are welcome.")
        yield said("Hello.", "Hello.", f"What is {topic}?", f"It is {topic}.")
        yield [*said(f"What is {topic}?"), {"role": "user", "content": f"It is {topic}."}]


async def test_follow_ups_are_answered_within_their_own_past_only(tmp_path):
    """Each past is a conversation of its own. The mock answers what is not the same differently: what crosses is seen."""
    async with (
        ChaosUpstream() as upstream,
        running_gateway(tmp_path, config=one_provider(upstream.base_url), semantic=True) as gateway,
    ):
        heard: dict[str, int] = {}
        reworded = 0
        for number, past in enumerate(pasts()):
            for text, other in ELLIPTICAL:
                cache, content = await say(gateway, past, text, **NEAR)
                assert cache == "miss" or heard[content] == number, f"{text!r} was answered from another conversation"
                assert heard.setdefault(content, number) == number
                cache, content = await say(gateway, past, other, **NEAR)
                assert heard.setdefault(content, number) == number, f"{other!r} was answered from another conversation"
                reworded += cache == "semantic"
    assert number + 1 == 1 + 7 * len(SUBJECTS)
    assert reworded > 2 * (number + 1), (
        "within one conversation other words are hardly ever answered: nothing was put to the test"
    )


@pytest.mark.parametrize("text", [text for text, _ in ELLIPTICAL])
async def test_a_first_turn_that_refers_to_something_unsaid(gateway, text):
    """It is the same question to whoever says nothing before it either, and to nobody else."""
    topic = said("What is a heat pump?", "It moves heat.")
    system = [{"role": "system", "content": "We sell heat pumps."}]
    first = await say(gateway, [], text)
    assert first[0] == "miss"
    for past in (topic, system, [*system, *topic]):
        cache, content = await say(gateway, past, text, **NEAR)
        assert (cache, content != first[1]) == ("miss", True)
    assert await say(gateway, [], text) == ("exact", first[1])


@pytest.fixture(scope="module")
async def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gateway")
    async with (
        ChaosUpstream() as upstream,
        running_gateway(folder, config=one_provider(upstream.base_url), semantic=True) as gateway,
    ):
        yield gateway
