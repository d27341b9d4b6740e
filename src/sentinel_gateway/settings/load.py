"""From file, environment and flags to `Settings`, or to every fault at once. Flags > environment > .env > YAML > defaults.

Values are written onto one layer, lowest first; the model reads the result; `checks.py` compares and completes it. Where a
value is wrong the rest is still checked, so that nobody mends a configuration one fault a try.
"""

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sentinel_gateway.errors import ConfigurationError
from sentinel_gateway.settings.checks import Report, complete
from sentinel_gateway.settings.environment import DOTENV, Environment
from sentinel_gateway.settings.faults import MOST_FAULTS, location_of, read_fault
from sentinel_gateway.settings.layers import Fault, Layer, Origin
from sentinel_gateway.settings.model import Location, Settings, is_key, is_secret
from sentinel_gateway.settings.yaml_file import read_yaml, read_yaml_file

DEFAULT_FILE: Final = "sentinel.yaml"
"""Read from the working folder if no other file is named."""
DRAFT: Final = "draft"
"""What a text is called that is read in place of the file."""
MOST_OF_DRAFT: Final = 2_000
"""Keys, values, groups and references of it: each takes tens of microseconds until it is told what it would change."""

UNTOLD: Final = "can't be used with what is filled in here, which a draft does not tell: 'sentinel check --config FILE' says why"

SHORTEST_SECRET: Final = 8
"""Shorter texts would be cut out of ordinary words."""

FLAGS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"host": ("server", "host"), "port": ("server", "port"), "log-level": ("logging", "level")}
)
"""Flags of the command line and the settings that they are."""

NO_FLAGS: Final[Mapping[str, object]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings that hold, what the operator should know of them, and the files they came from.

    `origins` are the places of all that was written: of single values and lists, not of what only holds others.
    """

    settings: Settings
    notes: tuple[str, ...]
    files: tuple[str, ...]
    origins: Mapping[Location, Origin]


class Load(Protocol):
    """Loads them as they are when it is called; a `draft` stands in for the file. Raises ConfigurationError."""

    def __call__(self, *, draft: str | None = None) -> Loaded: ...


def load(
    environ: Mapping[str, str],
    *,
    cwd: Path,
    config: Path | None = None,
    flags: Mapping[str, object] = NO_FLAGS,
    draft: str | None = None,
) -> Loaded:
    """The settings in force. `flags` are named as in `FLAGS`; one that is None is not given.

    `draft`: what they would be, were this the text of the file. Raises ConfigurationError with every fault.
    """
    environment = Environment(environ, cwd)
    file, faults = _find_file(config, environment, cwd) if draft is None else (None, [])
    layer, more = _read_file(file, draft, environment, cwd)
    faults += more
    environment.write_onto(layer)
    _write_flags(flags, layer)
    faults += environment.faults + _place_data(layer, environ, cwd)
    _place_request_log(layer, environ, cwd)
    report = Report(layer, faults)
    settings = _read(layer, report)
    if file is not None:
        report.add(_exposed_secrets(file, layer))
    hide = _Hide(environment.hidden | _secrets(layer))
    if report.faults:
        told = report.faults if draft is None else [_of_draft(fault, report) for fault in report.faults]
        raise ConfigurationError([(place, hide(sentence)) for place, sentence in _in_order(told)])
    files = ([_name(file, cwd)] if file else []) + ([DOTENV] if environment.has_dotenv else [])
    notes = dict.fromkeys(hide(note) for note in environment.notes + report.notes)
    written = {place: origin for place, origin in layer.origins.items() if not isinstance(layer.at(place), dict)}
    return Loaded(settings, tuple(notes), tuple(files), written)


def _find_file(config: Path | None, environment: Environment, cwd: Path) -> tuple[Path | None, list[Fault]]:
    """The YAML file, if there is one. One that was asked for has to be there."""
    if config is not None:
        asked, place = config, "flag --config"
    elif found := environment.find_config():
        asked, place = Path(found.text), found.place
    else:
        asked, place = Path(DEFAULT_FILE), DEFAULT_FILE
    path = cwd / asked
    try:
        mode = _mode(path)
    except OSError as exc:  # such as a folder that this user may not enter: whether the file is there can't be known
        return None, [Fault(place, f"{asked} can't be read: {exc.strerror}", ())]
    if place == DEFAULT_FILE:
        return (path if mode else None), []
    return (path, []) if stat.S_ISREG(mode) else (None, [Fault(place, f"there is no file {asked}", ())])


def _mode(path: Path) -> int:
    """Of what is there; 0 if nothing is."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: no path has a null byte
        return 0


def _read_file(file: Path | None, draft: str | None, environment: Environment, cwd: Path) -> tuple[Layer, list[Fault]]:
    """What the file says, or the draft in its place; nothing where there is neither."""
    if draft is not None:
        return read_yaml(draft, DRAFT, environment.lookup, most=MOST_OF_DRAFT)
    return (Layer(), []) if file is None else read_yaml_file(file, _name(file, cwd), environment.lookup)


def _name(file: Path, cwd: Path) -> str:
    return str(file.relative_to(cwd)) if file.is_relative_to(cwd) else str(file)


def _write_flags(flags: Mapping[str, object], layer: Layer) -> None:
    for name, value in flags.items():
        if value is not None:
            layer.put(FLAGS[name], str(value), Origin(f"flag --{name}"))


def _place_data(layer: Layer, environ: Mapping[str, str], cwd: Path) -> list[Fault]:
    """Make the data folder absolute, or choose one as desktops do."""
    written = layer.tree.get("data_dir")
    home = environ.get("HOME", "")
    if isinstance(written, str) and written:
        layer.tree["data_dir"] = _placed(written, home, cwd)
    elif written is None or written == "":
        data_home = environ.get("XDG_DATA_HOME", "")
        if not data_home.startswith("/"):
            data_home = f"{home}/.local/share" if home else ""
        if not data_home:
            return [Fault("data_dir", "there is no HOME to put it in: set SENTINEL_DATA_DIR", ("data_dir",))]
        layer.tree["data_dir"] = f"{data_home}/sentinel"
    return []


def _place_request_log(layer: Layer, environ: Mapping[str, str], cwd: Path) -> None:
    """Make its path absolute."""
    logging = layer.tree.get("logging")
    if isinstance(logging, dict) and isinstance(written := logging.get("path"), str) and written:
        logging["path"] = _placed(written, environ.get("HOME", ""), cwd)


def _placed(written: str, home: str, cwd: Path) -> str:
    """The absolute path of one that may be relative, or in the user's home."""
    return str(cwd / (home + written[1:] if written.startswith("~/") and home else written))


def _read(layer: Layer, report: Report) -> Settings:
    """The settings as far as they are right. Without the file there is no telling how they fit together."""
    settings, errors = _validate(layer.tree)
    new = (error for error in errors if not report.is_broken(location_of(error)))
    report.add([read_fault(error, layer) for error in islice(new, MOST_FAULTS + 1)])
    return settings if any(fault.location == () for fault in report.faults) else complete(settings, report)


def _validate(tree: dict[str, Any]) -> tuple[Settings, list[ErrorDetails]]:
    """The settings without the values that are wrong, and what is wrong with those."""
    try:
        return Settings.model_validate(tree), []
    except ValidationError as exc:
        errors = exc.errors(include_url=False)
    # What is missing now was taken away; a room can be judged as a whole only now.
    settings, more = _validate(_without(tree, [location_of(error) for error in errors]))
    return settings, errors + [error for error in more if error["type"] != "missing"]


def _without(tree: dict[str, Any], locations: list[Location]) -> dict[str, Any]:
    """A copy without the values at these places, or without the nearest thing around one that isn't there."""
    copy = _copied(tree)
    for location in locations:
        around: dict[str, Any] = copy
        key = str(location[0])
        for deeper in location[1:]:
            inner = around.get(key)
            if not isinstance(inner, dict) or deeper not in inner:
                break
            around, key = inner, str(deeper)
        around.pop(key, None)
    return copy


def _copied(tree: dict[str, Any]) -> dict[str, Any]:
    return {key: _copied(value) if isinstance(value, dict) else value for key, value in tree.items()}


def _exposed_secrets(file: Path, layer: Layer) -> list[Fault]:
    """Keys that stand in a file which every user of the machine can read."""
    if not file.stat().st_mode & stat.S_IROTH:
        return []
    return [
        Fault(layer.place(location), f"every user of this machine can read this key: chmod 600 {file.name}, or write ${{NAME}}")
        for location, origin in layer.origins.items()
        if origin.keyed and not origin.hidden and is_key(location) and isinstance(layer.at(location), str)
    ]


def _secrets(layer: Layer) -> set[str]:
    values = (layer.at(location) for location in layer.origins if is_secret(location))
    return {value for value in values if isinstance(value, str)}


def _of_draft(fault: Fault, report: Report) -> Fault:
    """Without a word of what is filled in, be it short or a part of it: who may try drafts may write `${ANY}`."""
    if fault.plain or not fault.location or not report.is_hidden(fault.location):
        return fault
    return Fault(fault.place, UNTOLD, fault.location)


class _Hide:
    """Takes out of a sentence what must not be shown, should a check have quoted it."""

    def __init__(self, texts: set[str]) -> None:
        self._texts = sorted((text for text in texts if len(text) >= SHORTEST_SECRET), key=len, reverse=True)

    def __repr__(self) -> str:
        return f"<_Hide {len(self._texts)} texts>"

    def __call__(self, sentence: str) -> str:
        for text in self._texts:
            sentence = sentence.replace(text, "***")
        return sentence


def _in_order(faults: list[Fault]) -> list[tuple[str, str]]:
    """Each fault once, those of the file by line; not more than people can mend at once."""

    def line(fault: Fault) -> tuple[str, int]:
        source, _, rest = fault.place.partition(":")
        number = rest.partition(" ")[0]
        return (source, int(number)) if number.isdecimal() else (fault.place, 0)

    told = list(dict.fromkeys((fault.place, fault.sentence) for fault in sorted(faults, key=line)))
    more = [("configuration", "has more faults than these: mend them first")] if len(told) > MOST_FAULTS else []
    return told[:MOST_FAULTS] + more
