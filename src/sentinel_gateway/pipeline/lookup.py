"""Is there an answer already? Memory, the farther tier, then other words; or the reason why none was asked."""

from msgspec.structs import replace

from sentinel_gateway.core.caching import Hit, Miss, Step
from sentinel_gateway.core.identity import Question
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.plan import Plan
from sentinel_gateway.pipeline.semantic import Semantic
from sentinel_gateway.pipeline.tiers import Tiers


def look_near(tiers: Tiers, plan: Plan, journey: Journey) -> Hit | Step:
    """Ask memory, unless the caller wants nothing stored. What it has is `told` once it is served."""
    wish = journey.wish
    journey.epoch = tiers.epoch
    if wish.read:
        return tiers.look_near(plan.key, wish)
    if wish.bypass:
        return Step("memory", "bypass")
    if journey.trace is not None:
        journey.trace.asks_no_tier()
    return Step("memory", "request")


async def look_far(tiers: Tiers, plan: Plan, journey: Journey, near: Step, *, alone: bool) -> Hit | Miss:
    """After memory's `near` answer ask the farther tier, if the request is `alone`: else the answer is on its way already."""
    wish = journey.wish
    if alone and wish.read:
        looking, trace = tiers.look_far(plan.key, wish, near), journey.trace
        found = await (looking if trace is None else trace.lookup(looking))
        if isinstance(found, Hit):
            return told(found, journey)
    else:
        found = Miss((near,))
    journey.outcome, journey.miss = "bypass" if wish.bypass else "miss", found
    return found


async def look_further(semantic: Semantic, plan: Plan, journey: Journey, miss: Miss) -> Hit | Miss:
    """After the exact tiers' `miss`: has the same been asked in other words?"""
    if not journey.wish.read:
        return miss
    question = journey.question
    if isinstance(question, Question):
        looking, trace = semantic.look_up(question, plan, journey), journey.trace
        found = await (looking if trace is None else trace.lookup(looking))
        if semantic.evidence is not None:
            found = semantic.evidence.weigh(found, question, plan, journey)
            semantic.note(found, question, plan, journey)
    else:
        found = Step("vector", "miss", f"uncacheable-{question}")
    if isinstance(found, Hit):
        return told(found, journey)
    journey.miss = replace(miss, steps=(found, *miss.steps))
    return journey.miss


def told(hit: Hit, journey: Journey) -> Hit:
    """The hit, written down as what this request is answered with."""
    entry = hit.entry
    journey.outcome = "exact" if hit.similarity is None else "semantic"
    journey.tier, journey.target = hit.tier, entry.model
    journey.prompt_tokens, journey.completion_tokens = entry.prompt_tokens, entry.completion_tokens
    journey.saved, journey.basis = entry.cost, entry.basis
    journey.miss = None
    return hit
