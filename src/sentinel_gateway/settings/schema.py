"""What the model's types say about a location: which keys may stand there, which are single values."""

from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sentinel_gateway.settings.model import Location, Settings


def keys_at(location: Location) -> tuple[str, ...]:
    """The keys that may stand in the room at `location`; none if it is no room, or one with free names."""
    kind = _kind_at(location)
    return tuple(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else ()


def exists(location: Location) -> bool:
    """Is there a setting at this place? Names of providers and models are free."""
    return _kind_at(location) is not None


def fixed_settings(
    room: type[BaseModel] = Settings, location: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Every single setting whose place has no free name in it, with its field."""
    for name, field in room.model_fields.items():
        kind = _plain(field.annotation)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from fixed_settings(kind, (*location, name))
        elif get_origin(kind) is not dict:
            yield (*location, name), field


def field_at(location: Location) -> FieldInfo | None:
    """The field that a value at this place belongs to; None if it is no setting."""
    return _found(location)[1]


def _kind_at(location: Location) -> Any:
    return _found(location)[0]


def _found(location: Location) -> tuple[Any, FieldInfo | None]:
    """The type of what stands there, and the field that it is, or is within."""
    kind: Any = Settings
    field: FieldInfo | None = None
    for key in location:
        if get_origin(kind) is dict:
            kind = _plain(get_args(kind)[1])
        elif get_origin(kind) is tuple and isinstance(key, int):
            kind = _plain(get_args(kind)[0])
        elif isinstance(kind, type) and issubclass(kind, BaseModel) and key in kind.model_fields:
            field = kind.model_fields[str(key)]
            kind = _plain(field.annotation)
        else:
            return None, None
    return kind, field


def _plain(kind: Any) -> Any:
    """The type without `| None` and without what is annotated to it."""
    if hasattr(kind, "__metadata__"):
        return _plain(kind.__origin__)
    options = [option for option in get_args(kind) if option is not type(None)]
    if type(None) in get_args(kind) and len(options) == 1:
        return _plain(options[0])
    return kind
