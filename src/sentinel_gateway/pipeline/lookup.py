"""Is there an answer already? Memory, then the farther tier; or the reason why none was asked."""

from sentinel_gateway.core.caching import Hit, Miss, Step, Wish
from sentinel_gateway.errors import NotCached
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.plan import Plan
from sentinel_gateway.pipeline.tiers import Tiers


async def look_up(tiers: Tiers, plan: Plan, journey: Journey, *, far: bool = True) -> Hit | Miss:
    """Ask memory, and the farther tier as well unless the answer is on its way already.

    Raises `NotCached` where the caller wants nothing but a stored answer.
    """
    wish = journey.wish
    journey.epoch = tiers.epoch
    found = await _ask(tiers, plan.key, wish, far=far or wish.only_if_cached)
    if isinstance(found, Hit):
        return _told(found, journey)
    journey.outcome, journey.miss = "bypass" if wish.bypass else "miss", found
    if wish.only_if_cached:
        raise NotCached("Nothing stored answers this request, and 'Cache-Control: only-if-cached' forbids to ask a provider.")
    return found


def look_again(tiers: Tiers, plan: Plan, journey: Journey) -> Hit | None:
    """The answer may have come into memory while the farther tier was asked."""
    journey.epoch = tiers.epoch
    if journey.wish.bypass or not journey.wish.read:
        return None
    found = tiers.look_near(plan.key, journey.wish)
    return _told(found, journey) if isinstance(found, Hit) else None


def _told(hit: Hit, journey: Journey) -> Hit:
    entry = hit.entry
    journey.outcome, journey.tier, journey.target = "exact", hit.tier, entry.model
    journey.prompt_tokens, journey.completion_tokens = entry.prompt_tokens, entry.completion_tokens
    journey.miss = None
    return hit


async def _ask(tiers: Tiers, key: str, wish: Wish, *, far: bool) -> Hit | Miss:
    if wish.bypass:
        return Miss((Step("memory", "bypass"),))
    if not wish.read:
        return Miss((Step("memory", "request"),))
    near = tiers.look_near(key, wish)
    if isinstance(near, Hit):
        return near
    return await tiers.look_far(key, wish, near) if far else Miss((near,))
