"""What is stored: looked through, searched by words or meaning, seen, pinned, ended, and cleared after a look at what would go.

Everything is a link or a form, so that it works by keyboard and without a script; all of it is what the admin API tells and does.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from fastapi import Request
from pydantic import ValidationError

from sentinel_gateway.api.admin import Admin, ClearRequest
from sentinel_gateway.api.cache_admin import CacheAdmin
from sentinel_gateway.api.cache_bodies import EntriesQuery
from sentinel_gateway.api.dashboard import words
from sentinel_gateway.api.dashboard.door import Visit
from sentinel_gateway.api.dashboard.forms import Form
from sentinel_gateway.api.dashboard.pages import HOME, Action, Context, Page, Screen
from sentinel_gateway.api.guard import OPERATOR
from sentinel_gateway.core.caching import DAY
from sentinel_gateway.errors import InvalidField, RequestError
from sentinel_gateway.ports import Clock

PATH: Final = f"{HOME}/cache"
PER_PAGE: Final = 25
FILTERS: Final = ("tenant", "namespace", "model", "tag", "writer")
STATES: Final = {"live": "Live", "pinned": "Pinned", "expired": "Expired", "all": "All"}
AGES: Final = {"": "any age", "3600": "over 1 hour", "86400": "over a day", "604800": "over a week", "2592000": "over 30 days"}
ENDS: Final = {"3600": "1 hour", "86400": "1 day", "604800": "1 week"}
WHERE: Final = {"memory": "in memory", "disk": "on disk", "redis": "in Redis"}
SIMILARITIES: Final = ("", "0.7", "0.8", "0.9", "0.95")


class CachePage(Screen):
    """The page. `entries` and `clearing` are the API that it asks."""

    page = Page(
        name="cache",
        title="Cache",
        path=PATH,
        access="admin",
        reads=(
            "/admin/cache/entries",
            "/admin/cache/entries/{id}",
            "/admin/cache/entries/{id}/pin",
            "/admin/cache/entries/{id}/unpin",
            "/admin/cache/entries/{id}/expire",
            "/admin/cache/clear",
        ),
    )

    def __init__(self, entries: CacheAdmin, clearing: Admin, clock: Clock) -> None:
        self._entries = entries
        self._clearing = clearing
        self._clock = clock

    def __repr__(self) -> str:
        return f"<CachePage {self._entries!r}>"

    def actions(self) -> Sequence[Action]:
        return [
            Action(path=f"{PATH}/pin", access=OPERATOR, act=self.pin),
            Action(path=f"{PATH}/unpin", access=OPERATOR, act=self.unpin),
            Action(path=f"{PATH}/expire", access="admin", act=self.expire),
            Action(path=f"{PATH}/remove", access="admin", act=self.remove),
            Action(path=f"{PATH}/clear", access="admin", act=self.clear),
        ]

    async def show(self, request: Request) -> Context:
        """A page of entries, or one entry, or what a clear would remove: by the query, as the forms of the page send it."""
        visit: Visit = request.state.visit
        asked = {name: value for name, value in request.query_params.items() if value}
        context = {
            "asked": {
                name: asked.get(name, "")
                for name in (*FILTERS, "words", "like", "state", "older_than", "similar_to", "min_similarity")
            },
            "states": STATES,
            "ages": AGES,
            "ends": ENDS,
            "similarities": SIMILARITIES,
            "operates": visit.may(OPERATOR),
            "may_change": visit.session is not None,
            "entries": None,
            "entry": None,
            "preview": None,
            "why": "",
        }
        try:
            if "id" in asked:
                context["entry"] = self._whole(await self._entries.one(visit.caller, asked["id"]))
            elif "preview" in asked:
                context["preview"] = await self._previewed(visit, asked)
            else:
                context["entries"] = await self._listed(visit, asked)
        except RequestError as error:
            context["why"] = error.message
        except ValidationError as error:
            context["why"] = _faults(error)
        return context

    async def pin(self, request: Request, form: Form) -> str:
        """Keep an answer for good."""
        await self._entries.keep(request.state.caller, form.get("id", ""))
        return "Pinned: it does not end, and no newer answer takes its place."

    async def unpin(self, request: Request, form: Form) -> str:
        """Have it end again."""
        ttl = form.get("ttl", "")
        seconds = float(ttl) if ttl in ENDS else DAY
        await self._entries.release(request.state.caller, form.get("id", ""), seconds)
        return f"Not pinned any more: it ends in {words.span(seconds)}."

    async def expire(self, request: Request, form: Form) -> str:
        """End it now."""
        await self._entries.end(request.state.caller, form.get("id", ""))
        return "Ended: it serves no more."

    async def remove(self, request: Request, form: Form) -> str:
        """Remove it."""
        await self._entries.drop(request.state.caller, form.get("id", ""))
        return "Removed, from every tier of every node."

    async def clear(self, request: Request, form: Form) -> str:
        """Clear what was looked at."""
        try:
            asked = ClearRequest.model_validate(_chosen(form))
        except ValidationError as error:
            raise InvalidField(_faults(error)) from error
        told = await self._clearing.carry_out(request.state.caller, asked)
        return f"{told['message']}: {words.count(told['cleared'])}."

    async def _listed(self, visit: Visit, asked: Mapping[str, str]) -> dict[str, Any]:
        known = {name: value for name, value in asked.items() if name in EntriesQuery.model_fields}
        told = await self._entries.page(visit.caller, EntriesQuery.model_validate(known | {"limit": PER_PAGE}))
        rest = {name: value for name, value in known.items() if name != "cursor"}
        return told | {
            "rows": [self._row(entry) for entry in told["data"]],
            "next": None if told["next"] is None else f"{PATH}?{urlencode(rest | {'cursor': told['next']})}",
            "where": WHERE[told["tier"]],
            "begun": "cursor" in known,
            "first": f"{PATH}?{urlencode(rest)}",
            "filtered": bool(rest),
        }

    async def _previewed(self, visit: Visit, asked: Mapping[str, str]) -> dict[str, Any]:
        chosen = _chosen(asked)
        told = await self._clearing.foresee(visit.caller, ClearRequest.model_validate(chosen))
        fields = {name: str(value) for name, value in chosen.items()}
        return told | {"rows": [self._row(entry) for entry in told["sample"]], "fields": fields, "everything": not fields}

    def _row(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        now = self._clock()
        left = None if entry["expires"] is None else entry["expires"] - now
        return {
            **entry,
            "href": f"{PATH}?{urlencode({'id': entry['id']})}",
            "age": words.span(max(0.0, now - entry["created"])),
            "ends": "pinned" if left is None else f"in {words.span(left)}" if left > 0 else f"{words.span(-left)} ago",
            "kind": "good" if left is None else "" if left > 0 else "warn",
            "near": f"{entry['similarity']:.3f}" if "similarity" in entry else "",
        }

    def _whole(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        return self._row(entry) | {
            "where": WHERE[entry["tier"]],
            "made": words.moment(entry["created"]),
            "cost": words.usd(entry["cost_usd"]),
            "tokens": words.count(entry["prompt_tokens"] + entry["completion_tokens"]),
        }


def _chosen(form: Mapping[str, str]) -> dict[str, Any]:
    """What a form of the page says of a clear."""
    chosen: dict[str, Any] = {name: form[name] for name in (*FILTERS, "similar_to") if form.get(name)}
    for name in ("older_than", "min_similarity"):
        if form.get(name):
            chosen[name] = float(form[name]) if form[name].replace(".", "", 1).isdecimal() else form[name]
    return chosen


def _faults(error: ValidationError) -> str:
    return " ".join(
        f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}." for fault in error.errors(include_url=False, include_input=False)
    )
