"""Synthetic days of traffic, with what went wrong in them known: to hold what is found against it.

Nothing here is shared with what finds it. Calls come by a gamma-Poisson process that follows the day; latencies and lengths are
lognormal, with a level that wanders and follows the load; failures come singly and in small clumps.
"""

import math
from dataclasses import dataclass

import numpy as np

from sentinel_gateway.core.windows import BOUNDS, Window

BIN = 300
DAY = 86_400
START = 1_780_012_800
"""Midnight, in Unix seconds."""
BINS = 2 * DAY // BIN
"""The day before is known, too."""
BUSY = (300.0, math.inf)
"""Calls an hour in the middle of the day, from and to: of models on which faults are planted."""
RARE = (60.0, 300.0)


@dataclass(frozen=True)
class Model:
    """`hourly` calls of the middle of the day; `latency` in milliseconds, `cost` in nano-USD, both medians."""

    provider: str
    name: str
    hourly: float
    latency: float
    spread: float
    failing: float
    cost: float


@dataclass(frozen=True)
class Planted:
    """What went wrong, in bins; `model` is empty where it is all of the provider."""

    kind: str
    provider: str
    model: str
    first: int
    last: int
    size: float
    silent: bool = False

    def holds(self, model: Model, bin_: int) -> bool:
        return self.provider == model.provider and self.model in {"", model.name} and self.first <= bin_ <= self.last


def fleet(chance: np.random.Generator) -> list[Model]:
    """Four providers with one to three models each, some busy, some rare."""
    models = []
    for provider in ("openai", "anthropic", "groq", "gemini"):
        for number in range(chance.integers(1, 4)):
            hourly = float(np.exp(chance.uniform(np.log(60), np.log(3000))))
            latency, cost = float(np.exp(chance.uniform(5.5, 8.5))), float(np.exp(chance.uniform(11, 16)))
            spread, failing = float(chance.uniform(0.3, 0.8)), float(chance.uniform(0.001, 0.02))
            models.append(Model(provider, f"model-{number}", hourly, latency, spread, failing, cost))
    return models


def pace(bin_: int) -> float:
    """How busy it is, as a share of the busiest."""
    return 0.15 + 0.85 * (0.5 - 0.5 * np.cos(2 * np.pi * bin_ * BIN / DAY)) ** 1.5


def plant(chance: np.random.Generator, models: list[Model], hourly: tuple[float, float]) -> list[Planted]:
    """One fault of each kind on the second day, on models with so many calls, as far as each has a model to itself."""
    chosen = [model for model in models if hourly[0] <= model.hourly < hourly[1]]
    chance.shuffle(chosen)
    faults: list[Planted] = []
    kinds = [str(kind) for kind in chance.permutation(["latency_shift", "error_burst", "cost_jump", "dead_provider"])]
    for kind, model in zip(kinds, chosen, strict=False):
        if any(fault.provider == model.provider and "dead_provider" in {kind, fault.kind} for fault in faults):
            continue  # nothing else can be seen of a provider that is dead
        first = BINS // 2 + int(chance.integers(7 * 12, 21 * 12))
        last = first + int(chance.integers(6, 30))
        size = {
            "latency_shift": chance.uniform(2, 6),
            "error_burst": chance.uniform(0.15, 0.8),
            "cost_jump": chance.uniform(2, 6),
            "dead_provider": 1.0,
        }[kind]
        name = "" if kind == "dead_provider" else model.name
        faults.append(Planted(kind, model.provider, name, first, last, float(size), silent=bool(chance.integers(2))))
    return faults


def day(seed: int, *, calm: bool = False, hourly: tuple[float, float] = BUSY) -> tuple[list[Window], list[Planted]]:
    """Two days by 5 minutes, and what went wrong on the second."""
    chance = np.random.default_rng(seed)
    models = fleet(chance)
    faults = [] if calm else plant(chance, models, hourly)
    windows = [window for model in models for window in _windows(chance, model, faults)]
    return sorted(windows, key=lambda window: (window.start, window.series)), faults


def _windows(chance: np.random.Generator, model: Model, faults: list[Planted]):
    slow = dear = 0.0
    for bin_ in range(BINS):
        slow, dear = 0.9 * slow + chance.normal(0, 0.03), 0.95 * dear + chance.normal(0, 0.02)
        load = pace(bin_)
        calls = int(chance.poisson(model.hourly / 12 * load * chance.gamma(20, 1 / 20)))
        failing, latency, cost = model.failing, model.latency * np.exp(slow) * (1 + 0.2 * load), model.cost * np.exp(dear)
        if chance.random() < 0.01:  # a clump of failures that means nothing
            failing += 2 / max(calls, 20)
        for fault in faults:
            if not fault.holds(model, bin_):
                continue
            match fault.kind:
                case "latency_shift":
                    latency *= fault.size
                case "error_burst":
                    failing = fault.size
                case "cost_jump":
                    cost *= fault.size
                case "dead_provider":
                    calls, failing = 0 if fault.silent else calls, 1.0
        if calls:
            yield _window(chance, model, START - DAY + bin_ * BIN, calls, failing, latency, cost)


def _window(chance, model: Model, start: int, calls: int, failing: float, latency: float, cost: float) -> Window:
    failed = int(chance.binomial(calls, min(failing, 1.0)))
    good = calls - failed
    took = (1000 * latency * np.exp(chance.normal(0, model.spread, good))).astype(int)
    paid = (cost * np.exp(chance.normal(0, 0.9, good))).astype(int)
    found, counts = np.unique(np.searchsorted(BOUNDS, took), return_counts=True)
    endings = {name: count for name, count in (("answered", good), ("broken", failed)) if count}
    buckets = {int(bucket): int(count) for bucket, count in zip(found, counts, strict=True)}
    whole = {"requests": calls, "cost": int(paid.sum()), "latency": int(took.sum())}
    return Window(start, model.provider, model.name, **whole, endings=endings, buckets=buckets)
