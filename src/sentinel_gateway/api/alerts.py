"""`/admin/alerts`: which rules there are and how they stand, what has been told to whom, a test, and a word to be quiet."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import Field

from sentinel_gateway.api.bodies import StrictBody, read_body, takes
from sentinel_gateway.api.guard import Guard
from sentinel_gateway.api.operations import READ
from sentinel_gateway.core.alerting.board import Alert
from sentinel_gateway.core.alerting.rules import Rule
from sentinel_gateway.core.alerting.words import condition
from sentinel_gateway.core.issuance import AuditEntry
from sentinel_gateway.errors import AlertNotFound, AlertsUnavailable, ChannelDown, KeysUnavailable, StoreDown
from sentinel_gateway.ports import AuditLog, Clock
from sentinel_gateway.ports.alerts import AlertDesk, Entry, Silence

if TYPE_CHECKING:
    from sentinel_gateway.core.access import Caller

MINUTE: Final = 60.0
LONGEST_SILENCE: Final = 30 * 24 * 60
MOST_ROWS: Final = (1 << 63) - 1
ORDER: Final = ("firing", "pending", "resolved")
"""Of an alert's phases: a rule is in the first that one of its alerts is in."""
OFF: Final = "Nobody looks: name a channel or a rule under 'alerts' in the configuration, or set alerts.enabled to true."

RuleName = Annotated[str, Path(min_length=1, max_length=64, description="A rule's name.")]
PageSize = Annotated[int, Query(ge=1, le=200, description="Most of them to tell of.")]
Cursor = Annotated[int | None, Query(ge=1, le=MOST_ROWS, description="'next' of the page before.")]


class TestBody(StrictBody):
    """The channel to send a test to."""

    channel: Annotated[str, Field(min_length=1, max_length=64)]


class SilenceBody(StrictBody):
    """For so many minutes nobody is told that the rule's alerts fire; 0 ends that."""

    minutes: Annotated[float, Field(ge=0, le=LONGEST_SILENCE)] = 60.0


class AlertAdmin:
    """The endpoints."""

    def __init__(self, desk: AlertDesk, log: AuditLog, *, guard: Guard, clock: Clock) -> None:
        self._desk = desk
        self._log = log
        self._guard = guard
        self._clock = clock

    def routes(self) -> APIRouter:
        """The router of these endpoints, each behind the admin key."""
        router = APIRouter(prefix="/admin/alerts", tags=["alerts"], dependencies=[Depends(self._guard.operator())])
        router.add_api_route("", self.show, methods=READ, operation_id="alerts_show")
        router.add_api_route("/history", self.history, methods=READ, operation_id="alerts_history")
        router.add_api_route("/test", self.test, methods=["POST"], openapi_extra=takes(TestBody))
        router.add_api_route("/{rule}/silence", self.silence, methods=["POST"], openapi_extra=takes(SilenceBody))
        return router

    async def show(self) -> dict[str, Any]:
        """The rules, how each stands, the channels without what is secret of them, and what has not arrived there yet."""
        desk, now = self._desk, self._clock()
        async with _store():
            board, silences = await desk.store.look()
            waiting = await desk.store.waiting()
        quiet = {one.rule: one for one in silences if one.until > now}
        alerts: dict[str, list[Alert]] = {}
        for alert in board.alerts:
            alerts.setdefault(alert.rule, []).append(alert)
        return {
            "enabled": desk.is_on,
            "note": None if desk.is_on else OFF,
            "channels": [{"name": one.name, "kind": one.kind} for one in desk.channels.values()],
            "waiting": [
                {"channel": one.channel, "letters": one.letters, "oldest": _stamp(one.oldest), "tries": one.tries}
                for one in waiting
            ],
            "rules": [
                _rule(rule, desk.channels, alerts.get(rule.name, ()), board.beyond.get(rule.name, 0), quiet.get(rule.name))
                for rule in desk.rules
            ],
        }

    async def history(self, cursor: Cursor = None, limit: PageSize = 50) -> dict[str, Any]:
        """What has begun, what is over, and what was delivered, the newest first."""
        async with _store():
            page = await self._desk.store.history(limit=limit, cursor=cursor)
        return {"data": [_entry(entry) for entry in page.entries], "next": page.next}

    async def test(self, request: Request) -> dict[str, Any]:
        """Send a message to one channel, now. `delivered` says whether it arrived, `detail` why not."""
        asked = await read_body(request, TestBody)
        return await self.send_test(request.state.caller, asked.channel)

    async def send_test(self, caller: "Caller", channel: str) -> dict[str, Any]:
        """Raises `AlertNotFound`."""
        await self._record(caller, "alert.test", channel, {})
        try:
            id_ = await self._desk.test(channel)
        except ChannelDown as exc:
            return {"channel": channel, "delivered": False, "id": None, "detail": str(exc)}
        return {"channel": channel, "delivered": True, "id": id_, "detail": None}

    async def silence(self, request: Request, rule: RuleName) -> dict[str, Any]:
        """Acknowledge what a rule tells: for some minutes nobody is told that its alerts fire. That they are over, is told."""
        asked = await read_body(request, SilenceBody)
        return await self.be_quiet(request.state.caller, rule, asked.minutes)

    async def be_quiet(self, caller: "Caller", rule: str, minutes: float) -> dict[str, Any]:
        """Raises `AlertNotFound`."""
        if all(one.name != rule for one in self._desk.rules):
            known = ", ".join(one.name for one in self._desk.rules) or "none, as nobody looks"
            raise AlertNotFound(f"There is no rule '{rule}' in force. Those that are: {known}.", param="rule")
        await self._record(caller, "alert.silence", rule, {"minutes": minutes})
        now = self._clock()
        until = now + minutes * MINUTE
        said = f"for {minutes:g} minutes, by {caller.actor}" if minutes else f"no longer, by {caller.actor}"
        async with _store():
            await self._desk.store.silence(
                Silence(rule, until, caller.actor), Entry(at=now, kind="silenced", rule=rule, text=said)
            )
        return {"rule": rule, "silenced_until": _stamp(until) if minutes else None}

    async def _record(self, caller: "Caller", action: str, object_: str, after: dict[str, Any]) -> None:
        """Before it is done, as every change."""
        entry = AuditEntry(at=self._clock(), actor=caller.actor, action=action, object=object_, after=after)
        try:
            await self._log.append(entry)
        except StoreDown as exc:
            raise KeysUnavailable("The audit log can't be written, so nothing was done: try again.", retry_after=1.0) from exc


def _rule(
    rule: Rule, channels: Iterable[str], alerts: Iterable[Alert], beyond: int, silence: Silence | None
) -> Mapping[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(rule)
    phases = {alert.phase for alert in alerts}
    return shown | {
        "when": condition(rule),
        "channels": list(rule.channels or channels),
        "state": next((phase for phase in ORDER if phase in phases), "ok"),
        "silenced_until": None if silence is None else _stamp(silence.until),
        "silenced_by": None if silence is None else silence.actor,
        "alerts": [
            {
                "subject": alert.subject,
                "state": alert.phase,
                "since": _stamp(alert.since),
                "told": None if alert.told is None else _stamp(alert.told),
                "value": alert.value,
                "text": alert.text,
            }
            for alert in alerts
        ],
        "more": beyond,
    }


def _entry(entry: Entry) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(entry)
    return shown | {"at": _stamp(entry.at)}


def _stamp(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"


@asynccontextmanager
async def _store() -> AsyncIterator[None]:
    """What the caller is told where the store does not answer."""
    try:
        yield
    except StoreDown as exc:
        raise AlertsUnavailable("Alerts can't be read or changed now: send the same again.", retry_after=1.0) from exc
