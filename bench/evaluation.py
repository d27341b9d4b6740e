"""What the semantic tier does with questions whose answers are known: `python -m bench.evaluation --data DIR`.

`DIR` holds the public sets that `bench/README.md` lists. Vectors are made once and kept in `--cache`. All rules see the same
streams, vectors and judge; a run is the same every time. Parts are measured side by side, one for each processor.
"""

import argparse
import datetime as dt
import os
import platform
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final, NamedTuple

from bench import pairs
from sentinel_gateway import rules
from sentinel_gateway.evaluation import streams
from sentinel_gateway.evaluation.corpus import Corpus
from sentinel_gateway.evaluation.policies import Fixed, Guards, Sentinel, Terms, cosine_and_overlap
from sentinel_gateway.evaluation.replay import KNOWS, Judge, Policy, Request, comparable, ideal, replay
from sentinel_gateway.evaluation.tally import Tally
from sentinel_gateway.evaluation.vcache import VCache
from sentinel_gateway.settings.model import Settings

BUDGET: Final = 0.01
OTHER_BUDGETS: Final = (0.005, 0.02, 0.05)
NOISES: Final = (0.0, 0.02, 0.05, 0.1)
FIXED: Final = ((0.6, "GPTCache"), (0.8, "LiteLLM, Bifrost"), (0.85, ""), (0.9, "RedisVL"), (0.95, "Portkey, Upstash"))
HINDSIGHT: Final = [least / 200 for least in range(120, 200)]
FAR_ABOVE: Final = 2.0
"""Times the budget: where so many are wrong, a lower threshold needs no look."""
BACKGROUND: Final = 4_000
PARTS: Final = ("S3", "S2", "S1", "S5", "S6", "S7", "pairs", "S8", "S4", "alone")
"""Those that take longest go first; they are reported in order."""
SETS: Final = "Which sets there are, and how they lie in it, says bench/README.md (The evaluation)."
COLUMNS: Final = (
    "rule",
    "judge",
    "hits",
    "error",
    "per hit",
    "windows above 1 %",
    "first 1,000",
    "second half: hits @ error",
    "judged per 1,000",
    "ECE",
)
OURS: Final = "Sentinel at 1 %"
VCACHE: Final = "vCache at 1 %"
BEST: Final = "best cosine with hindsight"


class Scene(NamedTuple):
    """A stream to be drawn for a seed. `full`: with all rules, seeds and noises, else only one of each.

    `unlabelled`: nobody knows what is right, so hits are counted and nothing else.
    """

    name: str
    corpus: Corpus
    draw: Callable[[int], list[Request]]
    full: bool = False
    unlabelled: bool = False


class Run(NamedTuple):
    """One rule over one stream. `judge` matters to those that learn."""

    rule: str
    seed: int
    judge: Judge
    tally: Tally


class Task(NamedTuple):
    """What is to be measured of a part, from the sets in `data`."""

    data: Path
    cache: Path
    seeds: Sequence[int]
    noises: Sequence[float]


def scenes(part: str, data: Path, cache: Path) -> list[Scene]:
    """The streams of a part."""
    if part in {"S1", "S5", "S6", "S7", "pairs"}:
        return [_banking(part, data, cache)]
    if part == "S2":
        clinc = streams.intents(data, "clinc150")
        return [
            Scene("S2 CLINC150 with out-of-scope", Corpus.of(clinc.texts, cache), partial(streams.shuffled, clinc), full=True)
        ]
    if part == "S3":
        qqp = streams.duplicates(data)
        return [Scene("S3 QQP clusters and singles", Corpus.of(qqp.texts, cache), partial(streams.shuffled, qqp), full=True)]
    if part == "S4":
        found = streams.searches(data)
        searched = Corpus.of([search.text for search in found], cache)
        draw = partial(streams.popular, found, searched.number)
        return [Scene("S4 Bing's searches by popularity", searched, draw, unlabelled=True)]
    if part == "S8":
        talks = streams.talks(data)
        said = Corpus.of([text for talk in talks for text in talk.said], cache)
        draws = {scoped: partial(streams.conversations, talks, said.number, scoped=scoped) for scoped in (True, False)}
        return [
            Scene("S8 TREC CAsT, scopes as in the gateway", said, draws[True]),
            Scene("S8 TREC CAsT, the last message alone", said, draws[False]),
        ]
    prompts = streams.Questions.of({row["prompt"]: None for row in streams.rows(data, "arena-hard-prompts")})
    return [Scene("Arena-Hard, no two alike", Corpus.of(prompts.texts, cache), partial(streams.shuffled, prompts))]


def _banking(part: str, data: Path, cache: Path) -> Scene:
    banking = streams.intents(data, "banking77")
    web = streams.rows(data, "real-queries-trec-msmarco")
    other = [row["query"] for row in web if row["set"] == "trec-mq"][:BACKGROUND]
    corpus = Corpus.of([*banking.texts, *other], cache)
    background = range(len(banking.texts), len(corpus.texts))
    if part == "S5":
        draw = partial(streams.repeated, banking, background)
        return Scene("S5 BANKING77 by Zipf, 30 % other traffic", corpus, draw)
    if part == "S6":
        return Scene("S6 BANKING77 in blocks of eight intents", corpus, partial(streams.drifting, banking))
    if part == "S7":
        return Scene("S7 two tenants, clashing answers", corpus, partial(streams.clashing, banking))
    return Scene("S1 BANKING77", corpus, partial(streams.shuffled, banking), full=True)


def fixed_rules(guards: Guards) -> Iterator[tuple[str, Callable[[], Policy]]]:
    """Those that don't learn, by what the report calls them."""
    for least, who in FIXED:
        yield f"cosine {least:.2f}" + (f" ({who})" if who else ""), partial(Fixed, least)
    yield "guards, cosine 0.95 (Sentinel, nothing learned)", lambda: Fixed(0.95, guards=guards)
    yield "guards, cosine 0.90", lambda: Fixed(0.9, guards=guards)


def learners(texts: Sequence[str], guards: Guards) -> Iterator[tuple[str, Callable[[], Policy]]]:
    """Those that learn, and are measured at every noise."""
    yield OURS, lambda: sentinel(texts, guards, BUDGET)
    yield VCACHE, lambda: VCache(BUDGET)


def variants(texts: Sequence[str], guards: Guards) -> Iterator[tuple[str, Judge, Callable[[], Policy]]]:
    """Those that are measured once: a judge without opinions, and other budgets."""
    yield OURS, Judge(silent=0.5), lambda: sentinel(texts, guards, BUDGET)
    for budget in OTHER_BUDGETS:
        yield f"Sentinel at {100 * budget:g} %", KNOWS, partial(sentinel, texts, guards, budget)
    for budget in OTHER_BUDGETS[1:]:
        yield f"vCache at {100 * budget:g} %", KNOWS, partial(VCache, budget)


def sentinel(texts: Sequence[str], guards: Guards, budget: float) -> Sentinel:
    """The gateway as it comes, held to this budget."""
    return Sentinel(texts, guards, Terms.of(Settings(), budget=budget))


def tried(corpus: Corpus, stream: Sequence[Request], seed: int, make: Callable[[float], Policy]) -> Iterator[tuple[float, Tally]]:
    """Fixed thresholds, the highest first, as far down as the second half is not far above the budget."""
    for least in reversed(HINDSIGHT):
        tally = replay(corpus, stream, make(least), seed=seed)
        yield least, tally
        if second_half(tally).error > FAR_ABOVE * BUDGET:
            return


def best(tries: Sequence[tuple[float, Tally]]) -> tuple[float, Tally]:
    """With hindsight: the threshold with most hits whose error is within the budget."""
    within = [(least, tally) for least, tally in tries if tally.error <= BUDGET]
    return max(within, key=lambda one: (one[1].hit_rate, -one[0]), default=(1.0, Tally()))


def second_half(tally: Tally) -> Tally:
    return tally.part(tally.requests // 2, tally.requests)


def measure(scene: Scene, seeds: Sequence[int], noises: Sequence[float]) -> tuple[list[Run], int]:
    """Every rule over the stream, for each seed, and for each noise if it learns; and how many requests were left out."""
    corpus, guards, left = scene.corpus, Guards(scene.corpus.texts), 0
    runs: list[Run] = []
    for seed in seeds if scene.full else seeds[:1]:
        drawn = scene.draw(seed)
        stream = comparable(corpus, drawn, rules.bound_rules(Settings()))
        left = len(drawn) - len(stream)
        runs.append(Run("ideal", seed, KNOWS, ideal(stream)))
        for name, make in fixed_rules(guards):
            runs.append(Run(name, seed, KNOWS, replay(corpus, stream, make(), seed=seed)))
        if scene.unlabelled:
            continue
        for judge in [Judge(noise) for noise in (noises if scene.full else noises[:1])]:
            for name, make in learners(corpus.texts, guards):
                runs.append(Run(name, seed, judge, replay(corpus, stream, make(), judge=judge, seed=seed)))
                say(scene.name, name, f"seed {seed}, {told(judge)}: {runs[-1].tally.hit_rate:.1%} hits")
        if scene.full:
            runs += hindsight(corpus, stream, seed)
        if scene.full and seed == seeds[0]:
            for name, judge, make in variants(corpus.texts, guards):
                runs.append(Run(name, seed, judge, replay(corpus, stream, make(), judge=judge, seed=seed)))
                say(scene.name, name, f"seed {seed}, {told(judge)}: {runs[-1].tally.hit_rate:.1%} hits")
    return runs, left


def hindsight(corpus: Corpus, stream: Sequence[Request], seed: int) -> Iterator[Run]:
    """The best that fixed thresholds could have done, in all and in the second half."""
    overlap = cosine_and_overlap(corpus.texts)
    ways: tuple[tuple[str, Callable[[float], Policy]], ...] = (
        (BEST, Fixed),
        ("BetterDB's score with hindsight", partial(Fixed, score=overlap)),
    )
    for name, make in ways:
        tries = list(tried(corpus, stream, seed, make))
        least, whole = best(tries)
        yield Run(f"{name} ({least:.3f})", seed, KNOWS, whole)
        least, half = best([(least, second_half(tally)) for least, tally in tries])
        yield Run(f"second half: {name} ({least:.3f})", seed, KNOWS, half)


def told(judge: Judge) -> str:
    """In short."""
    return f"errs in {judge.errs:.0%}" + (f", silent in {judge.silent:.0%}" if judge.silent else "")


def table(runs: Sequence[Run]) -> Iterator[str]:
    """A line for each rule and judge; the mean over seeds, and the range where there are several."""
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"| {' | '.join('---' for _ in COLUMNS)} |"
    for rule, judge in dict.fromkeys((run.rule, run.judge) for run in runs):
        some = [run.tally for run in runs if (run.rule, run.judge) == (rule, judge)]
        learns = any(tally.judged for tally in some) and rule.startswith(("Sentinel", "vCache"))
        halves = [second_half(tally) for tally in some]
        cells = [
            rule,
            told(judge) if learns else "",
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


def hits_alone(runs: Sequence[Run]) -> Iterator[str]:
    """Where nobody knows what is right: exact hits, and what rules would have added."""
    yield "| rule | the very same before | of the rest in other words |"
    yield "| --- | --- | --- |"
    for run in runs[1:]:
        asked = run.tally.requests + run.tally.exact
        yield f"| {run.rule} | {100 * run.tally.exact / max(asked, 1):.1f} % | {100 * run.tally.hit_rate:.1f} % |"


def percent(shares: Sequence[float], digits: int) -> str:
    """The mean, and the range where it matters."""
    text = f"{100 * mean(shares):.{digits}f}"
    low, high = (f"{100 * share:.{digits}f}" for share in (min(shares), max(shares)))
    return f"{text} %" if low == high else f"{text} % ({low} to {high})"


def mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / max(len(numbers), 1)


def bars(name: str, runs: Sequence[Run]) -> Iterator[str]:
    """What decision 11 of the project asks of streams."""
    ours = [run for run in runs if run.rule == OURS and not run.judge.silent]
    theirs = {(run.seed, run.judge): run.tally.hit_rate for run in runs if run.rule == VCACHE}
    within = sum(run.tally.error <= BUDGET for run in ours)
    most = max(run.tally.error for run in ours)
    yield f"- {name}: error within 1 % in {within} of {len(ours)} runs, at most {100 * most:.2f} % (bar: 95 % of runs)."
    known = mean([run.tally.hit_rate for run in runs if run.rule.startswith(BEST)])
    for judge in dict.fromkeys(run.judge for run in ours):
        rates = [(run.tally.hit_rate, theirs[run.seed, judge]) for run in ours if run.judge == judge]
        other = max(mean([other for _, other in rates]), 1e-9)
        times = mean([mine for mine, _ in rates]) / other
        yield f"- {name}, judge {told(judge)}: {times:.1f} times vCache's hits (bar: 3; {BEST}: {known / other:.1f})."
    half = mean([second_half(run.tally).hit_rate for run in ours if run.judge == KNOWS])
    late = mean([run.tally.hit_rate for run in runs if run.rule.startswith(f"second half: {BEST}")])
    yield f"- {name}, second half: {100 * half:.1f} % hits, {BEST} {100 * late:.1f} % (goal)."


def wrong_hits(name: str, runs: Sequence[Run]) -> str:
    ours = [run.tally for run in runs if run.rule == OURS]
    return f"- {name}: {sum(tally.wrong for tally in ours)} wrong hits in {sum(tally.requests for tally in ours)} requests."


def reported(part: str, task: Task) -> tuple[list[str], list[str]]:
    """A part's section of the report, and what it says of the bars; or that a set of it is not there."""
    try:
        return measured(part, task)
    except FileNotFoundError as exc:
        return ["", f"## {part}", "", f"Left out: there is no {exc.filename}. {SETS}"], []


def measured(part: str, task: Task) -> tuple[list[str], list[str]]:
    """As `reported`. Raises FileNotFoundError."""
    if part == "pairs":
        (scene,) = scenes(part, task.data, task.cache)
        learned = sentinel(scene.corpus.texts, Guards(scene.corpus.texts), BUDGET)
        replay(scene.corpus, comparable(scene.corpus, scene.draw(0), rules.bound_rules(Settings())), learned, seed=0)
        lines = list(pairs.tables(pairs.sets(task.data), task.cache, learned))
        said = [f"- Pairs: {line.removeprefix('Bar: ')}" for line in lines if line.startswith("Bar: ")]
        return ["", "## Pairs", "", "The share that was served, each pair in a cache of its own.", *lines], said
    section: list[str] = []
    said = []
    for scene in scenes(part, task.data, task.cache):
        runs, left = measure(scene, task.seeds, task.noises)
        note = f"{left:,} requests were left out: the gateway compares them with no other (bound, long or foreign)."
        section += ["", f"## {scene.name}", "", note, "", *(hits_alone(runs) if scene.unlabelled else table(runs))]
        said += [] if scene.unlabelled else bars(scene.name, runs) if scene.full else [wrong_hits(scene.name, runs)]
    return section, said


def say(*words: str) -> None:
    print(*words, sep=", ", file=sys.stderr, flush=True)


def machine() -> str:
    model = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), ""
    )
    return f"{model}, {os.cpu_count()} processors, {platform.system()} {platform.release()}, Python {platform.python_version()}"


def report(task: Task, only: Collection[str], jobs: int) -> Iterator[str]:
    """The whole page."""
    started = time.monotonic()
    yield f"# The semantic tier on questions with known answers, {dt.datetime.now(dt.UTC):%Y-%m-%d}"
    yield from ("", f"`python -m bench.evaluation {' '.join(sys.argv[1:])}`; {machine()}. Seeds {list(task.seeds)}.")
    yield from (
        "",
        "Hits and error by requests that reached the decision. Judge: the truth, with so many verdicts turned or left open.",
    )
    asked = [part for part in PARTS if part in only]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        found = dict(zip(asked, pool.map(partial(reported, task=task), asked), strict=True))
    for part in sorted(found):
        yield from found[part][0]
    said = [line for part in sorted(found) for line in found[part][1]]
    yield from ("", "## Bars", "", *said, "", f"Took {(time.monotonic() - started) / 60:.1f} minutes.")


def main() -> None:
    """Measure, print, and write down if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the public sets, a folder each")
    parser.add_argument("--cache", type=Path, default=Path("data/evaluation"), help="where vectors are kept")
    parser.add_argument("--only", nargs="*", default=PARTS, choices=PARTS, help="parts of it")
    parser.add_argument("--full", action="store_true", help="five seeds and four noises instead of one and two")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="parts that are measured at a time")
    parser.add_argument("--out", type=Path, help="a Markdown file to write")
    options = parser.parse_args()
    if not options.data.is_dir():
        parser.error(f"There is no folder {options.data}: make eval DATA=FOLDER. {SETS}")
    seeds, noises = (range(5), NOISES) if options.full else (range(1), (0.0, 0.05))
    task = Task(options.data, options.cache, seeds, noises)
    lines = []
    for line in report(task, set(options.only), options.jobs):
        print(line, flush=True)
        lines.append(line)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
