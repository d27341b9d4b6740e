"""Streams of questions whose true answers are known, drawn from public data sets; `bench/README.md` says where they come from.

Two questions may share an answer if they have the same one; a question without any may never be answered from the cache. The same
seed draws the same stream.
"""

import gzip
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from sentinel_gateway.core.identity import question
from sentinel_gateway.evaluation.replay import Request

CLUSTERED: Final = 20_000
SINGLE: Final = 8_000
BLOCK: Final = 8
"""Answers that are asked for at the same time where a stream drifts."""
OUT_OF_SCOPE: Final = "oos"


class Questions(NamedTuple):
    """Texts, each once, with their answers."""

    texts: list[str]
    answers: list[str | None]

    @classmethod
    def of(cls, answers: Mapping[str, str | None]) -> "Questions":
        return cls(list(answers), list(answers.values()))


def rows(data: Path, name: str) -> list[dict[str, str]]:
    """A set as it lies in `data`: one folder each, one TSV with a header line. Raises OSError where there is none."""
    (path,) = sorted((data / name).glob("*.tsv.gz")) or [data / name / "*.tsv.gz"]
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = (line.removesuffix("\n").split("\t") for line in file)
        names = next(lines)
        return [dict(zip(names, line, strict=True)) for line in lines]


def intents(data: Path, name: str) -> Questions:
    """BANKING77 and CLINC150: one canned answer for each intent."""
    found = {row["text"]: None if row["intent"] == OUT_OF_SCOPE else row["intent"] for row in rows(data, name)}
    return Questions.of(found)


def duplicates(data: Path) -> Questions:
    """QQP: what is linked by "duplicate" has one answer. Questions of clusters of two and more, and some that stand alone."""
    above: dict[str, str] = {}
    for row in rows(data, "qqp80k"):
        a, b = (_root(above, row[side]) for side in ("text_a", "text_b"))
        if row["label"] == "1":
            above[a] = b
    roots = {text: _root(above, text) for text in above}
    sizes = Counter(roots.values())
    order = sorted(roots)
    random.Random(0).shuffle(order)
    clustered = [text for text in order if sizes[roots[text]] > 1][:CLUSTERED]
    single = [text for text in order if sizes[roots[text]] == 1][:SINGLE]
    return Questions.of({text: roots[text] for text in clustered + single})


def _root(above: dict[str, str], text: str) -> str:
    above.setdefault(text, text)
    while above[text] != text:
        above[text] = above[above[text]]
        text = above[text]
    return text


def shuffled(asked: Questions, seed: int) -> list[Request]:
    """Each question once, in any order."""
    stream = [Request(number, answer) for number, answer in enumerate(asked.answers)]
    random.Random(seed).shuffle(stream)
    return stream


def repeated(asked: Questions, background: Sequence[int], seed: int) -> list[Request]:
    """As many requests as there are questions, their popularity after Zipf; three in ten are of the background, each another."""
    chance = random.Random(seed)
    order = list(range(len(asked.texts)))
    chance.shuffle(order)
    popular = chance.choices(order, [1.0 / (rank + 10) for rank in range(len(order))], k=len(order))
    others = iter(chance.sample(background, len(background)))
    stream = [Request(number, asked.answers[number]) for number in popular]
    return [Request(next(others), None) if chance.random() < 0.3 else request for request in stream]  # noqa: PLR2004


def drifting(asked: Questions, seed: int) -> list[Request]:
    """The answers that are asked for change from block to block."""
    chance = random.Random(seed)
    names = sorted({answer for answer in asked.answers if answer is not None})
    chance.shuffle(names)
    block = {name: place // BLOCK for place, name in enumerate(names)}
    stream = shuffled(asked, seed)
    return sorted(stream, key=lambda request: block.get(request.answer or "", 0))


def clashing(asked: Questions, seed: int) -> list[Request]:
    """Two tenants ask the same and are answered differently. Scopes are those of the gateway."""
    both = [
        Request(request.text, f"{tenant}: {request.answer}", scope_of([asked.texts[request.text]], tenant), tenant)
        for tenant in ("a", "b")
        for request in shuffled(asked, seed)
    ]
    random.Random(seed).shuffle(both)
    return both


class Search(NamedTuple):
    """What people searched for, and how many of a hundred did so in one place on one day, as far as it is told."""

    text: str
    popularity: int


def searches(data: Path) -> list[Search]:
    """Bing's coronavirus queries, day by day. No two are known to want the same."""
    found = [(row["Date"], Search(row["Query"], int(row["PopularityScore"]))) for row in rows(data, "bing-coronavirus-2020-01")]
    return [search for _, search in sorted(found, key=lambda dated: dated[0])]


def popular(found: Sequence[Search], number: Mapping[str, int], seed: int) -> list[Request]:
    """As many requests as there are searches, drawn by popularity, in the order of their days."""
    chance = random.Random(seed)
    drawn = sorted(chance.choices(range(len(found)), [search.popularity for search in found], k=len(found)))
    return [Request(number[found[place].text], None) for place in drawn]


class Talk(NamedTuple):
    """A conversation: what was said, turn by turn, and what was meant."""

    said: list[str]
    meant: list[str]


def talks(data: Path) -> list[Talk]:
    """TREC CAsT."""
    found: dict[tuple[str, str], Talk] = defaultdict(lambda: Talk([], []))
    for row in rows(data, "trec-cast-multiturn"):
        talk = found[row["year"], row["conversation"]]
        talk.said.append(row["raw_utterance"])
        talk.meant.append(row["resolved_utterance"])
    return list(found.values())


def conversations(found: Iterable[Talk], number: Mapping[str, int], seed: int, *, scoped: bool) -> list[Request]:
    """Turn by turn, as clients send them. Unless `scoped`, only the last message counts, as in caches that look at no more."""
    shuffled_talks = list(found)
    random.Random(seed).shuffle(shuffled_talks)
    return [
        Request(number[text], talk.meant[turn].lower(), scope_of(talk.said[: turn + 1], "") if scoped else "")
        for talk in shuffled_talks
        for turn, text in enumerate(talk.said)
    ]


def scope_of(turns: Sequence[str], tenant: str) -> str:
    """Of a user's last turn, by the gateway's own rule; what the assistant said between is a stand-in."""
    *earlier, last = turns
    messages = [
        message
        for text in earlier
        for message in ({"role": "user", "content": text}, {"role": "assistant", "content": f"({text})"})
    ]
    found = question(
        {"messages": [*messages, {"role": "user", "content": last}]}, face="openai", targets=["m/m"], tenant=tenant, namespace=""
    )
    return found if isinstance(found, str) else found.scope
