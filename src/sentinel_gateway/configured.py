"""What is configured, as people are told it: each setting, where it was written, and what another configuration would change.

Nothing is written here: what is in force comes from files and the environment, and it is changed there. Secrets are compared, and
never told; neither is what a draft takes from the environment, or whoever may try drafts could read all of that.
"""

import asyncio
import hmac
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from secrets import token_bytes
from typing import Any, Final

import msgspec
from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined

from sentinel_gateway.errors import ConfigurationError, ConfigurationMoved
from sentinel_gateway.ports.configuration import Change, Checked, Setting, Source
from sentinel_gateway.settings.environment import DOTENV
from sentinel_gateway.settings.layers import Origin, Places, dotted
from sentinel_gateway.settings.load import Load, Loaded
from sentinel_gateway.settings.model import Location, Settings, is_secret
from sentinel_gateway.settings.restart import SEMANTIC, changed, needing_restart, room_by_restart
from sentinel_gateway.settings.schema import field_at

MASK: Final = "***"
MOST_CHANGES: Final = 500
"""Of a draft, that are told of: each takes ten microseconds, of which the event loop has some."""
MOVED: Final = "The configuration is not what was looked at any more, so nothing was changed: look at it again, then reload."
SOURCES: Final[Mapping[str, Source]] = {"env": "environment", "flag": "flag", DOTENV: "dotenv"}
"""By how a place begins; all others are of a file."""

Values = Mapping[Location, Any]


class Configured:
    """Behind `ConfigurationDesk`. `loaded` is what the process began with.

    `prove` raises `ConfigurationError` for settings that are right by themselves, and could not be used here all the same.
    """

    def __init__(self, load: Load, loaded: Loaded, prove: Callable[[Settings], object]) -> None:
        self._load = load
        self._prove = prove
        self._first = loaded.settings
        self._now = loaded
        self._at_first = self._in_force = _values(loaded.settings)
        self._told: Sequence[Setting] | None = None
        """Of what is in force now, once somebody has asked."""
        self._key = token_bytes(32)
        self._drafts = ThreadPoolExecutor(1, thread_name_prefix="sentinel-drafts")
        """One after the other: each keeps Python busy for a tenth of a second or two."""

    def __repr__(self) -> str:
        return f"<Configured by {', '.join(self._now.files) or 'no file'}>"

    @property
    def files(self) -> Sequence[str]:
        return self._now.files

    def settings(self) -> Sequence[Setting]:
        """Every one of them, in the order of the model."""
        if self._told is None:
            waiting, first = set(changed(self._first, self._now.settings)), self._at_first
            self._told = [
                self._setting(place, value, waits=self._room(place) in waiting and first.get(place) != value)
                for place, value in self._in_force.items()
            ]
        return self._told

    async def check(self, draft: str | None) -> Checked:
        """Faults are told, not raised."""
        return await asyncio.get_running_loop().run_in_executor(self._drafts, self._judged, draft)

    def _judged(self, draft: str | None) -> Checked:
        """All of it in that thread: what a long draft would change takes as long to tell as the draft takes to read."""
        try:
            loaded = self._load(draft=draft)
            self._prove(loaded.settings)
        except ConfigurationError as error:
            return Checked(faults=error.faults)
        values = _values(loaded.settings)
        found, most = self._changes(loaded, values, hides=draft is not None), None if draft is None else MOST_CHANGES
        changes = list(islice(found, most))
        more = () if next(found, None) is None else (f"it would change more than these {most} settings",)
        return Checked(changes=changes, notes=(*more, *loaded.notes), mark=self._mark(values))

    async def close(self) -> None:
        """The thread of the drafts ends, with the draft that it has."""
        await asyncio.to_thread(self._drafts.shutdown, cancel_futures=True)

    async def load(self, mark: str | None = None) -> Loaded:
        """What files and environment say now. Raises `ConfigurationError`, and `ConfigurationMoved` if that has another mark."""
        loaded = await asyncio.to_thread(self._load)
        if mark is not None and not hmac.compare_digest(mark.encode(), self._mark(_values(loaded.settings)).encode()):
            raise ConfigurationMoved(MOVED, param="mark")
        return loaded

    def use(self, loaded: Loaded) -> list[str]:
        """From now on this one is in force; what is to be said of it."""
        self._now, self._in_force, self._told = loaded, _values(loaded.settings), None
        return [*loaded.notes, *needing_restart(self._first, loaded.settings)]

    def _setting(self, place: Location, value: Any, *, waits: bool) -> Setting:
        field, origin = field_at(place), _origin(place, self._now)
        default = (
            None if field is None or field.default is PydanticUndefined or isinstance(field.default, dict) else field.default
        )
        filled_in = place[0] == "providers" and value != default
        return Setting(
            name=dotted(place),
            about="" if field is None else field.description or "",
            value=_shown(value),
            default=_shown(default),
            source="preset" if origin is None and filled_in else _source(origin),
            place="" if origin is None else origin.place,
            by_restart=self._room(place) is not None,
            waits=waits,
        )

    def _room(self, place: Location) -> str | None:
        """What a change of it waits for the next start with; the semantic tier does only where the start had it off."""
        room = room_by_restart(place)
        return None if room == SEMANTIC and self._first.cache.semantic.enabled else room

    def _changes(self, wanted: Loaded, after: Values, *, hides: bool) -> Iterator[Change]:
        """By setting. What needs a restart is held against the process as it began: only that is in force."""
        before, first = self._in_force, self._at_first
        moved = [place for place in {**before, **after} if not after.get(place) == before.get(place) == first.get(place)]
        if not moved:
            return
        waiting, hidden = set(changed(self._first, wanted.settings)), _OfDraft(wanted) if hides else None
        for place in moved:
            new, room = after.get(place), self._room(place)
            old = (first if room else before).get(place)
            if old == new or (room is not None and room not in waiting):
                continue
            origin = _origin(place, wanted)
            yield Change(
                name=dotted(place),
                before=_shown(old),
                after=MASK if hidden is not None and new is not None and place in hidden else _shown(new),
                place="" if origin is None else origin.place,
                by_restart=room is not None,
            )

    def _mark(self, values: Values) -> str:
        """Keyed, since secrets are in it."""
        return hmac.digest(self._key, msgspec.json.encode(list(values.items()), enc_hook=_plain), "sha256").hex()


class _OfDraft:
    """The places whose values hold, or may hold, what was taken from elsewhere: wherever it stands in them."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._hidden = Places(place for place, origin in loaded.origins.items() if origin.hidden)
        # A provider takes over what is written for its preset's own name. Secrets of them are masked wherever they come to.
        self._is_in_providers = any(place[0] == "providers" and not is_secret(place) for place in self._hidden.at)

    def __repr__(self) -> str:
        return f"<_OfDraft, {len(self._hidden.at)} hidden>"

    def __contains__(self, place: Location) -> bool:
        written = _written(place, self._loaded)
        if written in self._hidden:
            return True
        taken_over = written not in self._loaded.origins or written[2:] == ("base_url",)  # which may name the region
        return self._is_in_providers and place[0] == "providers" and taken_over


def _values(settings: Settings) -> Values:
    """Every single one by its place, in the order of the model; a list is one."""
    return dict(_leaves(settings))


def _leaves(room: BaseModel, place: Location = ()) -> Iterator[tuple[Location, Any]]:
    for name, value in room:
        yield from _leaf(value, (*place, name))


def _leaf(value: Any, place: Location) -> Iterator[tuple[Location, Any]]:
    if isinstance(value, BaseModel):
        yield from _leaves(value, place)
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaf(inner, (*place, str(name)))
    else:
        yield place, value


def _origin(place: Location, loaded: Loaded) -> Origin | None:
    """Where it was written."""
    return loaded.origins.get(_written(place, loaded))


def _written(place: Location, loaded: Loaded) -> Location:
    """Its place as it was written: targets may stand in the place of their model."""
    stands_in = place[0] == "models" and place[2:] == ("targets",) and place not in loaded.origins
    return place[:2] if stands_in else place


def _source(origin: Origin | None) -> Source:
    if origin is None:
        return "default"
    head = origin.place.partition(" ")[0]
    return SOURCES.get(head.partition(":")[0], "file")


def _shown(value: Any) -> Any:
    return _plain(value, hides=True)


def _plain(value: Any, *, hides: bool = False) -> Any:
    """As JSON has it. Of rooms in lists only what differs from their defaults."""
    match value:
        case SecretStr():
            return MASK if hides else value.get_secret_value()
        case None | bool() | str() | float():
            return value
        case int():
            return int(value)  # sizes are a kind of their own
        case BaseModel():
            fields = type(value).model_fields
            return {name: _plain(one, hides=hides) for name, one in value if one != fields[name].default}
        case list() | tuple():
            return [_plain(one, hides=hides) for one in value]
        case _:
            return str(value)
