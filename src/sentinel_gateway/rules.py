"""What the settings say, as the rules that the path goes by. Nothing is opened here."""

from collections.abc import Mapping
from fractions import Fraction
from operator import itemgetter
from typing import Final

from msgspec.structs import replace

from sentinel_gateway.core.access import Defaults
from sentinel_gateway.core.bound import BoundRules
from sentinel_gateway.core.budget import ErrorBudgets
from sentinel_gateway.core.budgets import Budget, nano
from sentinel_gateway.core.caching import TtlRules
from sentinel_gateway.core.chat import Usage
from sentinel_gateway.core.circuit import CircuitRules
from sentinel_gateway.core.experiments import Arm, Experiment
from sentinel_gateway.core.limits import NO_LIMITS, Limits
from sentinel_gateway.core.matching import Thresholds
from sentinel_gateway.core.pricing import FALLBACK, Price, PriceRules, Rates, Tier, at_share, cost, yocto
from sentinel_gateway.core.retrying import RetryRules
from sentinel_gateway.core.routing import NO_DEADLINES, Ability, Conduct, Deadlines, Hedge, Route, Strategy, Target
from sentinel_gateway.core.standing import StandingRules
from sentinel_gateway.pipeline.admit import Capacity
from sentinel_gateway.pipeline.budgeting import BudgetRules
from sentinel_gateway.pipeline.callers import LimitRules
from sentinel_gateway.pipeline.evidence import Habits
from sentinel_gateway.ports import Prices
from sentinel_gateway.settings.checks import DEMO
from sentinel_gateway.settings.experiments import ExperimentSettings
from sentinel_gateway.settings.model import Settings
from sentinel_gateway.settings.prices import SERVICE_TIERS, PriceSettings, RateSettings
from sentinel_gateway.settings.targets import Budget as BudgetSettings
from sentinel_gateway.settings.targets import Deadlines as DeadlineSettings
from sentinel_gateway.settings.targets import Limits as LimitSettings
from sentinel_gateway.settings.targets import ModelSettings

MILLION: Final = 1_000_000
LONGEST_CALL: Final = 600.0
"""Seconds, where no provider's settings say so."""


def target(text: str) -> Target:
    """A target as settings write it: `provider/model`."""
    provider, _, model = text.partition("/")
    return Target(provider, model)


SAMPLE: Final = Usage(750, 250, 1000)
"""Tokens of a question and its answer, by which prices are compared."""


def routes(settings: Settings, prices: Prices = lambda _: FALLBACK) -> Mapping[str, Route]:
    """Where the public names lead. The cheapest is found by the price now; a target whose price is unknown comes last."""
    return {name: _route(model, prices) for name, model in settings.models.items()}


def _route(model: ModelSettings, prices: Prices) -> Route:
    written = model.targets
    if model.strategy == "cheapest":
        found = map(prices, model.names)
        priced = ((not isinstance(price, Price) or price.estimated, cost(price, SAMPLE)) for price in found)
        written = tuple(one for _, one in sorted(zip(priced, written, strict=True), key=itemgetter(0)))
    abilities = tuple(Ability(one.tools, one.vision, one.context) for one in written)
    return Route(
        targets=tuple(target(one.target) for one in written),
        strategy=_strategy(model),
        weights=tuple(one.weight for one in written),
        sticky=model.sticky,
        abilities=abilities if any(ability != Ability() for ability in abilities) else (),
        conduct=_conduct(model),
    )


def _conduct(model: ModelSettings) -> Conduct | None:
    """How its targets are asked; None where that is as usual, and nothing has to be looked up for it."""
    own = Deadlines(model.timeouts.first_byte, model.timeouts.idle)
    deadlines = {target(one.target): _shorter(own, one.timeouts) for one in model.targets}
    hedge = model.hedge
    conduct = Conduct(
        careful=frozenset(target(one.target) for one in model.targets if not model.retries_uncertain(one)),
        deadlines={} if all(limit == NO_DEADLINES for limit in deadlines.values()) else deadlines,
        total=model.timeouts.total,
        hedge=None if hedge is None else Hedge(None if hedge.after == "p95" else hedge.after, hedge.max_cost_share),
        drain=model.on_disconnect == "drain",
    )
    return None if conduct == Conduct() else conduct


def _shorter(own: Deadlines, written: DeadlineSettings) -> Deadlines:
    pairs = (own.first_byte, written.first_byte), (own.idle, written.idle)
    first_byte, idle = (min((one for one in pair if one is not None), default=None) for pair in pairs)
    return Deadlines(first_byte, idle, written.total)


def _strategy(model: ModelSettings) -> Strategy:
    if model.strategy is None:
        return "weighted" if model.weighted else "priority"
    return "priority" if model.strategy == "cheapest" else model.strategy


def price_rules(settings: Settings) -> PriceRules:
    """Where prices come from."""
    return PriceRules(
        own={target: _price(price) for target, price in settings.prices.models.items()},
        presets={name: provider.preset or name for name, provider in settings.providers.items()},
        simulated=frozenset({DEMO}),
        unknown=settings.prices.unknown,
    )


def _price(written: PriceSettings) -> Price:
    price = Price(
        _rates(written),
        tuple(Tier(tier.above, _rates(tier)) for tier in written.tiers),
        request=yocto(Fraction(written.request or 0) * MILLION),
        as_of=str(written.as_of or ""),
        source="settings",
    )
    shares = {name: getattr(written, name) for name in SERVICE_TIERS}
    known = {name: at_share(price, Fraction(share)) for name, share in shares.items() if share is not None}
    return replace(price, service_tiers=known)


def _rates(written: RateSettings) -> Rates:
    known = {part: getattr(written, part) for part in Rates.__struct_fields__}
    return Rates.of({part: yocto(usd) for part, usd in known.items() if usd is not None})


def compared(settings: Settings) -> list[str]:
    """Targets that are compared with others by how they do."""
    return [name for model in settings.models.values() if len(model.targets) > 1 for name in model.names]


def retries(settings: Settings) -> RetryRules:
    """How often a request is asked for, and how long."""
    return RetryRules(settings.routing.max_attempts, settings.routing.patience)


def standings(settings: Settings) -> StandingRules:
    """When a target is passed over."""
    routing, breaker = settings.routing, settings.routing.breaker
    circuit = CircuitRules(breaker.failures, breaker.successes, breaker.pause)
    return StandingRules(circuit, routing.retry_budget, routing.cool_down)


def groups(settings: Settings) -> Mapping[str, str]:
    """The cache groups by tenant."""
    return {name: tenant.cache_group for name, tenant in settings.tenants.items() if tenant.cache_group is not None}


def limit_rules(settings: Settings) -> LimitRules:
    """Whose limits are what; of models those that have some."""
    models = {name: limits(model.limits) for name, model in settings.models.items()}
    return LimitRules(
        keys=limits(settings.limits),
        tenants={name: limits(tenant.limits) for name, tenant in settings.tenants.items()},
        models={name: of_model for name, of_model in models.items() if of_model != NO_LIMITS},
        budgets=BudgetRules(
            keys=budget(settings.budget),
            tenants={name: budget(tenant.budget) for name, tenant in settings.tenants.items()},
        ),
    )


def defaults(settings: Settings) -> Defaults:
    """What a key has where it says nothing itself."""
    return Defaults(limits(settings.limits), budget(settings.budget))


def budget(budget: BudgetSettings) -> Budget:
    """The same, as rules take it."""
    return Budget(*(None if usd is None else nano(usd) for usd in (budget.day, budget.month)))


def outputs(settings: Settings) -> Mapping[str, int]:
    """The most tokens that targets answer with, where that is said."""
    written = [target for model in settings.models.values() for target in model.targets]
    return {target.target: target.output for target in written if target.output is not None}


def limits(limits: LimitSettings) -> Limits:
    """The same, as rules take them."""
    return Limits(limits.requests_per_minute, limits.tokens_per_minute, limits.concurrency)


def experiments(settings: Settings) -> tuple[Experiment, ...]:
    """Those that are under way, in their order."""
    return tuple(_experiment(name, one) for name, one in settings.experiments.items() if one.enabled)


def _experiment(name: str, written: ExperimentSettings) -> Experiment:
    arms = tuple(Arm(arm, **one.model_dump()) for arm, one in written.arms.items())
    about = (frozenset(names) for names in (written.models, written.keys, written.tenants, written.namespaces))
    return Experiment(name, arms, written.by, written.share, *about)


def capacity(settings: Settings) -> Capacity:
    """How many requests at once."""
    server = settings.server
    return Capacity(server.max_in_flight, server.queue, server.queue_wait)


def ttl_rules(settings: Settings) -> TtlRules:
    """How long answers are kept."""
    per_model = {name: model.ttl for name, model in settings.models.items() if model.ttl is not None}
    return TtlRules(settings.cache.ttl, per_model)


def bound_rules(settings: Settings) -> BoundRules:
    """What becomes of questions that are bound to their moment or their asker."""
    bound = settings.cache.bound
    return BoundRules(personal=bound.personal, time=bound.time, brief=bound.ttl)


def longest_call(settings: Settings) -> float:
    """Seconds that a call to any provider may take, at least."""
    return min((provider.timeouts.total for provider in settings.providers.values()), default=LONGEST_CALL)


def habits(settings: Settings) -> Habits:
    """Which hits are compared with a provider's answer. The demo's never are: there is nothing to learn from a fake."""
    semantic = settings.cache.semantic
    return Habits(
        exploration=semantic.exploration,
        audit=semantic.audit,
        shadow=semantic.shadow,
        simulated=frozenset({DEMO}),
        judge=semantic.judge,
        budget=semantic.evidence_budget,
        threshold=semantic.threshold,
        most_wrong=settings.cache.max_wrong_hit_rate,
        least=semantic.min_threshold,
    )


def thresholds(settings: Settings) -> Thresholds:
    """How near is near enough."""
    semantic = settings.cache.semantic
    return Thresholds(semantic.threshold, semantic.min_threshold, error_budgets(settings))


def error_budgets(settings: Settings) -> ErrorBudgets:
    """How many wrong hits are allowed where."""
    places = (settings.models, settings.cache.namespaces)
    models, namespaces = ({name: place.max_wrong_hit_rate for name, place in rooms.items()} for rooms in places)
    return ErrorBudgets(settings.cache.max_wrong_hit_rate, _said(models), _said(namespaces))


def _said(rates: Mapping[str, float | None]) -> Mapping[str, float]:
    return {name: rate for name, rate in rates.items() if rate is not None}
