"""Is there an answer already? Memory, the farther tier, then other words; or the reason why none was asked."""

from msgspec.structs import replace

from sentinel_gateway.core.caching import Hit, Miss, Step, Wish
from sentinel_gateway.core.identity import Question
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.plan import Plan
from sentinel_gateway.pipeline.semantic import Semantic
from sentinel_gateway.pipeline.tiers import Tiers


async def look_up(tiers: Tiers, plan: Plan, journey: Journey, *, far: bool = True) -> Hit | Miss:
    """Ask memory, and the farther tier as well unless the answer is on its way already."""
    wish = journey.wish
    journey.epoch = tiers.epoch
    found = await _ask(tiers, plan.key, wish, far=far)
    if isinstance(found, Hit):
        return _told(found, journey)
    journey.outcome, journey.miss = "bypass" if wish.bypass else "miss", found
    return found


async def look_further(semantic: Semantic, plan: Plan, journey: Journey, miss: Miss) -> Hit | Miss:
    """After the exact tiers' `miss`: has the same been asked in other words?"""
    if journey.wish.bypass or not journey.wish.read:
        return miss
    question = journey.question
    if isinstance(question, Question):
        found = await semantic.look_up(question, plan, journey)
    else:
        found = Step("vector", "miss", f"uncacheable-{question}")
    if isinstance(found, Hit):
        return _told(found, journey)
    journey.miss = replace(miss, steps=(found, *miss.steps))
    return journey.miss


def look_again(tiers: Tiers, plan: Plan, journey: Journey) -> Hit | None:
    """The answer may have come into memory while the farther tier was asked."""
    journey.epoch = tiers.epoch
    if journey.wish.bypass or not journey.wish.read:
        return None
    found = tiers.look_near(plan.key, journey.wish)
    return _told(found, journey) if isinstance(found, Hit) else None


def _told(hit: Hit, journey: Journey) -> Hit:
    entry = hit.entry
    journey.outcome = "exact" if hit.similarity is None else "semantic"
    journey.tier, journey.target = hit.tier, entry.model
    journey.prompt_tokens, journey.completion_tokens = entry.prompt_tokens, entry.completion_tokens
    journey.miss = None
    return hit


async def _ask(tiers: Tiers, key: str, wish: Wish, *, far: bool) -> Hit | Miss:
    if wish.bypass:
        return Miss((Step("memory", "bypass"),))
    if not wish.read:
        return Miss((Step("memory", "request"),))
    if far:
        return await tiers.find(key, wish)
    near = tiers.look_near(key, wish)
    return near if isinstance(near, Hit) else Miss((near,))
