"""Alerts, wired: rules and channels of the settings, and the figures that rules go by, from all rooms that have some."""

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Final, get_args
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from sentinel_gateway import __version__, rules
from sentinel_gateway.alerts.reports import Report, Schedule
from sentinel_gateway.alerts.watch import Plan, Watch
from sentinel_gateway.alerts.webhook import Webhook, secret_bytes
from sentinel_gateway.core.alerting.board import Habits
from sentinel_gateway.core.alerting.conditions import month_start
from sentinel_gateway.core.alerting.figures import BIN, Figures, Needs, Served
from sentinel_gateway.core.alerting.notices import Message
from sentinel_gateway.core.alerting.reports import Past, Wanted, report
from sentinel_gateway.core.alerting.rules import DAY, HOUR, Rule, default_rules
from sentinel_gateway.core.anomalies import Anomaly, find_anomalies
from sentinel_gateway.core.budgets import BudgetUse
from sentinel_gateway.core.circuit import State
from sentinel_gateway.core.confidence.interval import Estimate
from sentinel_gateway.core.stretches import Stretch
from sentinel_gateway.core.windows import Window
from sentinel_gateway.errors import ChannelDown, ConfigurationError, StoreDown, UpstreamError
from sentinel_gateway.pipeline.allowances import uses
from sentinel_gateway.pipeline.budgeting import BudgetRules
from sentinel_gateway.ports import Clock, Events
from sentinel_gateway.ports.alerts import Channel
from sentinel_gateway.providers._deadlines import Timeouts
from sentinel_gateway.providers._http import Endpoint, HttpClient
from sentinel_gateway.settings.alerts import AlertChannel, AlertRule
from sentinel_gateway.settings.model import Settings
from sentinel_gateway.settings.reports import Weekday
from sentinel_gateway.storage import Stores
from sentinel_gateway.stores.alerts import SqlAlerts

WEBHOOK: Final = Timeouts(connect=5.0, first_byte=10.0, idle=10.0, total=15.0)
ANSWER: Final = 64 * 1024
"""Bytes of what a webhook answers that are read; what it says is not looked at."""
LOOKED_BACK: Final = 2 * DAY
"""Seconds of calls that anomalies are found in."""
DAY_NAMES: Final = get_args(Weekday)
CALLED: Final = HOUR
"""Seconds without a call after which a provider's health is a story of old."""


def open_watch(stores: Stores, node: str, clock: Clock, events: Events) -> Watch:
    """Who looks and tells, beside the keys; does nothing before it is given a plan."""
    return Watch(SqlAlerts(stores.state.place), node=node, clock=clock, events=events, stamp=stamp)


def make_plan(settings: Settings, stores: Stores, http: HttpClient, clock: Clock) -> Plan:
    """What is to be told, and to whom; raises `ConfigurationError` for a channel that can't be opened."""
    alerts = settings.alerts
    if not alerts.on:
        return Plan()
    return Plan(
        rules=tuple(make_rules(settings)),
        gather=Gatherer(stores, rules.limit_rules(settings).budgets, enabled(settings)),
        channels={name: open_channel(name, one, http, clock) for name, one in alerts.channels.items()},
        habits=Habits(alerts.group, alerts.cool_down, alerts.repeat),
        on=True,
        every=alerts.every,
        kept=alerts.retention * DAY,
        service=settings.service.name,
        reports=tuple(make_reports(settings)),
        compile=Reporter(stores, settings.service.name).compile if settings.reports else None,
    )


def enabled(settings: Settings) -> frozenset[str]:
    """The providers that may be asked, but for the demo, which never fails."""
    return frozenset(name for name, provider in settings.providers.items() if provider.enabled)


def make_rules(settings: Settings) -> Iterator[Rule]:
    """Those that are on, the operator's own first."""
    own = settings.alerts.rules
    yield from (_rule(name, written) for name, written in own.items() if written.enabled)
    if settings.alerts.defaults:
        default = default_rules(most_wrong=settings.cache.max_wrong_hit_rate)
        yield from (rule for rule in default if rule.name not in own)


def make_reports(settings: Settings) -> Iterator[Report]:
    """Those that come by themselves."""
    for name, written in settings.reports.items():
        weekday = DAY_NAMES.index(written.on or "monday") if written.every == "week" else None
        wanted = Wanted(name=name, period=written.every, channels=written.channels, by=written.by, metrics=tuple(written.metrics))
        yield Report(wanted, Schedule(ZoneInfo(written.zone), written.at, weekday))


def _rule(name: str, written: AlertRule) -> Rule:
    limit = next((one for one in (written.above, written.below, written.allowed) if one is not None), 0.0)
    names = (
        "kind",
        "window",
        "floor",
        "by",
        "provider",
        "model",
        "anomalies",
        "least",
        "after",
        "severity",
        "channels",
        "description",
    )
    rule = Rule(name=name, metric=written.metric or "", limit=limit, **{field: getattr(written, field) for field in names})
    return replace(rule, below=written.below is not None, against=written.against or 0)


def open_channel(name: str, written: AlertChannel, http: HttpClient, clock: Clock) -> Channel:
    """Raises `ConfigurationError`."""
    if written.webhook is not None and written.secret is not None:
        post = partial(_post, http, name, written.webhook.get_secret_value())
        return Webhook(name, post, secret_bytes(written.secret.get_secret_value()), clock=clock, stamp=stamp)
    assert written.apprise is not None  # noqa: S101 - for the types' sake: a channel has one or the other
    place = f"alerts.channels.{name}.apprise"
    try:
        from sentinel_gateway.alerts.services import Service  # noqa: PLC0415 - who uses none may lack the package
    except ModuleNotFoundError as exc:
        fix = f"needs the package {exc.name}, which is not installed: pip install 'sentinel-gateway[alerts]'"
        raise ConfigurationError([(place, fix)]) from exc
    try:
        return Service(name, written.apprise.get_secret_value())
    except ValueError as exc:
        raise ConfigurationError([(place, str(exc))]) from exc


async def _post(http: HttpClient, name: str, url: str, headers: Mapping[str, str], body: bytes) -> int:
    """By the client that providers are asked with: no redirect, no address of a cloud's metadata, a deadline for everything."""
    try:
        reply = await http.send(Endpoint(name, url, headers, WEBHOOK), body)
        await reply.read_whole(ANSWER)
    except UpstreamError as exc:
        raise ChannelDown(f"it can't be reached, or does not answer as it should ({exc.kind})") from exc
    return reply.status


def lone_client() -> HttpClient:
    """For who has no gateway: the command line."""
    return HttpClient(via="sentinel-alerts", version=__version__)


def stamp(at: float) -> str:
    """A moment, as people and programs read it."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"


def wrong_hits(stores: Stores) -> Estimate | None:
    """How many answers to reworded questions are wrong, as it is known now; None where nobody looks for that."""
    evidence = None if stores.semantic is None else stores.semantic.evidence
    return None if evidence is None else evidence.log.standings.overall.wrong


def _those(circuits: Mapping[str, State], state: State) -> set[str]:
    return {target for target, found in circuits.items() if found == state}


class Reporter:
    """Makes reports of what the ledger has, by whole hours (UTC), and of what is known of wrong hits."""

    def __init__(self, stores: Stores, service: str) -> None:
        self._stores = stores
        self._service = service

    def __repr__(self) -> str:
        return f"<Reporter of {self._service}>"

    async def compile(self, wanted: Wanted, since: float, until: float) -> Message | None:
        """None while the ledger can't be read: it is asked again at the next look."""
        books = self._stores.books
        if books is None:
            return None
        begin, end = (int(moment) // HOUR * HOUR for moment in (since, until))
        try:
            requests = await books.history.stretches(begin - (end - begin), end, seconds=HOUR)
            calls = await books.history.windows(begin, end, seconds=HOUR)
        except StoreDown:
            return None
        sums = Stretch(begin), Stretch(begin - (end - begin))
        for one in requests:
            sums[one.start < begin].add(one)
        past = Past(since=begin, until=end, requests=sums[0], before=sums[1], calls=calls, wrong=wrong_hits(self._stores))
        return await asyncio.to_thread(report, wanted, past, service=self._service, stamp=stamp)


class Gatherer:
    """What is known now. Whatever can't be told, because a store is away or off, is None.

    `budgets` and `providers` are the configuration's.
    """

    def __init__(self, stores: Stores, budgets: BudgetRules, providers: Collection[str]) -> None:
        self._stores = stores
        self._budgets_set = budgets
        self._providers = providers
        self._history = None if stores.books is None else stores.books.history
        self._anomalies: tuple[int, Sequence[Anomaly]] | None = None

    def __repr__(self) -> str:
        return f"<Gatherer of {self._history!r}>"

    async def __call__(self, needs: Needs, now: float) -> Figures:
        """Of what is needed."""
        wanted = needs.metrics
        calls, served, month, anomalies = await asyncio.gather(
            self._calls(needs.calls, now), self._served(needs.served, now), self._month(needs, now), self._unusual(needs, now)
        )
        circuits = await self._circuits() if "circuit_open" in wanted else None
        return Figures(
            now=now,
            calls=calls,
            served=served,
            month=month,
            anomalies=anomalies,
            health=await self._health(now) if "provider_health" in wanted else None,
            open_circuits=None if circuits is None else _those(circuits, "open"),
            half_open=() if circuits is None else _those(circuits, "half_open"),
            budgets=await self._budgets(now) if "budget_used" in wanted else None,
            wrong=wrong_hits(self._stores) if "wrong_hit_rate" in wanted else None,
        )

    async def _calls(self, seconds: int, now: float) -> Sequence[Window] | None:
        if self._history is None or not seconds:
            return None
        with suppress(StoreDown):
            return await self._history.windows(int(now) - seconds - BIN, int(now) + 1, seconds=BIN)
        return None

    async def _served(self, seconds: int, now: float) -> Sequence[Served] | None:
        if self._history is None or not seconds:
            return None
        with suppress(StoreDown):
            return await self._history.served(int(now) - seconds - BIN, int(now) + 1)
        return None

    async def _month(self, needs: Needs, now: float) -> int | None:
        if self._history is None or not needs.month:
            return None
        with suppress(StoreDown):  # by hours: of those that are over, what was read is believed for long
            return sum(one.cost for one in await self._history.windows(month_start(now), int(now) + 1, seconds=HOUR))
        return None

    async def _unusual(self, needs: Needs, now: float) -> Sequence[Anomaly] | None:
        """Anew every 5 minutes: nothing is found within a stretch that is not over."""
        stretch = int(now) // BIN
        if self._history is None or not needs.anomalies:
            return None
        if self._anomalies is None or self._anomalies[0] != stretch:
            self._anomalies = None
            with suppress(StoreDown):
                windows = await self._history.windows(int(now) - LOOKED_BACK, int(now), seconds=BIN)
                self._anomalies = stretch, await asyncio.to_thread(find_anomalies, windows, int(now))
        return None if self._anomalies is None else self._anomalies[1]

    async def _health(self, now: float) -> Mapping[str, float] | None:
        """Of whom requests may still go to and lately did: scores have no end, so that of any other would be told for ever."""
        scores = await self._stores.recent.find_health()
        if scores is None:
            return None
        own = {name: score for name, score in scores.items() if name in self._providers}
        heard = await self._stores.recent.get_health_history(own)
        last = {name: samples[-1][0] for name, samples in heard.items() if samples}
        return {name: score for name, score in own.items() if last.get(name, now) > now - CALLED}

    async def _circuits(self) -> Mapping[str, State] | None:
        """By target, of any node; what this one knows itself it knows better."""
        known = await self._stores.recent.find_circuits()
        if known is None:
            return None
        states = {f"{one.provider}/{one.model}": one.state for one in known} | self._stores.circuits.states()
        return {target: state for target, state in states.items() if target.partition("/")[0] in self._providers}

    async def _budgets(self, now: float) -> list[BudgetUse]:
        """Those in which anything was spent in the window that is under way."""
        state = self._stores.state
        parts, holders = list(state.accounts.table.items()), list(state.ring.holders())
        return await asyncio.to_thread(lambda: list(uses(parts, holders, self._budgets_set, now, spent=True)))  # as many as keys
