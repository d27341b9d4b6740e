"""Pairs of questions that try the guards, and pairs of public sets: how many a gateway serves, each in a cache of its own."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sentinel_gateway import rules
from sentinel_gateway.evaluation import streams, traps
from sentinel_gateway.evaluation.corpus import Corpus
from sentinel_gateway.evaluation.policies import Fixed, Guards, Sentinel, Terms
from sentinel_gateway.evaluation.traps import Pair, Served
from sentinel_gateway.settings.model import Settings
from tests.guards.near_misses import near_misses, rewordings

if TYPE_CHECKING:
    from sentinel_gateway.evaluation.replay import Asked

MOST: Final = 1_000
"""Pairs of a public set, evenly: these tell how it does elsewhere, and are no bar."""
GENERATED: Final = frozenset({"number", "number-word", "negation"})
NAMED: Final = ("NER: Change", "NER: same adjectives, different people")
"""How CheckList's tests of names and places begin."""
TRAPS: Final = "hand-made traps"


def sets(data: Path) -> dict[str, list[Pair]]:
    """By what the report calls them."""
    made = [Pair(found.kind, found.question, found.near_miss, same=False) for found in near_misses()]
    made += [Pair("rewording", found.question, found.rewording, same=True) for found in rewordings()]
    checklist = [
        Pair(f"{row['capability']}: {row['test']}", row["text_a"], row["text_b"], same=row["label"] == "1")
        for row in streams.rows(data, "checklist-qqp")
    ]
    gated = [
        Pair(row["category"], row["cached_query"], row["probe_query"], same=row["label"] == "1")
        for row in streams.rows(data, "gated-adversarial")
    ]
    return {"generated": made, "CheckList": checklist, TRAPS: gated, "other public pairs": list(_public(data))}


def _public(data: Path) -> Iterator[Pair]:
    labelled = (
        ("GPTCache's own", "gptcache-mock", "text_a", "text_b"),
        ("Korean questions", "korean-question-pair", "text_a", "text_b"),
        ("PAWS-Wiki in Indonesian", "paws-wiki-indonesian", "text_a", "text_b"),
        ("QQP, balanced", "qqp-bimpm-split", "text_a", "text_b"),
    )
    for kind, name, stored, asked in labelled:
        for row in _evenly(streams.rows(data, name)):
            yield Pair(kind, row[stored], row[asked], same=row["label"] == "1")
    for row in _evenly(streams.rows(data, "disfl-qa")):
        yield Pair("Disfl-QA, spoken", row["original"], row["disfluent"], same=True)
    for row in _evenly([row for row in streams.rows(data, "sick") if row["entailment"] == "CONTRADICTION"]):
        yield Pair("SICK, contradictions", row["text_a"], row["text_b"], same=False)


def _evenly(rows: Sequence[dict[str, str]]) -> Sequence[dict[str, str]]:
    return rows[:: max(1, len(rows) // MOST)][:MOST]


def tables(found: Mapping[str, list[Pair]], cache: Path, learned: Sentinel) -> Iterator[str]:
    """A line for each kind: fixed rules, a gateway that has learned nothing, and one that has learned from S1 alone."""
    for name, some in found.items():
        columns = measured(some, cache, learned)
        yield from ("", f"### {name}", "", f"| kind | pairs | {' | '.join(columns)} |")
        yield f"| --- | --- | {' | '.join('---' for _ in columns)} |"
        first = next(iter(columns.values()))
        kinds = sorted(first, key=lambda key: (key[1], key[0]))
        for kind, same in kinds:
            shares = [f"{100 * column[kind, same].rate:.1f} %" for column in columns.values()]
            yield f"| {kind} ({_verdict(same=same)}) | {first[kind, same].pairs} | {' | '.join(shares)} |"
        for same in sorted({same for _, same in kinds}):
            sums = [_sum(column, same=same) for column in columns.values()]
            shown = " | ".join(f"{told.served} ({100 * told.rate:.2f} %)" for told in sums)
            yield f"| **all that {_verdict(same=same)}** | {sums[0].pairs} | {shown} |"
        yield from _bar(name, columns)


def measured(some: Sequence[Pair], cache: Path, learned: Sentinel) -> dict[str, dict[tuple[str, bool], Served]]:
    """By rule, kind and truth."""
    corpus = Corpus.of([text for pair in some for text in (pair.stored, pair.asked)], cache, rank=False)
    guards, bounds = Guards(corpus.texts), rules.bound_rules(Settings())
    new = Sentinel(corpus.texts, guards, Terms.of(Settings(), budget=learned.budget))
    ways: dict[str, Callable[[Asked], bool]] = {
        "cosine 0.85": Fixed(0.85).serves,
        "cosine 0.95": Fixed(0.95).serves,
        "guards, cosine 0.7": Fixed(0.7, guards=guards).serves,
        "Sentinel, new": new.serves,
        "Sentinel after S1": learned.transferred(corpus.texts, guards).serves,
    }
    return {way: traps.try_pairs(some, corpus, serves, bounds) for way, serves in ways.items()}


def _verdict(*, same: bool) -> str:
    return "may serve" if same else "must not"


def _sum(column: Mapping[tuple[str, bool], Served], *, same: bool, kinds: Callable[[str], bool] = bool) -> Served:
    some = [told for (kind, truth), told in column.items() if truth == same and kinds(kind)]
    return Served(sum(told.pairs for told in some), sum(told.served for told in some))


def _bar(name: str, columns: Mapping[str, Mapping[tuple[str, bool], Served]]) -> Iterator[str]:
    """What decision 11 of the project asks of these pairs, at the worst of Sentinel's columns."""
    ours = [column for way, column in columns.items() if way.startswith("Sentinel")]
    barred: dict[str, tuple[Callable[[str], bool], str]] = {
        "generated": (GENERATED.__contains__, "number and negation pairs"),
        "CheckList": (lambda kind: kind.startswith(NAMED), "names and places"),
        TRAPS: (bool, "traps"),
    }
    if name not in barred:
        return
    kinds, what = barred[name]
    worst = max((_sum(column, same=False, kinds=kinds) for column in ours), key=lambda told: told.rate)
    most = "none" if name == TRAPS else "1 %"
    yield from (
        "",
        f"Bar: {worst.served} of {worst.pairs} {what} served wrongly at worst ({100 * worst.rate:.2f} %; bar: {most}).",
    )
