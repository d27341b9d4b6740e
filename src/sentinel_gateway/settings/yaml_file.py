"""The YAML file: text, mappings and lists with the line of every key; `${NAME}` is filled in from the environment.

Only the node tree of PyYAML is used, never its constructors: a plain scalar stays text (null apart), and a tag that asks for
anything else is a fault, as is a key that stands twice.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, ScalarEvent

from sentinel_gateway.settings.faults import MOST_FAULTS
from sentinel_gateway.settings.layers import Fault, Layer, Origin, dotted
from sentinel_gateway.settings.model import Location

Lookup = Callable[[str], str | None]
"""The value of a variable, None if it isn't set."""

NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
MOST_REPEATED: Final = 10_000
"""Keys, values and groups that a file has from its aliases: a few lines can say more than memory holds."""
MOST_TEXT: Final = 4_000_000
"""Characters of all values together, counted so as well, with what is filled in from the environment."""

MOST_NESTED: Final = 64
"""Lists and mappings within each other."""

PARSER: Final = yaml.CBaseLoader if yaml.__with_libyaml__ else yaml.BaseLoader
"""What reads the signs. Without libyaml, which PyYAML's wheels carry, the same takes some five times as long."""

_REFERENCE: Final = re.compile(r"\$(?:\$|\{([^{}]*)\})?")
_NAME: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:(:-|:\?)(.*))?", re.DOTALL)


def read_yaml(
    text: str, name: str, lookup: Lookup, *, most: int | None = None, parser: type[Any] = PARSER
) -> tuple[Layer, list[Fault]]:
    """What the file says, and its faults. `name` is the file's name in places. A file that can't be parsed says nothing.

    `most`: keys, values, groups and references that it may hold, those that aliases repeat among them.
    """
    reader = _Reader(name, lookup)
    try:
        _look_through(parser(text), most)
        root = parser(text).get_single_node()
        value = reader.read(root, ()) if root is not None else None
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line = min(mark.line, text.count("\n")) + 1 if mark else 0  # libyaml's end is a line below the last one
        place = f"{name}:{line}" if line else name
        return Layer(), [Fault(place, f"is not YAML: {exc.problem or exc.context}", ())]
    except (yaml.YAMLError, UnicodeEncodeError):
        return Layer(), [Fault(name, "is not YAML: it holds a character that YAML does not allow", ())]
    except RecursionError:
        return Layer(), [Fault(name, "is nested too deeply to be read", ())]
    except _UnreadError as exc:
        return Layer(), [Fault(f"{name}:{exc.line}" if exc.line else name, str(exc), ())]
    if isinstance(value, dict):
        reader.layer.tree = value
    elif value is not None:
        reader.faults.append(Fault(f"{name}:1", "must be a mapping of settings, such as 'server: {port: 8080}'", ()))
    return reader.layer, reader.faults


def _look_through(events: Any, most: int | None) -> None:
    """Before anything is made of a text: it holds so much at most, nothing that is nested too deeply, and nothing itself.

    Raises _UnreadError, RecursionError.
    """
    count, held = 0, 0
    opened: list[tuple[str | None, int]] = []
    sizes: dict[str | None, int] = {}
    """What is open still, by its anchor, and how much was held before it; and how much each thing with an anchor holds."""
    while events.check_event():
        match events.get_event():
            case ScalarEvent(anchor=anchor, value=text):
                sizes[anchor] = size = 1 + text.count("$")
                count, held = count + size, held + size
            case CollectionStartEvent(anchor=anchor):
                if len(opened) == MOST_NESTED:
                    raise RecursionError
                opened.append((anchor, held))
                count, held = count + 1, held + 1
            case CollectionEndEvent():
                anchor, before = opened.pop()
                sizes[anchor] = held - before
            case AliasEvent() as alias:
                held += _repeated(alias, [name for name, _ in opened], sizes)
        if held - count > MOST_REPEATED:
            raise _UnreadError(f"repeats more than {MOST_REPEATED:,} things by its aliases")
        if most is not None and held > most:
            raise _UnreadError(f"holds more than {most:,} keys, values and references: 'sentinel check --config FILE' reads them")


def _repeated(alias: AliasEvent, opened: Sequence[str | None], sizes: Mapping[str | None, int]) -> int:
    """How much it stands for. Raises _UnreadError."""
    line = alias.start_mark.line + 1 if alias.start_mark else 0
    if alias.anchor in opened:
        raise _UnreadError(f"'*{alias.anchor}' stands within '&{alias.anchor}', which would hold itself", line)
    if alias.anchor not in sizes:
        raise _UnreadError(f"'*{alias.anchor}' stands for nothing: no '&{alias.anchor}' is above it", line)
    return sizes[alias.anchor]


def read_yaml_file(path: Path, name: str, lookup: Lookup) -> tuple[Layer, list[Fault]]:
    """As `read_yaml`; a file that can't be read is a fault."""
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError:
        return Layer(), [Fault(name, "is not UTF-8 text", ())]
    except OSError as exc:
        return Layer(), [Fault(name, f"can't be read: {exc.strerror}", ())]
    return read_yaml(text, name, lookup)


def interpolate(text: str, lookup: Lookup) -> tuple[str, list[str]]:
    """The text with its references filled in, and what is wrong with them.

    `${A}` must be set; `${A:-b}` is `b` where A is unset or empty, `${A:?why}` a fault then; `$$` is a dollar sign.
    """
    wrong: list[str] = []

    def fill(reference: re.Match[str]) -> str:
        value = _fill(reference, lookup)
        if isinstance(value, _Wrong):
            wrong.append(value.sentence)
            return ""
        return value

    return _REFERENCE.sub(fill, text), wrong


@dataclass(frozen=True, slots=True)
class _Wrong:
    sentence: str


def _fill(reference: re.Match[str], lookup: Lookup) -> str | _Wrong:
    if reference[0] == "$$":
        return "$"
    parts = _NAME.fullmatch(reference[1]) if reference[1] is not None else None
    if parts is None:
        return _Wrong(
            "a '$' starts ${NAME}, ${NAME:-default} or ${NAME:?message}, without one in another; a dollar sign is written $$"
        )
    name, operator, rest = parts.groups()
    value = lookup(name)
    if operator == ":-":
        return value or rest
    if operator == ":?" and not value:
        return _Wrong(f"{name} is not set: {rest or 'it is needed here'}")
    if value is None:
        return _Wrong(f"{name} is not set: set it, or write a default as ${{{name}:-default}}")
    return value


class _UnreadError(Exception):
    """There are more values, or longer ones, than are read; or what is in `line` stands for nothing, or has no end."""

    def __init__(self, sentence: str, line: int = 0) -> None:
        super().__init__(sentence)
        self.line = line


class _Reader:
    def __init__(self, name: str, lookup: Lookup) -> None:
        self.layer = Layer()
        self.faults: list[Fault] = []
        self._name = name
        self._lookup = lookup
        self._length = 0

    def __repr__(self) -> str:
        return f"<_Reader {self._name}, {len(self.faults)} faults>"

    def read(self, node: yaml.Node, location: Location) -> Any:
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self._mapping(node, location)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [self._item(item, (*location, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:str":
            return self._scalar(node, location)
        self._fault(node, location, f"has the tag '{node.tag}': tags are not read, write the plain value")
        return None

    def _mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, Any]:
        lines: dict[str, int] = {}
        mapping: dict[str, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self._fault(key, location, "has a key that is not a name")
                continue
            here = (*location, key.value)
            if key.value in lines:
                self._fault(key, here, f"stands twice, also in line {lines[key.value]}: keep one")
                continue
            lines[key.value] = line
            self.layer.origins[here] = Origin(f"{self._name}:{line}", keyed=True)
            mapping[key.value] = self.read(value, here)
        return mapping

    def _item(self, node: yaml.Node, location: Location) -> Any:
        self.layer.origins[location] = Origin(f"{self._name}:{node.start_mark.line + 1}", keyed=True)
        return self.read(node, location)

    def _scalar(self, node: yaml.ScalarNode, location: Location) -> str | None:
        if not node.style and node.value in NULLS:
            return None
        self._count(node.value)
        if "$" not in node.value:
            return str(node.value)
        text, wrong = interpolate(node.value, self._find)
        for sentence in wrong:
            self._fault(node, location, sentence)
        if "${" in node.value.replace("$$", ""):
            origin = self.layer.origins.get(location)
            self.layer.origins[location] = Origin(origin.place if origin else self._name, keyed=True, hidden=True)
        return text

    def _find(self, name: str) -> str | None:
        value = self._lookup(name)
        self._count(value or "")
        return value

    def _count(self, text: str) -> None:
        self._length += len(text)
        if self._length > MOST_TEXT:
            raise _UnreadError(f"says more than {MOST_TEXT:,} characters, aliases and variables filled in")

    def _fault(self, node: yaml.Node, location: Location, sentence: str) -> None:
        if len(self.faults) <= MOST_FAULTS:
            place = f"{self._name}:{node.start_mark.line + 1} {dotted(location)}".rstrip()
            self.faults.append(Fault(place, sentence, location, plain=True))
