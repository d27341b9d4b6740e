"""Plants known bugs of other gateways one at a time into a copy of `src`, and says which tests notice: `make planted`.

    python -m tests.planted.plant [--only NAME] [--out FILE]

First the named tests run without any bug: a test that fails anyway notices nothing. A bug is caught if its test fails, and says
what is expected of it; a test that could not be run has caught nothing.
"""

import argparse
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

from tests.planted import callers, providers, stores
from tests.planted.bug import ROOT, Bug, faults, plant

BUGS: tuple[Bug, ...] = (*providers.BUGS, *stores.BUGS, *callers.BUGS)
LIMIT = 300.0
"""Seconds that one bug's test may take. One that hangs has caught nothing: it is to fail."""
SHOWN = 160
"""Characters of what a test says."""


class Failure(NamedTuple):
    """A test that failed: its id, and what it says, `said` in one line."""

    test: str
    said: str
    whole: str


class Ran(NamedTuple):
    """What came of a run. `fault`: why it is no run."""

    passed: int
    failures: list[Failure]
    seconds: float
    fault: str = ""


def copied(to: Path) -> Path:
    """A folder with a copy of `src`, whose compiled files stay good."""
    shutil.copytree(ROOT / "src", to / "src")
    return to


def run(tests: Iterable[str], root: Path, *, stop: bool) -> Ran:
    """Have pytest run them against the `src` of `root`."""
    report, began = root / "report.xml", time.monotonic()
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"--junitxml={report}", *(["-x"] if stop else [])]
    environ = os.environ | {"PYTHONPATH": str(root / "src")}
    program = subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = program.communicate(timeout=LIMIT if stop else None)
    except subprocess.TimeoutExpired:
        os.killpg(program.pid, signal.SIGKILL)
        program.communicate()
        return Ran(0, [], time.monotonic() - began, "it hung")
    seconds = time.monotonic() - began
    if program.returncode not in {0, 1} or not report.exists():
        return Ran(0, [], seconds, f"pytest ended with {program.returncode}: {printed[-2000:]}")
    passed, failures = read(ET.parse(report).getroot())
    return Ran(passed, failures, seconds)


def read(report: ET.Element) -> tuple[int, list[Failure]]:
    """Of a report in JUnit's form: how many passed, and what failed. An error of a fixture counts, one of an import does not."""
    passed, failures = 0, []
    for case in report.iter("testcase"):
        found = [*case.iter("failure"), *case.iter("error")]
        if not found and case.find("skipped") is None:
            passed += 1
        for fault in found:
            said = fault.get("message", "")
            where = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
            failures.append(Failure(where, " ".join(said.split())[:SHOWN], f"{said}\n{fault.text}"))
    return passed, failures


class Verdict(NamedTuple):
    bug: Bug
    caught: bool
    test: str
    said: str
    seconds: float


def judge(one: Bug, ran: Ran) -> Verdict:
    """Caught, if its own test failed as expected."""
    own = [failure for failure in ran.failures if one.test in {failure.test, failure.test.partition("[")[0]}]
    wanted = [failure for failure in own if one.by in failure.whole]
    if wanted:
        return Verdict(one, True, wanted[0].test, wanted[0].said, ran.seconds)
    why = ran.fault or (f"failed otherwise: {own[0].whole}" if own else "nothing failed")
    return Verdict(one, False, one.test, why, ran.seconds)


def try_out(bugs: Iterable[Bug], clean: Path) -> list[Verdict]:
    """Each planted into a copy of its own, its test run."""
    verdicts = []
    for one in bugs:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            shutil.copytree(clean / "src", root / "src")
            plant(one, root)
            verdict = judge(one, run([one.test], root, stop=True))
        verdicts.append(verdict)
        mark = "caught" if verdict.caught else "NOT CAUGHT"
        print(f"{mark:<10} {one.name:<40} {verdict.seconds:5.1f} s  {verdict.said}", flush=True)
    return verdicts


def page(verdicts: list[Verdict], control: Ran) -> str:
    """What came of all of them, as Markdown."""
    caught, day = sum(verdict.caught for verdict in verdicts), datetime.now(UTC)
    seconds = control.seconds + sum(verdict.seconds for verdict in verdicts)
    told = (
        f"`make planted`: **{caught} of {len(verdicts)} caught**. Each bug was planted alone into a copy of `src/`, and the test "
        f"beside it was run, which has to fail, and to say what is expected of it. Without a bug the same tests pass: "
        f"{control.passed} passed, {len(control.failures)} failed. {seconds / 60:.0f} min; {processor()}, "
        f"Linux {platform.release()}, Python {platform.python_version()}; commit {commit()}. "
        "What nobody noticed at first, and which tests look closer since, stands in [promises](../../docs/promises.md)."
    )
    head = [
        f"# Known bugs of other gateways, planted here: {day:%Y-%m-%d}",
        "",
        told,
        "",
        "| | Bug | Public one | What comes of it | Planted in | Noticed by | Which says |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    return "\n".join([*head, *(row(number, one) for number, one in enumerate(verdicts, 1)), ""])


def row(number: int, one: Verdict) -> str:
    planted, files = one.bug, ", ".join(f"`{edit.file}`" for edit in one.bug.edits)
    test = f"`{planted.test}`" if one.caught else "**nobody**"
    return f"| {number} | {planted.name} | {planted.like} | {planted.what} | {files} | {test} | `{cell(one.said)}` |"


def cell(text: str) -> str:
    """For a table, without the folders of this machine."""
    return re.sub(rf"{tempfile.gettempdir()}/\S*/", "", text).replace("|", "\\|").replace("`", "'")


def processor() -> str:
    found = [line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{found[0] if found else platform.machine()}, {os.cpu_count()} cores"


def commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def main() -> int:
    parser = argparse.ArgumentParser(description="Plant known bugs, and see whether the tests notice.")
    parser.add_argument("--only", default="", help="bugs in whose name this stands")
    parser.add_argument("--out", type=Path, help="a file for the table")
    asked = parser.parse_args()
    bugs = [one for one in BUGS if asked.only in one.name]
    if unfit := [fault for one in bugs for fault in faults(one)]:
        print("\n".join(unfit))
        return 2
    with tempfile.TemporaryDirectory() as folder:
        clean = copied(Path(folder))
        control = run(sorted({one.test for one in bugs}), clean, stop=False)
        if control.fault or control.failures or not control.passed:
            print(f"Without any bug: {control.fault or control.failures}")
            return 2
        print(f"without any bug {control.passed} tests pass, {control.seconds:.1f} s", flush=True)
        verdicts = try_out(bugs, clean)
    if asked.out:
        asked.out.write_text(page(verdicts, control))
    return 0 if all(verdict.caught for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
