"""What fires, which rules there are, who is told, and what was told; with a test for each channel and a word to be quiet.

Channels go by their names: what is secret of them is not told here, as it is nowhere.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from fastapi import Request
from pydantic import ValidationError

from sentinel_gateway.api.alerts import AlertAdmin, TestBody
from sentinel_gateway.api.dashboard.forms import Form
from sentinel_gateway.api.dashboard.pages import HOME, Action, Context, Page, Part, Screen
from sentinel_gateway.api.guard import OPERATOR
from sentinel_gateway.errors import InvalidField, RequestError

if TYPE_CHECKING:
    from sentinel_gateway.api.dashboard.door import Visit

PATH: Final = f"{HOME}/alerts"
AT_ONCE: Final = 25
"""Lines of the history on a page."""
DIGITS: Final = 18
"""Of the longest number of a line."""
ORDER: Final = ("firing", "pending", "ok", "resolved")
STATES: Final = {"firing": "bad", "pending": "warn", "resolved": "good", "ok": "good"}
SEVERITIES: Final = {"page": "bad", "ticket": "warn"}
KINDS: Final = {
    "firing": "bad",
    "resolved": "good",
    "delivered": "good",
    "undelivered": "bad",
    "dropped": "bad",
    "test": "",
    "silenced": "",
}
SILENCES: Final = {"60": "1 hour", "480": "8 hours", "1440": "1 day", "10080": "1 week"}
"""Minutes."""
AGAIN: Final = "0"


class AlertsPage(Screen):
    """The page. `desk` is the API that it asks."""

    page = Page(
        name="alerts",
        title="Alerts",
        path=PATH,
        access=OPERATOR,
        reads=("/admin/alerts", "/admin/alerts/history", "/admin/alerts/test", "/admin/alerts/{rule}/silence"),
    )

    def __init__(self, desk: AlertAdmin) -> None:
        self._desk = desk

    def __repr__(self) -> str:
        return f"<AlertsPage {self._desk!r}>"

    def parts(self) -> Sequence[Part]:
        return [Part(path=f"{PATH}/now", template="alerts_now.html", show=self.now)]

    def actions(self) -> Sequence[Action]:
        return [
            Action(path=f"{PATH}/test", access=OPERATOR, act=self.test),
            Action(path=f"{PATH}/silence", access=OPERATOR, act=self.silence),
        ]

    async def show(self, request: Request) -> Context:
        """All of it; of the history one page."""
        visit: Visit = request.state.visit
        context: dict[str, Any] = {"may_change": visit.session is not None, "silences": SILENCES, "history": None}
        told = await self._told()
        if told["why"]:
            return context | told
        try:
            context["history"] = await self._history(request.query_params.get("cursor", ""))
        except RequestError as error:
            told["why"] = error.message
        return context | told

    async def now(self, _: Request) -> Context:
        """What fires, and what has not arrived."""
        return await self._told()

    async def test(self, request: Request, form: Form) -> str:
        """Send a test to a channel."""
        try:
            asked = TestBody(channel=form.get("channel", ""))
        except ValidationError as exc:
            raise InvalidField("Choose a channel that is on the page.", param="channel") from exc
        told = await self._desk.send_test(request.state.caller, asked.channel)
        if told["delivered"]:
            return f"The test has arrived at “{asked.channel}”."
        return f"The test has not arrived at “{asked.channel}”: {told['detail']}."

    async def silence(self, request: Request, form: Form) -> str:
        """Be quiet about a rule for a while, or no longer."""
        minutes = form.get("minutes", "")
        if minutes not in {*SILENCES, AGAIN}:
            raise InvalidField("Choose for how long, of what the page offers.", param="minutes")
        told = await self._desk.be_quiet(request.state.caller, form.get("rule", ""), float(minutes))
        if told["silenced_until"] is None:
            return f"“{told['rule']}” is told of again."
        return f"Nobody is told that “{told['rule']}” fires until {_moment(told['silenced_until'])} UTC."

    async def _told(self) -> dict[str, Any]:
        try:
            told = await self._desk.show()
        except RequestError as error:
            return {"why": error.message, "told": None, "firing": [], "late": [], "channels": [], "rules": []}
        names = [one["name"] for one in told["channels"]]
        rules = sorted((_rule(one, names) for one in told["rules"]), key=lambda rule: ORDER.index(rule["state"]))
        waiting = {one["channel"]: one | {"since": _moment(one["oldest"])} for one in told["waiting"]}
        return {
            "why": "",
            "told": told,
            "firing": [one for rule in rules for one in rule["firing"]],
            "late": list(waiting.values()),
            "channels": [one | {"waiting": waiting.get(one["name"])} for one in told["channels"]],
            "rules": rules,
        }

    async def _history(self, asked: str) -> dict[str, Any]:
        is_number = asked.isascii() and asked.isdigit() and len(asked) <= DIGITS
        cursor = int(asked) if is_number and int(asked) > 0 else None
        page = await self._desk.history(cursor, AT_ONCE)
        rows = [
            one | {"at": _moment(one["at"]), "look": KINDS[one["kind"]], "of": one["rule"] or one["channel"]}
            for one in page["data"]
        ]
        return {"rows": rows, "next": page["next"], "first": cursor is None}


def _rule(rule: Mapping[str, Any], channels: Sequence[str]) -> dict[str, Any]:
    firing = [
        alert
        | {
            "rule": rule["name"],
            "severity": rule["severity"],
            "look": SEVERITIES[rule["severity"]],
            "since": _moment(alert["since"]),
            "told": "" if alert["told"] is None else _moment(alert["told"]),
            "quiet": rule["silenced_until"] is not None,
        }
        for alert in rule["alerts"]
        if alert["state"] == "firing"
    ]
    return {
        **rule,
        "look": STATES[rule["state"]],
        "tells": "" if rule["channels"] == channels else ", ".join(rule["channels"]),
        "until": "" if rule["silenced_until"] is None else _moment(rule["silenced_until"]),
        "firing": firing,
        "when": rule["when"][:1].upper() + rule["when"][1:],
    }


def _moment(stamp: str) -> str:
    """`2026-01-31 14:03` of a stamp of the API's."""
    return stamp.replace("T", " ")[:16]
