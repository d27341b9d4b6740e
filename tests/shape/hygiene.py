"""What may stand in no file of the repository, and how the locks must agree with pyproject.toml: functions over text."""

import re
from collections.abc import Iterable

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

MACHINE_PATH = re.compile(r"(?<![\w.$}/~-])/(?:home(?!/me\b)|root|tmp|work|Users)\b(?=/|$|[\s\"'`):])")
"""`/home/me` stands for anybody's home."""
UNFINISHED = re.compile(r"\b(?:TODO|FIXME|XXX)\b")
SKIPPED = re.compile(r"\b(?:pytest|mark|unittest)\.(?:import_?or)?(?:skip|xfail)|\bimportorskip\b|@skip")

PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)
ROOTS = re.compile(r"^([a-z0-9][a-z0-9._-]*)==[^#]*?((?:\n\s*#.*)+)", re.MULTILINE)


def machine_paths(text: str) -> list[str]:
    """Lines that name a folder of somebody's machine."""
    return [line.strip() for line in text.splitlines() if MACHINE_PATH.search(line)]


def unfinished(text: str) -> list[str]:
    """Lines that promise to be finished later."""
    return [line.strip() for line in text.splitlines() if UNFINISHED.search(line)]


def skipped(text: str) -> list[str]:
    """Lines of a test file that keep a test from running or from failing."""
    return [line.strip() for line in text.splitlines() if SKIPPED.search(line)]


def pins(lock: str) -> dict[str, str]:
    """Each locked package with its version."""
    return dict(PIN.findall(lock))


def asked_for(lock: str) -> set[str]:
    """The packages that pyproject.toml itself asked for, as uv notes it."""
    return {name for name, comments in ROOTS.findall(lock) if "(pyproject.toml" in comments}


def unhashed(lock: str) -> list[str]:
    """Locked packages without a hash."""
    entries = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)
    return [entry.partition("==")[0] for entry in entries if PIN.match(entry) and "--hash=sha256:" not in entry]


def out_of_step(requirements: Iterable[str], lock: str) -> list[str]:
    """Where a lock and the requirements that it was made from disagree; `make lock` mends it."""
    wanted = {canonicalize_name(r.name): r for r in map(Requirement, requirements)}
    locked = pins(lock)
    faults = [f"{name} is not locked" for name in sorted(wanted.keys() - locked.keys())]
    faults += [f"{name} is locked, nobody asks for it" for name in sorted(asked_for(lock) - wanted.keys())]
    for name, requirement in wanted.items():
        if name in locked and not requirement.specifier.contains(locked[name], prereleases=True):
            faults.append(f"{name} is locked at {locked[name]}, wanted {requirement.specifier}")
    return faults
