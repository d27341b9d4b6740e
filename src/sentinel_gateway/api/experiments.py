"""`/admin/experiments`: what is tried on some requests, and what came of it, arm by arm."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Path, Query

from sentinel_gateway.api.analytics import DAY, NO_LEDGER, past_told
from sentinel_gateway.api.guard import Guard
from sentinel_gateway.api.operations import READ
from sentinel_gateway.core.budget import wrong_hits_of
from sentinel_gateway.core.evidence import Finding, wrong_hits
from sentinel_gateway.core.experiments import (
    LEAST_UNITS,
    Comparison,
    Experiment,
    Figure,
    Tally,
    compare,
    mean,
    proportion,
    quantile,
    unlike,
)
from sentinel_gateway.core.pricing import NANO_PER_USD
from sentinel_gateway.core.windows import MILLIS
from sentinel_gateway.errors import ExperimentNotFound, HistoryUnavailable, StoreDown
from sentinel_gateway.pipeline.evidence import Evidence
from sentinel_gateway.ports import Clock
from sentinel_gateway.ports.ledger import Tried, Windows

LONGEST_NAME: Final = 40
WORDS: Final = {
    "hit_rate": ("more of its requests are answered from the cache", "fewer of its requests are answered from the cache"),
    "error_rate": ("more of its requests end in an error", "fewer of its requests end in an error"),
    "cost": ("its requests cost more", "its requests cost less"),
    "latency": ("its answers take longer", "its answers come sooner"),
}
"""What is shown of an arm beside the first one: more, and less."""
CUT: Final = "Nothing is said any more: the ledger has kept no rows of how it began (ledger.retention)."

Name = Annotated[str, Path(min_length=1, max_length=LONGEST_NAME, description="An experiment's name.")]
Days = Annotated[int, Query(ge=1, le=90, description="What the last so many days came to.")]


class ExperimentAdmin:
    """The endpoints. `history` is None without a ledger, `evidence` without a semantic tier.

    `retention`: days that the ledger keeps rows; 0: for ever.
    """

    def __init__(
        self,
        experiments: Sequence[Experiment],
        history: Windows | None,
        evidence: Evidence | None,
        *,
        guard: Guard,
        clock: Clock,
        retention: float,
    ) -> None:
        self._experiments = {one.name: one for one in experiments}
        self._history = history
        self._evidence = evidence
        self._guard = guard
        self._clock = clock
        self._retention = retention

    def __repr__(self) -> str:
        return f"<ExperimentAdmin {', '.join(self._experiments)}>"

    def routes(self) -> APIRouter:
        """The router of these endpoints, each behind the admin key."""
        router = APIRouter(prefix="/admin/experiments", tags=["experiments"], dependencies=[Depends(self._guard.operator())])
        router.add_api_route("", self.show, methods=READ, operation_id="experiments_show")
        router.add_api_route("/{name}", self.results, methods=READ, operation_id="experiments_results")
        return router

    async def show(self, days: Days = 30) -> dict[str, Any]:
        """Those under way in their order, then those that are over and were tried in these days."""
        found = {one.name: one for one in await self._tried(days)}
        names = [*self._experiments, *(name for name in found if name not in self._experiments)]
        return {"days": days, "experiments": [self._told(name, found.get(name)) for name in names]}

    async def results(self, name: Name, days: Days = 30) -> dict[str, Any]:
        """What each arm came to in these days. Intervals cover with 95 %; rates are 0 to 1, money is in USD, times are in ms.

        What is said of differences goes by the whole experiment, whatever the days: it holds at all times for a start that stays.
        """
        found = {one.name: one for one in await self._tried(None)}
        if name not in self._experiments and name not in found:
            known = ", ".join(dict.fromkeys((*self._experiments, *found))) or "none"
            raise ExperimentNotFound(f"There is no experiment '{name}'. Known: {known}.", param="name")
        return await self._results(name, days, found.get(name), await self._labels(days))

    async def latest(self, most: int, days: int = 30) -> Sequence[Mapping[str, Any]]:
        """The results of the first so many that `show` has; what concerns all of them is read once."""
        found, since = {one.name: one for one in await self._tried(None)}, self._clock() - days * DAY
        over = (name for name, one in found.items() if name not in self._experiments and one.last >= since)
        names = [*self._experiments, *over][:most]
        labels = await self._labels(days) if names else None
        return [await self._results(name, days, found.get(name), labels) for name in names]

    async def _results(self, name: str, days: int, tried: Tried | None, labels: Sequence[Finding] | None) -> dict[str, Any]:
        now = int(self._clock())
        tallies = whole = await self._tallies(name, now - days * DAY)
        if tried is not None and tried.first < now - days * DAY:
            whole = await self._tallies(name, 0)
        is_cut = tried is not None and self._retention > 0 and tried.first < now - (self._retention - 1) * DAY
        skipped = unlike(whole, self._experiments[name].arms if name in self._experiments else ())
        compared = [] if is_cut else list(compare(whole, skipped))
        return self._told(name, tried) | {
            "days": days,
            "arms": [_arm(name, tally, labels) for tally in tallies],
            "compared": [_comparison(one) for one in compared],
            "verdict": CUT if is_cut else verdict(whole, compared, skipped),
        }

    async def _tried(self, days: int | None) -> Sequence[Tried]:
        """In so many days, or ever."""
        now = int(self._clock())
        with past_told():
            return await self._known().tried(0 if days is None else now - days * DAY, now + 1)

    async def _tallies(self, name: str, since: int) -> list[Tally]:
        """The arms in their order, the first one first; those that are configured no more come last."""
        with past_told():
            found = {one.arm: one for one in await self._known().tallies(name, since, int(self._clock()) + 1)}
        experiment = self._experiments.get(name)
        named = [] if experiment is None else [arm.name for arm in experiment.arms]
        return [found.pop(arm, Tally(arm=arm)) for arm in named] + list(found.values())

    async def _labels(self, days: int) -> Sequence[Finding] | None:
        """What was said of answers to reworded questions; None where that can't be read now."""
        if self._evidence is None:
            return None
        try:
            return await self._evidence.log.labelled(self._clock() - days * DAY)
        except StoreDown:
            return None

    def _told(self, name: str, found: Tried | None) -> dict[str, Any]:
        experiment = self._experiments.get(name)
        return {
            "name": name,
            "running": experiment is not None,
            "by": None if experiment is None else experiment.by,
            "share": None if experiment is None else experiment.share,
            "about": {} if experiment is None else _about(experiment),
            "changes": {} if experiment is None else {arm.name: _changes(arm) for arm in experiment.arms},
            "requests": 0 if found is None else found.requests,
            "first": None if found is None else _stamp(found.first),
            "last": None if found is None else _stamp(found.last),
        }

    def _known(self) -> Windows:
        if self._history is None:
            raise HistoryUnavailable(NO_LEDGER)
        return self._history


def _arm(name: str, tally: Tally, labels: Sequence[Finding] | None) -> dict[str, Any]:
    wrong, reported = wrong_hits(labels or (), wrong_hits_of(f"{name}={tally.arm}"))
    return {
        "arm": tally.arm,
        "units": tally.units,
        "requests": tally.requests,
        "outcomes": dict(tally.outcomes),
        "hit_rate": _figure(proportion(tally.hits, tally)),
        "error_rate": _figure(proportion(tally.errors, tally)),
        "latency_p50_ms": _figure(quantile(tally.latencies, 0.5, tally)),
        "latency_p95_ms": _figure(quantile(tally.latencies, 0.95, tally)),
        "first_token_p50_ms": _figure(quantile(tally.first_tokens, 0.5, tally)) if tally.first_tokens else None,
        "cost": tally.cost.total / NANO_PER_USD,
        "cost_per_request": _figure(mean(tally.cost, tally), NANO_PER_USD),
        "saved": tally.saved / NANO_PER_USD,
        "wrong_hits": None if labels is None else msgspec.to_builtins(wrong),
        "reported_wrong": reported,
    }


def verdict(tallies: Sequence[Tally], compared: Sequence[Comparison], skipped: Collection[str] = ()) -> str:
    """What can be said now, in words. It holds however often one looks."""
    judged = [tally for tally in tallies if tally.arm not in skipped]
    beside = f" Not judged, being of another size than {tallies[0].arm}: {', '.join(sorted(skipped))}." if skipped else ""
    if len(judged) == 1 and skipped:
        return f"Nothing is judged: arms of unlike size fill caches unlike. Give them equal weights.{beside}"
    if not compared:
        units = min((tally.units for tally in judged), default=0)
        return f"Too early to say: {units} in the smallest arm, and nothing is said of fewer than {LEAST_UNITS}.{beside}"
    control = tallies[0].arm
    shown = [one for one in compared if one.shown]
    if shown:
        words = "; ".join(f"{one.arm}: {WORDS[one.metric][one.difference < 0]}" for one in shown)
        return f"Beside {control}, {words}.{beside}"
    waits = [one.more_requests for one in compared if one.more_requests is not None]
    more = (
        f"about {min(waits):,} more requests would show one of the size seen"
        if waits
        else "none of a size that matters is in sight"
    )
    return f"No difference shown yet; {more}.{beside}"


def _comparison(one: Comparison) -> dict[str, Any]:
    unit = {"cost": NANO_PER_USD, "latency": MILLIS}.get(one.metric, 1.0)
    shown: dict[str, Any] = msgspec.to_builtins(one)
    return shown | {name: shown[name] / unit for name in ("difference", "low", "high")}


def _figure(figure: Figure, unit: float = 1.0) -> dict[str, float]:
    return {"value": figure.value / unit, "low": figure.low / unit, "high": figure.high / unit}


def _about(experiment: Experiment) -> dict[str, list[str]]:
    about = {name: sorted(getattr(experiment, name)) for name in ("models", "keys", "tenants", "namespaces")}
    return {name: names for name, names in about.items() if names}


def _changes(arm: msgspec.Struct) -> dict[str, Any]:
    """What it does otherwise, and its weight."""
    usual = dict(zip(arm.__struct_fields__[1:], arm.__struct_defaults__, strict=True))
    said = {name: getattr(arm, name) for name in usual}
    return {name: value for name, value in said.items() if name == "weight" or value != usual[name]}


def _stamp(at: int) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"
