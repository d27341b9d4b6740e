"""The process's variables and those of `.env`, written onto a layer. The process's win; an empty variable counts as not set.

`.env` is read as it stands: nothing in it is interpolated, and nothing of it is written into the process's environment.
"""

import difflib
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dotenv.parser import parse_stream

from sentinel_gateway.settings.layers import Fault, Layer, Origin
from sentinel_gateway.settings.schema import exists, fixed_settings
from sentinel_gateway.settings.variables import CONFIG, FILE, LATER, PREFIX, VARIABLES

DOTENV: Final = ".env"
READABLE_BY_OTHERS: Final = 0o004

_SERVICE_LINK: Final = re.compile(r"SENTINEL_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
"""What Kubernetes sets in every pod for a service whose name starts with `sentinel`."""
_SERVICE_PORT: Final = re.compile(r"SENTINEL_(\w+_)?PORT")
_LINK_VALUE: Final = re.compile(r"(tcp|udp|sctp)://")

_NAMED: Final = frozenset(variable.name for variable in VARIABLES if variable.name.startswith(PREFIX))


@dataclass(frozen=True, slots=True)
class Found:
    """The text of a variable, and its place. `hidden`: a file holds it."""

    text: str
    place: str
    hidden: bool = False


@dataclass(slots=True)
class Source:
    """Variables of one origin: of the process (`env`), or of `.env` with its lines."""

    label: str
    values: Mapping[str, str]
    folder: Path
    lines: Mapping[str, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    from_files: set[str] = field(default_factory=set)

    def __repr__(self) -> str:
        return f"<Source {self.label}, {len(self.values)} variables>"

    def find(self, name: str, *, may_be_empty: bool = False) -> Found | None:
        """The variable, or what the file named by NAME_FILE holds."""
        direct, path = self.values.get(name), self.values.get(name + FILE)
        if path and direct:
            self._fault(name, f"{name + FILE} is set as well: keep one of them")
        if direct or (direct is not None and may_be_empty):
            return Found(direct, self.place(name))
        text = self._read(name + FILE, path) if path else None
        self.from_files.update([text] if text else [])
        return Found(text, self.place(name + FILE), hidden=True) if text or (text is not None and may_be_empty) else None

    def place(self, name: str) -> str:
        line = self.lines.get(name)
        return f"{self.label}:{line} {name}" if line else f"{self.label} {name}"

    def _read(self, name: str, path: str) -> str | None:
        try:
            return (self.folder / path).read_text("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            self._fault(name, "names a file that is not UTF-8 text")
        except OSError as exc:
            self._fault(name, f"names a file that can't be read: {exc.strerror}")
        except ValueError:
            self._fault(name, "names no file: a path has no null byte")
        return None

    def _fault(self, name: str, sentence: str) -> None:
        self.faults.append(Fault(self.place(name), sentence))


class Environment:
    """Both sources together. `faults` and `notes` grow as they are read."""

    def __init__(self, environ: Mapping[str, str], folder: Path) -> None:
        self.notes: list[str] = []
        self._filled_in: set[str] = set()
        self._process = Source("env", environ, folder)
        self._dotenv = _read_dotenv(folder)
        self._note_open_dotenv(folder / DOTENV)

    def __repr__(self) -> str:
        return f"<Environment {self._process!r} {self._dotenv!r}>"

    @property
    def faults(self) -> list[Fault]:
        """Those found so far, each once: a variable may be read several times."""
        return list(dict.fromkeys([*self._process.faults, *self._dotenv.faults]))

    @property
    def has_dotenv(self) -> bool:
        return bool(self._dotenv.values)

    def find(self, name: str) -> Found | None:
        return self._process.find(name) or self._dotenv.find(name)

    def find_config(self) -> Found | None:
        """Where the YAML file is. There is no SENTINEL_CONFIG_FILE: it would be taken for the same thing."""
        return next((Found(text, s.place(CONFIG)) for s in (self._process, self._dotenv) if (text := s.values.get(CONFIG))), None)

    def lookup(self, name: str) -> str | None:
        """For `${NAME}`: set but empty is the empty text."""
        found = self._process.find(name, may_be_empty=True) or self._dotenv.find(name, may_be_empty=True)
        if found is None:
            return None
        self._filled_in.add(found.text)
        return found.text

    @property
    def hidden(self) -> set[str]:
        """Texts that faults must not show: what was filled into the file so far, and what came from files of secrets."""
        return self._filled_in | self._process.from_files | self._dotenv.from_files

    def write_onto(self, layer: Layer) -> None:
        """Put every setting that a variable holds onto the layer."""
        for source in (self._dotenv, self._process):
            _write_named(source, layer)
            for name in sorted(source.values):
                if name.startswith(PREFIX):
                    _write_prefixed(name, source, layer)
        self.notes += [
            f"{name} is set, but this version has {lacking}: it has no effect"
            for name, lacking in LATER.items()
            if self.find(name)
        ]

    def _note_open_dotenv(self, path: Path) -> None:
        keys = [name for name in self._dotenv.values if name.endswith("_KEY") and self._dotenv.values[name]]
        if keys and path.stat().st_mode & READABLE_BY_OTHERS:
            self.notes.append(f"every user of this machine can read {DOTENV}, which holds {keys[0]}: chmod 600 {DOTENV}")


def _read_dotenv(folder: Path) -> Source:
    source = Source(DOTENV, {}, folder)
    try:
        text = (folder / DOTENV).read_text("utf-8")
    except FileNotFoundError:
        return source
    except UnicodeDecodeError:
        source.faults.append(Fault(DOTENV, "is not UTF-8 text"))
        return source
    except OSError as exc:
        source.faults.append(Fault(DOTENV, f"can't be read: {exc.strerror}"))
        return source
    values: dict[str, str] = {}
    lines: dict[str, int] = {}
    for binding in parse_stream(io.StringIO(text)):
        written = binding.original.string
        line = binding.original.line + written[: len(written) - len(written.lstrip())].count("\n")
        if binding.error:
            source.faults.append(Fault(f"{DOTENV}:{line}", "is no variable: write NAME=value"))
        elif binding.key is not None:
            values[binding.key], lines[binding.key] = binding.value or "", line
    return Source(DOTENV, values, folder, lines, source.faults)


def _write_named(source: Source, layer: Layer) -> None:
    written: set[tuple[str, ...]] = set()
    for variable in VARIABLES:
        found = source.find(variable.name, may_be_empty=variable.may_be_empty)
        if found is None or variable.location in written:
            continue
        try:
            text = variable.read(found.text)
        except ValueError as exc:
            source.faults.append(Fault(found.place, str(exc)))
            continue
        if text is not None:
            layer.put(variable.location, text, Origin(found.place, hidden=found.hidden, aside=variable.aside))
            written.add(variable.location)


def _write_prefixed(name: str, source: Source, layer: Layer) -> None:
    plain = name.removesuffix(FILE)
    if name == CONFIG or plain in _NAMED or _is_service_link(name, source.values[name]):
        return
    location = tuple(part.lower() for part in plain.removeprefix(PREFIX).split("__"))
    if not exists(location):
        source.faults.append(Fault(source.place(name), _unknown(name)))
    elif found := source.find(plain):
        layer.put(location, found.text, Origin(found.place, hidden=found.hidden))


def _is_service_link(name: str, value: str) -> bool:
    return bool(_SERVICE_LINK.fullmatch(name) or (_SERVICE_PORT.fullmatch(name) and _LINK_VALUE.match(value)))


def prefixed_name(location: tuple[str, ...]) -> str:
    """`SENTINEL_A__B` for `a.b`."""
    return PREFIX + "__".join(location).upper()


def known_names() -> Iterator[str]:
    """Every variable that is read and has a name of its own, or a fixed place."""
    yield CONFIG
    yield from (variable.name for variable in VARIABLES)
    yield from (prefixed_name(location) for location, _ in fixed_settings())


def _unknown(name: str) -> str:
    known = {known.removeprefix(PREFIX).replace("__", "_"): known for known in reversed(list(known_names()))}
    near = difflib.get_close_matches(name.removeprefix(PREFIX).replace("__", "_"), known, n=1)
    return f"is no variable of Sentinel{f'; did you mean {known[near[0]]}?' if near else ': a.b is set by SENTINEL_A__B'}"
