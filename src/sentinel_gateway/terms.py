"""On what terms requests are taken, and answers are kept: of the settings, and of what is open."""

import random

from msgspec.structs import replace

from sentinel_gateway import rules
from sentinel_gateway.pipeline.admit import Admission
from sentinel_gateway.pipeline.budgeting import Costing
from sentinel_gateway.pipeline.estimate import TokenEstimate
from sentinel_gateway.pipeline.evidence import Evidence
from sentinel_gateway.pipeline.experiments import Experiments
from sentinel_gateway.pipeline.fleet import Fleet
from sentinel_gateway.pipeline.handle import Terms
from sentinel_gateway.pipeline.settle import Settlement
from sentinel_gateway.pipeline.tiers import Tiers
from sentinel_gateway.ports import Clock, Prices
from sentinel_gateway.settings.model import Settings
from sentinel_gateway.storage import Stores


def make_terms(settings: Settings, stores: Stores, admission: Admission, estimate: TokenEstimate, costing: Costing) -> Terms:
    """How requests are taken: how many, once, at what cost, and beside which other nodes."""
    fleet = None
    if stores.handover is not None:
        patience = rules.longest_call(settings) / 2
        fleet = Fleet(stores.handover, patience=patience, max_bytes=settings.cache.max_answer_bytes)
    return Terms(
        admission,
        stores.once,
        estimate,
        costing,
        fleet,
        bounds=rules.bound_rules(settings),
        stale_if_error=settings.cache.stale_if_error,
        drains=stores.drains,
        experiments=_experiments(settings, stores),
    )


def _experiments(settings: Settings, stores: Stores) -> Experiments | None:
    under_way = rules.experiments(settings)
    return Experiments(under_way, stores.state.secret) if under_way else None


def of_predictions(terms: Terms) -> Terms:
    """How predictions are taken: what their programs ask takes its own tokens, its own money, and what other nodes bring.

    No program runs on for nobody: a drain reads one answer to its end, and a program may ask any number of questions. What it
    asks may be part of an experiment, each question by itself; a prediction is in none.
    """
    return replace(terms, estimate=None, costing=None, fleet=None, drains=None, experiments=None)


def make_costing(settings: Settings, prices: Prices) -> Costing:
    """What is held of a budget for a request, at most."""
    return Costing(
        prices,
        output=settings.tokens.output,
        outputs=rules.outputs(settings),
        attempts=settings.routing.max_attempts,
    )


def make_settlement(settings: Settings, tiers: Tiers, evidence: Evidence | None, clock: Clock) -> Settlement:
    """What becomes of answers."""
    limit = settings.cache.max_answer_bytes
    return Settlement(tiers, rules.ttl_rules(settings), max_bytes=limit, clock=clock, chance=random.random, evidence=evidence)
