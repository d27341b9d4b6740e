"""What may stand in no file of the repository, and how the locks must agree with pyproject.toml: functions over text."""

import re
from collections.abc import Iterable

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

MACHINE_PATH = re.compile(r"(?<![\w.$}/~-])/(?:home(?!/me\b)|root|tmp|work|Users)\b(?=/|$|[\s\"'`):])")
"""`/home/me` stands for anybody's home."""
UNFINISHED = re.compile(r"\b(?:TODO|FIXME|XXX)\b")
SKIPPED = re.compile(r"\b(?:pytest|mark|unittest)\.(?:import_?or)?(?:skip|xfail)|\bimportorskip\b|@skip")
SECRETS = {
    "a private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"),
    "a key of Amazon's": re.compile(r"\b(?:AKIA|ASIA)(?![A-Z0-9]*EXAMPLE)[A-Z0-9]{16}\b"),
    "a key of Anthropic's": re.compile(r"\bsk-ant-(?:api|admin)\d\d-[\w-]{80,}"),
    "a token of GitHub's": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{82})\b"),
    "a key of Google's": re.compile(r"\bAIza[\w-]{35}\b"),
    "a key of Groq's": re.compile(r"\bgsk_[A-Za-z0-9]{52}\b"),
    "a token of Hugging Face's": re.compile(r"\bhf_[A-Za-z0-9]{34}\b"),
    "a key of OpenAI's": re.compile(r"\bsk-(?:proj-|svcacct-)?[\w-]{20,}T3BlbkFJ[\w-]{20,}"),
    "a token of PyPI's": re.compile(r"\bpypi-AgEI[\w-]{50,}"),
    "a token of Slack's": re.compile(r"\bxox[abeoprs]-\d{6,}-[\w-]{20,}"),
    "a client key of Sentinel's": re.compile(r"\bsk-sn-[A-Za-z0-9_-]{40,}"),
}
"""What must never be committed: by shapes that their makers gave them, so that nothing else looks like one."""

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


def secrets(text: str) -> list[str]:
    """The kinds of secrets that stand in it; never the secrets."""
    return [kind for kind, shape in SECRETS.items() if shape.search(text)]


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
