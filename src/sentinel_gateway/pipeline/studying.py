"""What a miss teaches: its fresh answer is held against the stored ones around it, beside the path and without a provider."""

from sentinel_gateway.core.caching import Entry, Hit, Wish
from sentinel_gateway.core.chat import Answer
from sentinel_gateway.core.evidence import Study
from sentinel_gateway.core.judging import Case, said
from sentinel_gateway.core.matching import Neighbour
from sentinel_gateway.core.streaming import stored_fields
from sentinel_gateway.pipeline.aside import Aside
from sentinel_gateway.pipeline.judging import Judge
from sentinel_gateway.pipeline.tiers import Tiers


async def compared(study: Study, fresh: str, judge: Judge, tiers: Tiers, least: float, *, aside: Aside) -> dict[str, bool]:
    """Does the fresh answer say the same as those of the neighbours that are so similar? By their keys, where it can be told."""
    told: dict[str, bool] = {}
    for near in study.neighbours:
        stored = await _stored(near, study, tiers, aside) if near.similarity >= least else None
        same = None if stored is None else await judge.agree(Case(study.question.text, fresh, stored))
        if same is not None:
            told[near.head.key] = same
    return told


async def _stored(near: Neighbour, study: Study, tiers: Tiers, aside: Aside) -> str | None:
    found = await tiers.find(near.head.key, Wish())
    if not isinstance(found, Hit) or found.entry.scope != study.question.scope:
        return None
    body = found.entry.body
    return await aside(lambda: said(stored_fields(body)))


def case_of(question: str, fresh: Answer, stored: Entry) -> Case | None:
    """What is to be judged; None if one of the answers is not a text that was said to its end."""
    new, old = whole(fresh), said(stored_fields(stored.body))
    return None if new is None or old is None else Case(question, new, old)


def whole(answer: Answer) -> str | None:
    """What it says, if it was said to its end."""
    return said(answer.fields) if answer.finish_reasons == ("stop",) else None
