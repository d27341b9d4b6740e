"""Experiments on live traffic: who is in which arm, and what the arms have come to. Pure.

Who is in an arm is told by a keyed hash of who asks, never by time or chance: the same conversation (or key, or tenant) is in the
same arm on every node and after every restart. Arms are compared by what each of these came to, not each request: requests of one
conversation are alike, and counting them one by one would promise more than is known.

Verdicts hold however often one looks. The usual 95 % interval misses the truth once in twenty looks, so that whoever watches long
enough sees a difference where there is none; `certain` is the asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha,
Kennedy and Ramdas (Annals of Statistics 52, 2024, theorem 2.2), which covers it at all times together.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from hashlib import blake2b
from statistics import NormalDist
from typing import Final, Literal

import msgspec

from sentinel_gateway.core.windows import percentile

Unit = Literal["conversation", "key", "tenant"]
"""What is in an arm as a whole."""
PART: Final = "\n"
"""Before the name of an arm, in that of the part of the cache which is its own: it is in no namespace."""
NORMAL: Final = NormalDist().inv_cdf(0.975)
LEAST_UNITS: Final = 30
"""Of each arm, before anything is said: the intervals are for many."""
TIGHTEST: Final = 1000.0
"""Units of an arm at which a verdict's interval is as narrow as it can be made."""
ERROR: Final = 0.05
"""The chance that any verdict of an experiment is ever wrong."""
MOST: Final = 10_000_000
"""Requests: whoever would have to wait for more waits in vain."""
UNLIKE: Final = 4.0
"""Standard deviations by which the units of two arms differ that were not put into them half and half."""
TINY: Final = 1e-300


class Arm(msgspec.Struct, frozen=True):
    """What is done otherwise, and for how many. Nothing but a name: all as usual.

    `model` answers in place of what was asked for. `threshold`: similarity alone decides, from this on. `shadow`: what would be
    served in other words is compared with a provider's answer, and never served.
    """

    name: str
    weight: float = 1.0
    model: str | None = None
    cache: bool = True
    semantic: bool = True
    threshold: float | None = None
    max_wrong_hit_rate: float | None = None
    ttl: float | None = None
    shadow: bool = False


class Asking(msgspec.Struct, frozen=True):
    """Who asks for what. `model` is the public name, `key` an id; empty where there is none."""

    model: str
    key: str
    tenant: str
    namespace: str


class Experiment(msgspec.Struct, frozen=True):
    """The first arm is what the others are compared with. Of `models`, `keys`, `tenants` and `namespaces` an empty one is all.

    `share` of the units take part.
    """

    name: str
    arms: tuple[Arm, ...]
    by: Unit = "conversation"
    share: float = 1.0
    models: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()
    tenants: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()

    def covers(self, asking: Asking) -> bool:
        """Is it about this request at all?"""
        return (
            (not self.models or asking.model in self.models)
            and (not self.keys or asking.key in self.keys)
            and (not self.tenants or asking.tenant in self.tenants)
            and (not self.namespaces or asking.namespace in self.namespaces)
        )


class Place(msgspec.Struct, frozen=True):
    """An arm of an experiment, and the number of who is in it."""

    experiment: str
    arm: Arm
    unit: int

    @property
    def name(self) -> str:
        """As headers, logs and the cache have it: `cheaper=small`."""
        return f"{self.experiment}={self.arm.name}"


def place(experiments: Sequence[Experiment], asking: Asking, conversation: Callable[[], str], secret: bytes) -> Place | None:
    """Where a request belongs: the first experiment that is about it and takes it; None for most."""
    units: dict[Unit, str] = {}
    for experiment in experiments:
        if experiment.covers(asking):
            unit = units.get(experiment.by) or units.setdefault(experiment.by, _unit(experiment.by, asking, conversation, secret))
            if experiment.share >= 1.0 or _draw(secret, experiment.name, "", unit) < experiment.share:
                return Place(experiment.name, _arm(experiment, unit, secret), _number(secret, experiment.name, unit))
    return None


def _unit(by: Unit, asking: Asking, conversation: Callable[[], str], secret: bytes) -> str:
    """A tenant's conversation, its key, or itself. Each part but the last says how long it is, so that none runs into another.

    Digested, since an opening may be long, and is drawn from for every arm.
    """
    about = conversation() if by == "conversation" else asking.key if by == "key" else ""
    text = f"{len(asking.tenant)},{asking.tenant}{about}"
    return blake2b(text.encode(errors="replace"), key=secret[:64], digest_size=16, person=b"sentinel-exp-uni").hexdigest()


def _arm(experiment: Experiment, unit: str, secret: bytes) -> Arm:
    """By weights, and so that an arm which comes or goes moves no more units than it has (Efraimidis and Spirakis)."""
    return min(
        experiment.arms,
        key=lambda arm: -math.log(max(_draw(secret, experiment.name, arm.name, unit), TINY)) / arm.weight,
    )


def _draw(secret: bytes, experiment: str, arm: str, unit: str) -> float:
    return _hashed(secret, f"{experiment}\n{arm}\n{unit}") / 2**64


def _number(secret: bytes, experiment: str, unit: str) -> int:
    """Of a unit, in 63 bits, as databases hold them. It tells nobody who that is."""
    return _hashed(secret, f"{experiment}\n\n{unit}\n") >> 1


def _hashed(secret: bytes, text: str) -> int:
    digest = blake2b(text.encode(errors="replace"), key=secret[:64], digest_size=8, person=b"sentinel-experim")
    return int.from_bytes(digest.digest())


# --- what came of it ---


class Sums(msgspec.Struct, frozen=True):
    """Of a figure over the units of an arm: its sum, that of its squares, and that of its products with the unit's requests."""

    total: float = 0.0
    squares: float = 0.0
    products: float = 0.0


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """What the requests of an arm came to. `cost`, `saved`: nano-USD; `latency`: microseconds; `size`: of the requests a unit.

    `latencies` and `first_tokens` are counts by bucket (`core.windows`); the latter of streams alone.
    """

    arm: str
    units: int = 0
    requests: int = 0
    size: float = 0.0
    """The sum of the squares of the requests of each unit."""
    outcomes: Mapping[str, int] = {}
    hits: Sums = Sums()
    errors: Sums = Sums()
    cost: Sums = Sums()
    latency: Sums = Sums()
    saved: int = 0
    latencies: Mapping[int, int] = {}
    first_tokens: Mapping[int, int] = {}


class Figure(msgspec.Struct, frozen=True):
    """A value and the interval that covers it with 95 %."""

    value: float
    low: float
    high: float


def proportion(sums: Sums, tally: Tally) -> Figure:
    """Of requests: hits, errors. Wilson's interval, for as many independent requests as the units are worth."""
    if not tally.requests:
        return Figure(0.0, 0.0, 1.0)
    rate = sums.total / tally.requests
    variance = _variance(sums, tally)
    worth = rate * (1.0 - rate) / variance if variance > 0.0 else float(tally.units)
    middle = rate + NORMAL**2 / (2.0 * worth)
    spread = NORMAL * math.sqrt(rate * (1.0 - rate) / worth + NORMAL**2 / (4.0 * worth**2))
    scale = 1.0 + NORMAL**2 / worth
    return Figure(rate, max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale))


def mean(sums: Sums, tally: Tally) -> Figure:
    """A request's."""
    if not tally.requests:
        return Figure(0.0, 0.0, 0.0)
    value = sums.total / tally.requests
    spread = NORMAL * math.sqrt(_variance(sums, tally))
    return Figure(value, max(0.0, value - spread), value + spread)


def quantile(buckets: Mapping[int, int], rank: float, tally: Tally) -> Figure:
    """In milliseconds, of a latency that is known by its bucket. The interval is that of the ranks around it.

    It is as wide as if the requests of a unit were all alike, which is the most that they can be: buckets don't tell of units.
    """
    count = sum(buckets.values())
    if not count:
        return Figure(0.0, 0.0, 0.0)
    worth = count * tally.requests / tally.size
    spread = NORMAL * math.sqrt(rank * (1.0 - rank) / worth)
    low, high = max(0.0, rank - spread), min(1.0, rank + spread)
    return Figure(percentile(buckets, rank), percentile(buckets, low), percentile(buckets, high))


def _variance(sums: Sums, tally: Tally) -> float:
    """Of the mean by request, where units and not requests are independent (the ratio estimator's)."""
    if tally.units <= 1:
        return 0.0
    rate = sums.total / tally.requests
    spread = sums.squares - 2.0 * rate * sums.products + rate * rate * tally.size
    return max(0.0, spread) / tally.requests**2 * tally.units / (tally.units - 1)


# --- what follows from it ---

Metric = Literal["hit_rate", "error_rate", "cost", "latency"]
METRICS: Final[Mapping[Metric, Callable[[Tally], Sums]]] = {
    "hit_rate": lambda tally: tally.hits,
    "error_rate": lambda tally: tally.errors,
    "cost": lambda tally: tally.cost,
    "latency": lambda tally: tally.latency,
}


class Comparison(msgspec.Struct, frozen=True):
    """An arm beside the first one: by how much it is more in a metric, and the interval of that, which holds at all times.

    `more_requests`: about so many, of all arms together, until a difference like the one seen would be shown; None where it is
    shown, or where none of that size is in sight.
    """

    arm: str
    metric: Metric
    difference: float
    low: float
    high: float
    shown: bool
    more_requests: int | None = None


def unlike(tallies: Sequence[Tally], arms: Sequence[Arm] = ()) -> frozenset[str]:
    """The arms that are not to be judged beside the first one, since they are of another size.

    Of equal arms with caches of their own the larger one hits more often, and so costs less. `arms`: as they are configured, if
    they still are. Weights may have been others before, so what came of them has a say too.
    """
    configured = {arm.name: arm for arm in arms}
    found = set()
    for tally in tallies[1:]:
        first, arm = configured.get(tallies[0].arm), configured.get(tally.arm)
        if first is not None and arm is not None and not (first.cache or arm.cache):
            continue
        weighed = first is not None and arm is not None and first.weight != arm.weight
        units = tallies[0].units, tally.units
        if weighed or abs(units[0] - units[1]) > UNLIKE * math.sqrt(sum(units)):
            found.add(tally.arm)
    return frozenset(found)


def compare(tallies: Sequence[Tally], but: Collection[str] = ()) -> Iterator[Comparison]:
    """All arms with the first, in all metrics; of those with too few units, and of those in `but`, nothing is said."""
    if not tallies:
        return
    control, *others = tallies
    error = ERROR / max(1, len(others) * len(METRICS))
    for arm in others:
        if arm.arm not in but and min(control.units, arm.units) >= LEAST_UNITS:
            for metric, sums in METRICS.items():
                yield _compared(control, arm, metric, sums, error)


def _compared(control: Tally, arm: Tally, metric: Metric, sums: Callable[[Tally], Sums], error: float) -> Comparison:
    one, other = sums(control), sums(arm)
    difference = other.total / arm.requests - one.total / control.requests
    deviation = math.sqrt(_variance(one, control) + _variance(other, arm))
    units = min(control.units, arm.units)
    spread = certain(units, error) * deviation
    shown = abs(difference) > spread > 0.0
    more = None
    if not shown and difference and deviation:
        needed = _needed(units, abs(difference) / deviation, error)
        requests = control.requests + arm.requests
        more = None if needed is None else math.ceil(requests * (needed / units - 1.0))
    return Comparison(
        arm=arm.arm,
        metric=metric,
        difference=difference,
        low=difference - spread,
        high=difference + spread,
        shown=shown,
        more_requests=more if more is not None and more <= MOST else None,
    )


def certain(units: float, error: float) -> float:
    """How many standard errors wide an interval is to each side that covers the truth at all times, but with chance `error`."""
    rho = (-2.0 * math.log(error) + math.log(1.0 - 2.0 * math.log(error))) / TIGHTEST
    known = units * rho
    return math.sqrt((known + 1.0) / known * math.log((known + 1.0) / error**2))


def _needed(units: int, seen: float, error: float) -> float | None:
    """Units of an arm at which a difference of `seen` standard errors, as they are at `units`, is shown; None: beyond measure."""
    needed = float(units)
    for _ in range(64):
        if seen * math.sqrt(needed / units) > certain(needed, error):
            return needed
        needed *= 1.1
    return None
