"""What the semantic tier does with questions whose answers are known: `python -m bench.evaluation --data DIR`.

`DIR` holds the public sets that `bench/README.md` lists. Vectors are made once and kept in `--cache`. All rules see the same
streams, vectors and judge; a run is the same every time.
"""

import argparse
import datetime as dt
import platform
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from sentinel_gateway.evaluation import streams, traps
from sentinel_gateway.evaluation.corpus import Corpus
from sentinel_gateway.evaluation.policies import Fixed, Guards, Sentinel, cosine_and_overlap
from sentinel_gateway.evaluation.replay import Policy, Request, ideal, replay
from sentinel_gateway.evaluation.tally import Tally
from sentinel_gateway.evaluation.vcache import VCache
from tests.guards.near_misses import near_misses, rewordings

BUDGET: Final = 0.01
NOISES: Final = (0.0, 0.02, 0.05, 0.1)
FIXED: Final = ((0.6, "GPTCache"), (0.8, "LiteLLM, Bifrost"), (0.85, ""), (0.9, "RedisVL"), (0.95, "Portkey, Upstash"))
HINDSIGHT: Final = [least / 100 for least in range(60, 100)]
BACKGROUND: Final = 4_000
PARTS: Final = ("S1", "S2", "S3", "S5", "S6", "S7", "S8", "pairs")
COLUMNS: Final = (
    "rule",
    "judge errs",
    "hits",
    "error",
    "per hit",
    "windows above 1 %",
    "first 1,000",
    "second half: hits @ error",
    "judged per 1,000",
    "ECE",
)


class Scene(NamedTuple):
    """A stream to be drawn for a seed. `full`: with all rules, seeds and noises, else only with Sentinel's at its first noise."""

    name: str
    corpus: Corpus
    draw: Callable[[int], list[Request]]
    full: bool = True


class Run(NamedTuple):
    """One rule over one stream. `learns`: it hears the judge, so that noise matters to it."""

    rule: str
    seed: int
    noise: float
    tally: Tally


def scenes(data: Path, cache: Path, only: Collection[str]) -> Iterator[Scene]:
    """Those asked for, one after the other, for each takes memory."""
    if {"S1", "S5", "S6", "S7", "pairs"} & set(only):
        banking = streams.intents(data, "banking77")
        web = streams.rows(data, "real-queries-trec-msmarco")
        other = [row["query"] for row in web if row["set"] == "trec-mq"][:BACKGROUND]
        corpus = Corpus.of([*banking.texts, *other], cache)
        background = range(len(banking.texts), len(corpus.texts))
        yield Scene("S1 BANKING77", corpus, partial(streams.shuffled, banking))
        yield Scene(
            "S5 BANKING77 by Zipf, 30 % other traffic", corpus, partial(streams.repeated, banking, background), full=False
        )
        yield Scene("S6 BANKING77 in blocks of eight intents", corpus, partial(streams.drifting, banking), full=False)
        yield Scene("S7 two tenants, clashing answers", corpus, partial(streams.clashing, banking), full=False)
    if "S2" in only:
        clinc = streams.intents(data, "clinc150")
        yield Scene("S2 CLINC150 with out-of-scope", Corpus.of(clinc.texts, cache), partial(streams.shuffled, clinc))
    if "S3" in only:
        qqp = streams.duplicates(data)
        yield Scene("S3 QQP clusters and singles", Corpus.of(qqp.texts, cache), partial(streams.shuffled, qqp))
    if "S8" in only:
        talks = streams.talks(data)
        said = Corpus.of([text for talk in talks for text in talk.said], cache)
        for scoped in (True, False):
            name = "S8 TREC CAsT, " + ("scopes as in the gateway" if scoped else "the last message alone")
            yield Scene(name, said, partial(streams.conversations, talks, said.number, scoped=scoped), full=False)


def rules(corpus: Corpus, guards: Guards, *, learning: bool) -> Iterator[tuple[str, Callable[[], Policy]]]:
    """Those that learn, or those that don't, by what the report calls them."""
    texts = corpus.texts
    if learning:
        yield "Sentinel at 1 %", lambda: Sentinel(texts, guards, budget=BUDGET)
        yield "Sentinel at 1 %, one comparison a miss", lambda: Sentinel(texts, guards, budget=BUDGET, compared=False)
        yield "Sentinel at 1 %, every guard a veto", lambda: Sentinel(texts, guards, budget=BUDGET, strict=True)
        yield "vCache at 1 %", lambda: VCache(BUDGET)
        return
    for least, who in FIXED:
        yield f"cosine {least:.2f}" + (f" ({who})" if who else ""), partial(Fixed, least)
    yield "guards, cosine 0.95", lambda: Fixed(0.95, guards=guards)
    yield "guards, cosine 0.90", lambda: Fixed(0.9, guards=guards)


def best(corpus: Corpus, stream: Sequence[Request], seed: int, make: Callable[[float], Policy]) -> tuple[float, Tally]:
    """With hindsight: the threshold with most hits whose error is within the budget in the second half, and that half."""
    found: tuple[float, Tally] = (1.0, Tally())
    for least in reversed(HINDSIGHT):
        tally = replay(corpus, stream, make(least), noise=0.0, seed=seed)
        half = second_half(tally)
        if half.error <= BUDGET and half.hit_rate >= found[1].hit_rate:
            found = (least, half)
    return found


def second_half(tally: Tally) -> Tally:
    return tally.part(tally.requests // 2, tally.requests)


def measure(scene: Scene, seeds: Sequence[int], noises: Sequence[float]) -> list[Run]:
    """Every rule over the stream, for each seed, and for each noise if it learns."""
    guards = Guards(scene.corpus.texts)
    runs: list[Run] = []
    for seed in seeds if scene.full else seeds[:1]:
        stream = scene.draw(seed)
        runs.append(Run("ideal", seed, 0.0, ideal(stream)))
        for name, make in rules(scene.corpus, guards, learning=False):
            runs.append(Run(name, seed, 0.0, replay(scene.corpus, stream, make(), noise=0.0, seed=seed)))
        for noise in noises if scene.full else noises[:1]:
            for name, make in rules(scene.corpus, guards, learning=True):
                runs.append(Run(name, seed, noise, replay(scene.corpus, stream, make(), noise=noise, seed=seed)))
                say(scene.name, name, f"seed {seed}, noise {noise:.0%}: {runs[-1].tally.hit_rate:.1%} hits")
        if scene.full:
            least, half = best(scene.corpus, stream, seed, Fixed)
            runs.append(Run(f"second half: best cosine with hindsight ({least:.2f})", seed, 0.0, half))
            overlap = cosine_and_overlap(scene.corpus.texts)
            least, half = best(scene.corpus, stream, seed, partial(Fixed, score=overlap))
            runs.append(Run(f"second half: BetterDB's score with hindsight ({least:.2f})", seed, 0.0, half))
    return runs


def table(runs: Sequence[Run]) -> Iterator[str]:
    """A line for each rule and noise; the mean over seeds, and the range where there are several."""
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"| {' | '.join('---' for _ in COLUMNS)} |"
    for rule, noise in dict.fromkeys((run.rule, run.noise) for run in runs):
        some = [run.tally for run in runs if (run.rule, run.noise) == (rule, noise)]
        learns = any(tally.judged for tally in some)
        halves = [second_half(tally) for tally in some]
        cells = [
            rule,
            f"{noise:.0%}" if learns else "",
            percent([tally.hit_rate for tally in some], 1),
            percent([tally.error for tally in some], 2),
            percent([tally.error_per_hit for tally in some], 2),
            percent([tally.windows_above(BUDGET) for tally in some], 0),
            f"{mean([tally.part(0, 1000).hits for tally in some]):.0f}",
            f"{percent([half.hit_rate for half in halves], 1)} @ {percent([half.error for half in halves], 2)}",
            f"{mean([tally.judged_per_thousand for tally in some]):.0f}" if learns else "",
            f"{mean([tally.calibration_error() for tally in some]):.3f}" if learns and "Sentinel" in rule else "",
        ]
        yield f"| {' | '.join(cells)} |"


def percent(shares: Sequence[float], digits: int) -> str:
    """The mean, and the range where it matters."""
    text = f"{100 * mean(shares):.{digits}f}"
    low, high = (f"{100 * share:.{digits}f}" for share in (min(shares), max(shares)))
    return f"{text} %" if low == high else f"{text} % ({low} to {high})"


def mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / max(len(numbers), 1)


def bars(name: str, runs: Sequence[Run]) -> Iterator[str]:
    """What decision 11 of the project asks of S1 and S2."""
    ours = [run for run in runs if run.rule == "Sentinel at 1 %"]
    theirs = {(run.seed, run.noise): run.tally.hit_rate for run in runs if run.rule == "vCache at 1 %"}
    within = sum(run.tally.error <= BUDGET for run in ours)
    yield f"- {name}: error within 1 % in {within} of {len(ours)} runs (bar: 95 %)."
    for noise in dict.fromkeys(run.noise for run in ours):
        rates = [(run.tally.hit_rate, theirs[run.seed, run.noise]) for run in ours if run.noise == noise]
        times = mean([mine for mine, _ in rates]) / max(mean([other for _, other in rates]), 1e-9)
        yield f"- {name}, judge errs in {noise:.0%}: {times:.1f} times vCache's hits (bar: 3)."
    half = mean([second_half(run.tally).hit_rate for run in ours if run.noise == 0.0])
    hindsight = mean([run.tally.hit_rate for run in runs if run.rule.startswith("second half: best")])
    yield f"- {name}, second half: {100 * half:.1f} % hits, best cosine with hindsight {100 * hindsight:.1f} %."


def pairs(data: Path) -> dict[str, list[traps.Pair]]:
    """Sets of pairs that try the guards."""
    made = [traps.Pair(found.kind, found.question, found.near_miss, same=False) for found in near_misses()]
    made += [traps.Pair("rewording", found.question, found.rewording, same=True) for found in rewordings()]
    checklist = [
        traps.Pair(f"{row['capability']}: {row['test']}", row["text_a"], row["text_b"], same=row["label"] == "1")
        for row in streams.rows(data, "checklist-qqp")
    ]
    gated = [
        traps.Pair(row["category"], row["cached_query"], row["probe_query"], same=row["label"] == "1")
        for row in streams.rows(data, "gated-adversarial")
    ]
    return {"generated": made, "CheckList": checklist, "hand-made traps": gated}


def trap_tables(sets: Mapping[str, list[traps.Pair]], cache: Path, learned: Sentinel) -> Iterator[str]:
    """Each pair in a cache of its own: by a gateway that has learned nothing, and by one that has learned from S1."""
    for name, found in sets.items():
        corpus = Corpus.of([text for pair in found for text in (pair.stored, pair.asked)], cache)
        guards = Guards(corpus.texts)
        fresh = Sentinel(corpus.texts, guards, budget=BUDGET)
        columns = [
            traps.try_pairs(found, corpus, None, least=0.7),
            traps.try_pairs(found, corpus, None, least=0.95),
            traps.try_pairs(found, corpus, fresh),
            traps.try_pairs(found, corpus, learned.transferred(corpus.texts, guards)),
        ]
        yield from [
            "",
            f"### {name}",
            "",
            "| kind | pairs | guards, cosine 0.7 | guards, cosine 0.95 | Sentinel, new | Sentinel after S1 |",
        ]
        yield "| --- | --- | --- | --- | --- | --- |"
        kinds = sorted(columns[0], key=lambda key: (key[1], key[0]))
        for kind, same in kinds:
            title = f"{kind} ({'may serve' if same else 'must not'})"
            shares = [f"{100 * column[kind, same].rate:.1f} %" for column in columns]
            yield f"| {title} | {columns[0][kind, same].pairs} | {' | '.join(shares)} |"
        for same in (False, True):
            rows = [[column[key] for key in kinds if key[1] == same] for column in columns]
            sums = [
                f"{sum(s.served for s in row)} ({100 * sum(s.served for s in row) / max(sum(s.pairs for s in row), 1):.2f} %)"
                for row in rows
            ]
            yield f"| **all that {'may serve' if same else 'must not'}** | {sum(s.pairs for s in rows[0])} | {' | '.join(sums)} |"


def say(*words: str) -> None:
    print(*words, sep=", ", file=sys.stderr, flush=True)


def machine() -> str:
    model = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), ""
    )
    return f"{model}, {platform.system()} {platform.release()}, Python {platform.python_version()}"


def report(data: Path, cache: Path, only: Collection[str], seeds: Sequence[int], noises: Sequence[float]) -> Iterator[str]:
    """The whole page, part by part as it is measured."""
    started = time.monotonic()
    yield f"# The semantic tier on questions with known answers, {dt.datetime.now(dt.UTC):%Y-%m-%d}"
    yield from ("", f"`python -m bench.evaluation {' '.join(sys.argv[1:])}`; {machine()}. Seeds {list(seeds)}.")
    yield from (
        "",
        "Hits and error by requests that reached the semantic decision. Judge: the truth, with so many verdicts turned.",
    )
    said: list[str] = []
    for scene in scenes(data, cache, only):
        number = scene.name[:2]
        if number in only:
            runs = measure(scene, seeds, noises)
            yield from ("", f"## {scene.name}", "", *table(runs))
            said += bars(scene.name, runs) if scene.full else [wrong_hits(scene.name, runs)]
        if number == "S1" and "pairs" in only:
            learned = Sentinel(scene.corpus.texts, Guards(scene.corpus.texts), budget=BUDGET)
            replay(scene.corpus, scene.draw(0), learned, noise=0.0, seed=0)
            yield from ("", "## Pairs that try the guards", "", "The share that was served, each pair in a cache of its own.")
            yield from trap_tables(pairs(data), cache, learned)
    yield from ("", "## Bars", "", *said, "", f"Took {(time.monotonic() - started) / 60:.1f} minutes.")


def wrong_hits(name: str, runs: Sequence[Run]) -> str:
    ours = [run.tally for run in runs if run.rule == "Sentinel at 1 %"]
    return f"- {name}: {sum(tally.wrong for tally in ours)} wrong hits in {sum(tally.requests for tally in ours)} requests."


def main() -> None:
    """Measure, print, and write down if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the public sets, a folder each")
    parser.add_argument("--cache", type=Path, default=Path("data/evaluation"), help="where vectors are kept")
    parser.add_argument("--only", nargs="*", default=PARTS, choices=PARTS, help="parts of it")
    parser.add_argument("--full", action="store_true", help="five seeds and four noises instead of one and two")
    parser.add_argument("--out", type=Path, help="a Markdown file to write")
    options = parser.parse_args()
    seeds, noises = (range(5), NOISES) if options.full else (range(1), (0.0, 0.05))
    lines = []
    for line in report(options.data, options.cache, set(options.only), seeds, noises):
        print(line, flush=True)
        lines.append(line)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
