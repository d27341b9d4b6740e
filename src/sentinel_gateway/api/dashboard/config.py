"""The configuration: every setting and where it was written, what a reload would change, and a draft tried beforehand.

Nothing here writes a configuration. The file is changed where it is; what is put in force is what was looked at, to the value.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from fastapi import Request

from sentinel_gateway.api.admin import Admin
from sentinel_gateway.api.configuration import LONGEST
from sentinel_gateway.api.dashboard.forms import Form
from sentinel_gateway.api.dashboard.pages import HOME, Action, Answer, Context, Page, Screen
from sentinel_gateway.api.guard import OPERATOR
from sentinel_gateway.errors import InvalidField
from sentinel_gateway.ports.configuration import Change, ConfigurationDesk, Setting

if TYPE_CHECKING:
    from sentinel_gateway.api.dashboard.door import Visit

PATH: Final = f"{HOME}/config"
ONLY: Final = {"set": "What is set", "all": "Everything"}
SOURCES: Final = {
    "default": "default",
    "preset": "filled in for this provider",
    "file": "",
    "dotenv": "",
    "environment": "",
    "flag": "",
}
"""What is said where there is no place."""
LONGEST_SHOWN: Final = 300


class ConfigPage(Screen):
    """The page. Readers see what is in force; the operator reloads, and tries drafts."""

    page = Page(
        name="config",
        title="Config",
        path=PATH,
        access="read",
        reads=("/config", "/config/sources", "/admin/config/check", "/admin/reload"),
    )

    def __init__(self, desk: ConfigurationDesk, admin: Admin) -> None:
        self._desk = desk
        self._admin = admin

    def __repr__(self) -> str:
        return f"<ConfigPage {self._desk!r}>"

    def actions(self) -> Sequence[Action]:
        return [Action(path=f"{PATH}/reload", access=OPERATOR, act=self.reload)]

    def answers(self) -> Sequence[Answer]:
        return [Answer(path=f"{PATH}/check", access=OPERATOR, show=self.check)]

    async def show(self, request: Request) -> Context:
        """What is in force, and what the files would have in force now."""
        return await self._context(request)

    async def check(self, request: Request, form: Form) -> Context:
        """The same, with what a draft would change. It is given back to be gone on with, and kept nowhere."""
        draft = form.get("yaml", "").replace("\r\n", "\n")
        if len(draft) > LONGEST:
            raise InvalidField(f"A draft here has {LONGEST:,} characters at most: 'sentinel check --config FILE' takes more.")
        return {**await self._context(request), "draft": draft, "drafted": await self._checked(draft)}

    async def reload(self, request: Request, form: Form) -> str:
        """Put in force what was looked at."""
        done = await self._admin.put_in_force(request.state.caller, form.get("mark") or None)
        return " ".join(["The configuration was reloaded, and is in force.", *(f"{note}." for note in done["notes"])])

    async def _context(self, request: Request) -> dict[str, Any]:
        visit: Visit = request.state.visit
        asked = request.query_params
        words, only = asked.get("words", "")[:100], "all" if asked.get("only") == "all" else "set"
        settings = self._desk.settings()
        told_of = [one for one in settings if one.source != "default"]
        shown = [one for one in (settings if only == "all" or words else told_of) if _fits(one, words)]
        operates = visit.may(OPERATOR)
        return {
            "operates": operates,
            "may_change": visit.session is not None and operates,
            "files": self._desk.files,
            "rooms": _by_room(shown),
            "shown": len(shown),
            "set": len(told_of),
            "total": len(settings),
            "waits": [one.name for one in settings if one.waits],
            "words": words,
            "only": only,
            "choices": ONLY,
            "now": await self._checked(None) if operates else None,
            "draft": "",
            "drafted": None,
            "longest": LONGEST,
        }

    async def _checked(self, draft: str | None) -> dict[str, Any]:
        checked = await self._desk.check(draft)
        return {
            "faults": [{"place": place, "fault": fault} for place, fault in checked.faults],
            "notes": checked.notes,
            "mark": checked.mark,
            "changes": [_change(one) for one in checked.changes],
            "by_restart": sum(one.by_restart for one in checked.changes),
        }


def _fits(setting: Setting, words: str) -> bool:
    """Are all the words in its name, or in what is said of it?"""
    text = f"{setting.name} {setting.about} {setting.place}".lower()
    return all(word in text for word in words.lower().split())


def _by_room(settings: Sequence[Setting]) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """What is in no room has the name of none."""
    rooms: dict[str, list[Mapping[str, Any]]] = {}
    for one in settings:
        room, dot, _ = one.name.partition(".")
        rooms.setdefault(room if dot else "", []).append(_setting(one))
    return rooms


def _setting(setting: Setting) -> Mapping[str, Any]:
    return {
        "name": setting.name,
        "about": setting.about,
        "value": _text(setting.value),
        "place": setting.place or SOURCES[setting.source],
        "is_set": setting.source not in {"default", "preset"},
        "by_restart": setting.by_restart,
        "waits": setting.waits,
    }


def _change(change: Change) -> Mapping[str, Any]:
    return {
        "name": change.name,
        "before": _text(change.before),
        "after": _text(change.after),
        "place": change.place,
        "by_restart": change.by_restart,
    }


def _text(value: Any) -> str:
    """As one would write it; what is not set is nothing."""
    text = ", ".join(_items(value)) if isinstance(value, list) else _one(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def _items(values: list[Any]) -> Iterator[str]:
    for value in values:
        alone = isinstance(value, dict) and value.keys() == {"target"}
        yield _one(value["target"] if alone else value)


def _one(value: Any) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case float():
            return str(int(value)) if value.is_integer() else repr(value)
        case _:
            return msgspec.json.encode(value).decode()
