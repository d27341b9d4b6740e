"""What a body asks, whether this caller may ask that, and what asking takes of its limits."""

from sentinel_gateway.core.access import discreet, require_model, require_no_other
from sentinel_gateway.errors import ModelNotFound, RequestError
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.limiting import end_user
from sentinel_gateway.pipeline.plan import Plan, Planner


def read(planner: Planner, raw: bytes, journey: Journey) -> Plan:
    """What is asked, if this caller may ask it."""
    try:
        plan = planner.plan(raw, tenant=journey.tenant, namespace=journey.wish.namespace)
        if journey.betas or journey.version:
            said = journey.betas, journey.version
            plan = planner.switched(plan, *said, tenant=journey.tenant, namespace=journey.wish.namespace)
        require_model(journey.caller, plan.request.model)
    except ModelNotFound as error:
        raise discreet(error, journey.caller) from None
    journey.model, journey.stream = plan.request.model, plan.request.stream
    return plan


async def understand(planner: Planner, raw: bytes, journey: Journey) -> Plan:
    """The same. A body that can't be understood costs its caller a request as well."""
    try:
        return read(planner, raw, journey)
    except RequestError:
        if journey.grant is not None:
            await journey.grant.spoiled()
        raise


async def enter(plan: Plan, journey: Journey, *, place: bool = True) -> None:
    """Take the request from the caller's limits, and a place in flight unless the answer is here already."""
    if journey.grant is not None:
        await journey.grant.enter(model=plan.request.model, user=end_user(plan), place=place)


def check_others(plan: Plan, journey: Journey) -> None:
    """Before a provider is asked: is it to use no model but the one asked for, where that matters? Raises `ModelNotAllowed`."""
    key, grant = journey.caller.key, journey.grant
    if (key is not None and key.models) or (grant is not None and grant.has_budget):
        require_no_other(plan.request.fields)
