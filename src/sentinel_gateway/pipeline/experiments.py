"""Experiments on live traffic, as a request meets them: it is put into an arm, and the arm's word goes for it.

Nobody else's answers are an arm's, and its own are nobody else's: each has a part of the cache to itself, in which all that
differs between the arms shows, and so a warm cache speaks for none of them.
"""

from collections.abc import Sequence
from functools import partial

from msgspec.structs import replace

from sentinel_gateway.core.caching import Wish
from sentinel_gateway.core.choosing import conversation
from sentinel_gateway.core.experiments import PART, Arm, Asking, Experiment, place
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.plan import Plan, Planner


class Experiments:
    """Those that are under way. `secret` is the same on all nodes."""

    def __init__(self, experiments: Sequence[Experiment], secret: bytes) -> None:
        self._experiments = experiments
        self._secret = secret

    def __repr__(self) -> str:
        return f"<Experiments {', '.join(one.name for one in self._experiments)}>"

    def enrol(self, plan: Plan, planner: Planner, journey: Journey) -> Plan:
        """The plan of the arm that this request is in, which the journey is told of; as it was, where it is in none."""
        caller, request = journey.caller, plan.request
        asking = Asking(request.model, caller.actor, caller.space, journey.wish.namespace)
        found = place(self._experiments, asking, partial(conversation, request.fields), self._secret)
        if found is None:
            return plan
        journey.experiment, journey.unit, journey.place = found.name, found.unit, found
        journey.wish = wished(journey.wish, found.arm)
        part = f"{PART}{found.name}"
        return planner.apart(plan, found.arm.model, part, tenant=journey.tenant, namespace=journey.wish.namespace)


def wished(wish: Wish, arm: Arm) -> Wish:
    """What the caller asks for, in this arm: its own word on how long to keep an answer stands above the arm's."""
    if not arm.cache:
        return replace(wish, read=False, write=False, bypass=True)
    return wish if arm.ttl is None or wish.ttl is not None else replace(wish, ttl=arm.ttl)
