"""Client keys and tenants: who has which; made, rotated, revoked, given budgets, as the key administration's endpoints do it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, get_args

import msgspec
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from sentinel_gateway.api.dashboard import words
from sentinel_gateway.api.dashboard.forms import Form
from sentinel_gateway.api.dashboard.pages import HOME, Action, Context, Page, Part, Screen
from sentinel_gateway.api.keys import BudgetBody, CreateBody, KeyAdmin, RotateBody
from sentinel_gateway.core.access import KeyScope
from sentinel_gateway.errors import InvalidField
from sentinel_gateway.ports import Clock

PATH: Final = f"{HOME}/keys"
DAY: Final = 86_400
AT_ONCE: Final = 50
STATES: Final = {"active": "good", "revoked": "bad", "expired": "off"}
LIMITS: Final = {"requests_per_minute": "requests/min", "tokens_per_minute": "tokens/min", "concurrency": "at once"}
SPANS: Final = ("day", "month")
ABOUT: Final[Mapping[KeyScope, str]] = {"inference": "asks models", "read": "looks at figures", "admin": "manages keys"}


class Keys(Screen):
    """The page."""

    page = Page(
        name="keys",
        title="Keys & tenants",
        path=PATH,
        access="admin",
        reads=("/admin/keys", "/admin/keys/{id}/revoke", "/admin/keys/{id}/rotate", "/admin/keys/{id}/budget"),
    )

    def __init__(self, keys: KeyAdmin, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Keys of {self._keys!r}>"

    def parts(self) -> Sequence[Part]:
        return [Part(path=f"{PATH}/list", template="keys_list.html", show=self.show)]

    def actions(self) -> Sequence[Action]:
        return [
            Action(path=f"{PATH}/create", access="admin", act=self.create),
            Action(path=f"{PATH}/revoke", access="admin", act=self.revoke),
            Action(path=f"{PATH}/rotate", access="admin", act=self.rotate),
            Action(path=f"{PATH}/budget", access="admin", act=self.allot),
        ]

    async def show(self, request: Request) -> Context:
        """A page of keys, in the order of their names."""
        asked = request.query_params
        search, tenant = asked.get("search", "")[:100], asked.get("tenant", "")[:1024]
        cursor = asked.get("cursor") or None
        found = await self._keys.list_keys(request, search, tenant or None, cursor, AT_ONCE)
        return {
            "keys": [self._shown(key) for key in found["data"]],
            "next": found["next"],
            "search": search,
            "tenant": tenant,
            "first": cursor is None,
            "about": ABOUT,
        }

    async def create(self, request: Request, form: Form) -> str:
        """Make a key. Its text is shown once, on the next page."""
        try:
            asked = CreateBody.model_validate_json(msgspec.json.encode(_asked(form, self._clock())))
            made = await self._keys.make(request.state.caller, asked)
        except (ValidationError, RequestValidationError) as exc:
            raise _told(exc) from exc
        return f"Key “{made['name']}” is made. Copy it now, it is never shown again: {made['key']}"

    async def revoke(self, request: Request, form: Form) -> str:
        """End a key."""
        key = await self._keys.revoke(request, form.get("id", ""))
        return f"Key “{key['name']}” is revoked: it opens nothing any more, on every node within a second."

    async def rotate(self, request: Request, form: Form) -> str:
        """A new text for a key; the old one lives on for a day."""
        made = await self._keys.renew(request, form.get("id", ""), RotateBody())
        return f"The new key of “{made['name']}”; the old one works for another day. Copy it now: {made['key']}"

    async def allot(self, request: Request, form: Form) -> str:
        """Give a key another budget. What is left empty is no budget."""
        try:
            asked = BudgetBody.model_validate_json(msgspec.json.encode(_budget(form)))
            key = await self._keys.allot(request, form.get("id", ""), asked)
        except (ValidationError, RequestValidationError) as exc:
            raise _told(exc) from exc
        spending = _spending(key)
        said = f"may spend {spending} from now on" if spending else "has no budget of its own any more"
        return f"“{key['name']}” {said}."

    def _shown(self, key: Mapping[str, Any]) -> dict[str, Any]:
        limits = [
            f"{words.count(key['limits'][name])} {unit}" for name, unit in LIMITS.items() if key["limits"][name] is not None
        ]
        return {
            **{name: key[name] for name in ("id", "name", "tenant", "hint", "scopes", "models", "status", "trial")},
            "kind": STATES[key["status"]],
            "created": words.moment(key["created"]),
            "expires": words.moment(key["expires"]) if key["expires"] is not None else "never",
            "limits": ", ".join(limits),
            "budget": _spending(key),
            "budgets": {span: "" if key["budget"][span] is None else key["budget"][span] for span in SPANS},
        }


def _spending(key: Mapping[str, Any]) -> str:
    """What it may spend, in words; nothing where it has no budget of its own."""
    return ", ".join(f"{words.usd(float(amount))} a {span}" for span, amount in key["budget"].items() if amount is not None)


def _budget(form: Form) -> dict[str, str | None]:
    return {span: form.get(f"budget_{span}", "").strip() or None for span in SPANS}


def _asked(form: Form, now: float) -> dict[str, Any]:
    """A form's fields as the API has them; what is left empty is not asked for."""
    given = {name: text.strip() for name, text in form.items() if text.strip()}
    asked: dict[str, Any] = {
        "name": given.get("name", ""),
        "scopes": [scope for scope in get_args(KeyScope) if f"scope_{scope}" in given],
        "models": [model.strip() for model in given.get("models", "").split(",") if model.strip()],
        "limits": {name: _number(given, name) for name in LIMITS},
        "budget": _budget(form),
        "trial": "trial" in given,
    }
    if "tenant" in given:
        asked["tenant"] = given["tenant"]
    if (days := _number(given, "days")) is not None:
        asked["expires"] = now + days * DAY
    return asked


def _number(given: Form, name: str) -> int | None:
    text = given.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise InvalidField(f"'{name.replace('_', ' ')}' must be a whole number.", param=name)
    return int(text[:20])


def _told(fault: ValidationError | RequestValidationError) -> InvalidField:
    first = fault.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    return InvalidField(f"Invalid value for '{place}': {first['msg']}.", param=place)
