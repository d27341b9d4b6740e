"""`sentinel eval` without its command line: files with known truths in, figures out."""

from collections.abc import Sequence
from typing import Final

import msgspec

from sentinel_gateway.evaluation.labelled import CATEGORY, Labelled, read_labelled
from sentinel_gateway.evaluation.measured import Evaluation
from sentinel_gateway.evaluation.offline import Offline, open_model, open_offline
from sentinel_gateway.evaluation.rows import open_lines, records
from sentinel_gateway.evaluation.trials import Outcome, Tick, try_pairs, try_stream
from sentinel_gateway.settings.model import Settings

ALONE: Final = "each pair stands alone, in a cache that holds nothing else"
TRUTH: Final = (
    "the learner hears the truth about whatever a provider answers; in service a judge tells it, who may err or have no opinion, "
    "and of misses one a second is looked at"
)


class Task(msgspec.Struct, frozen=True):
    """What is wanted: cosines to compare with, the column of categories, and the first rows of each file at most."""

    baselines: Sequence[float] = ()
    category: str = CATEGORY
    limit: int | None = None


async def evaluate(files: Sequence[str], task: Task, settings: Settings, tick: Tick) -> list[Evaluation]:
    """File by file; raises `Unusable` for one that can't be read or has nothing in it."""
    measured = []
    async with open_model() as embedder:
        for file in files:
            with open_lines(file) as lines:
                found = read_labelled(file, records(lines), category=task.category, limit=task.limit)
            async with open_offline(settings, embedder) as offline:
                measured.append(await _measure(file, found, task, offline, tick))
    return measured


async def _measure(file: str, found: Labelled, task: Task, offline: Offline, tick: Tick) -> Evaluation:
    if found.pairs:
        outcome = await try_pairs(found.pairs, offline, task.baselines, tick)
        may_serve = sum(pair.same for pair in found.pairs)
        return _told(file, found, outcome, may_serve=may_serve, notes=[ALONE])
    outcome = await try_stream(found.queries, offline, task.baselines, tick)
    answers = [query.answer for query in found.queries if query.answer is not None]
    return _told(file, found, outcome, may_serve=len(answers) - len(set(answers)), notes=[TRUTH])


def _told(file: str, found: Labelled, outcome: Outcome, *, may_serve: int, notes: list[str]) -> Evaluation:
    return Evaluation(
        file=file,
        kind="pairs" if found.pairs else "stream",
        rows=len(found.pairs) + len(found.queries),
        may_serve=may_serve,
        exact=outcome.exact,
        alone=outcome.alone,
        rules=outcome.rules,
        latency=outcome.latency,
        bad_lines=found.bad.count,
        bad=found.bad.shown,
        notes=notes if found.cut is None else [*notes, found.cut],
    )
