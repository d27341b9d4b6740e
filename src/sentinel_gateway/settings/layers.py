"""What was written, value by value, with the place where it was written: sources write onto one `Layer`, later ones over earlier.

Values are text until the model reads them, whatever the source. So `on`, `0777` and `1_000` mean in YAML what they mean in
a variable, and none of YAML 1.1's surprises (sexagesimal numbers, octals, a country called False) can happen.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sentinel_gateway.settings.model import Location


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was written: `sentinel.yaml:7`, `env PORT`, `.env:3 PORT`, `flag --port`.

    `keyed`: the place is a file of keys, so the key's path is told too. `hidden`: the text came from elsewhere (a variable that
    the file names, a file that a variable names), so it is never shown. `aside`: it speaks of a provider without switching it on.
    """

    place: str
    keyed: bool = False
    hidden: bool = False
    aside: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: a sentence that says what would be right, behind its place.

    `location` is the value that can't be used, () the file as a whole, None where no setting is concerned. `plain`: nothing of
    the value is in the sentence.
    """

    place: str
    sentence: str
    location: Location | None = None
    plain: bool = False


def dotted(location: Location) -> str:
    """`providers.groq.timeouts`."""
    return ".".join(str(key) for key in location)


class Places:
    """Places of settings. Another place is `in` them if one of them is at, around or below it."""

    def __init__(self, places: Iterable[Location] = ()) -> None:
        self.at: set[Location] = set()
        self._around: set[Location] = set()
        for place in places:
            self.add(place)

    def __repr__(self) -> str:
        return f"<Places {len(self.at)}>"

    def __contains__(self, place: Location) -> bool:
        return place in self._around or any(place[:length] in self.at for length in range(1, len(place) + 1))

    def add(self, place: Location) -> None:
        """One more of them."""
        self.at.add(place)
        self._around.update(place[:length] for length in range(len(place)))


@dataclass(slots=True)
class Layer:
    """Nested dicts of text, lists and None, and the origin of every key in them."""

    tree: dict[str, Any] = field(default_factory=dict)
    origins: dict[Location, Origin] = field(default_factory=dict)

    def put(self, location: Sequence[str], value: Any, origin: Origin) -> None:
        """Write `value`, over whatever stands there or in its way."""
        node, path = self.tree, tuple(location)
        for depth, key in enumerate(path[:-1], 1):
            child = node.get(key)
            if not isinstance(child, dict):
                if child is not None or path[:depth] not in self.origins:
                    self._forget(path[:depth])
                    self.origins[path[:depth]] = origin
                child = node[key] = {}
            node = child
        self._forget(path)
        node[path[-1]] = value
        self.origins[path] = origin

    def origin(self, location: Location) -> Origin | None:
        """Of the value, or of the nearest thing around it."""
        for length in range(len(location), 0, -1):
            if found := self.origins.get(location[:length]):
                return found
        return None

    def place(self, location: Location) -> str:
        """The place to name in a fault of this value."""
        written = self.as_written(location)
        origin = self.origin(written)
        if origin is None:
            return dotted(written)
        return f"{origin.place} {dotted(written)}" if origin.keyed else origin.place

    def as_written(self, location: Location) -> Location:
        """`models.fast.targets.0` may have been written as `models.fast.0`: a list alone means its targets."""
        if location[:1] == ("models",) and location[2:3] == ("targets",) and location[:3] not in self.origins:
            return location[:2] + location[3:]
        return location

    def at(self, location: Location) -> Any:
        """What stands there: None where nothing does, and within lists."""
        value: Any = self.tree
        for key in location:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def below(self, location: Location) -> Iterator[Origin]:
        """Of what stands here, and of all within it."""
        return (self.origins[place] for place in self._places(location, self.at(location)) if place in self.origins)

    def _forget(self, location: Location) -> None:
        for place in self._places(location, self.at(location)):
            self.origins.pop(place, None)

    def _places(self, location: Location, value: Any) -> Iterator[Location]:
        yield location
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, one in inner:
            yield from self._places((*location, key), one)
