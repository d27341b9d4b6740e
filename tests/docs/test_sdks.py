"""Each page below docs/sdks makes its client as the program in tests/sdks does; `make test-sdks` runs both."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shape import hygiene

ROOT = Path(__file__).parents[2]
SDKS = ROOT / "tests" / "sdks"
DOCS = ROOT / "docs" / "sdks"
PAGES = {path.stem: path.read_text() for path in sorted(DOCS.glob("*.md")) if path.stem != "README"}
ADDRESS = "http://127.0.0.1:8080"


def blocks(client: str) -> list[tuple[str, str]]:
    """The kind and the text of each block of code on a client's page."""
    return re.findall(r"```(\w+)\n(.*?)```", PAGES[client], re.DOTALL)


def required(client: str) -> set[str]:
    """The packages that a client's environment is asked to have, as its package manager spells them."""
    folder = SDKS / client
    if (folder / "package.json").exists():
        return set(json.loads((folder / "package.json").read_text())["dependencies"])
    return {line for line in (folder / "requirements.in").read_text().splitlines() if not line.startswith("#")}


def test_each_client_has_its_page_and_its_row():
    assert PAGES.keys() == {path.parent.name for path in SDKS.glob("*/program.*")}
    rows = re.findall(r"^\| \[(.*?)\]\((.*?)\.md\) \|", (DOCS / "README.md").read_text(), re.MULTILINE)
    assert {name: title for title, name in rows} == {name: text.splitlines()[0][2:] for name, text in PAGES.items()}


@pytest.mark.parametrize("client", PAGES)
def test_the_page_installs_what_the_program_runs_with(client):
    (kind, line), *_ = blocks(client)
    command, verb, *packages = line.replace("'", "").split()
    assert (kind, command, verb) == ("sh", "npm" if (SDKS / client / "package.json").exists() else "pip", "install")
    assert set(packages) <= required(client)


@pytest.mark.parametrize("client", PAGES)
def test_the_page_begins_with_a_short_program_that_makes_its_client_as_the_suite_does(client):
    _, (kind, whole), *_ = blocks(client)
    (program,) = (SDKS / client).glob("program.*")
    assert kind in {".py": ("python", "sh"), ".mjs": ("js",)}[program.suffix]
    assert 6 <= len(whole.splitlines()) <= 15
    (made,) = (paragraph for paragraph in whole.split("\n\n") if ADDRESS in paragraph)
    made = re.sub(r"^cat .*\n|\nEND$", "", made)
    assert made in program.read_text()


@pytest.mark.parametrize("client", [client for client in PAGES if blocks(client)[1][0] == "python"])
def test_a_page_in_python_names_nothing_that_it_does_not_say(client):
    pasted = "\n".join(text for kind, text in blocks(client) if kind == "python")
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--quiet", "--select", "F", "-"]
    done = subprocess.run(command, input=pasted, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("lock", sorted(SDKS.glob("*/requirements.lock")), ids=lambda path: path.parent.name)
def test_python_is_locked_by_hash(lock):
    lines = (lock.parent / "requirements.in").read_text().splitlines()
    asked = [line for line in lines if not line.startswith("#")]
    assert hygiene.unhashed(lock.read_text()) == []
    assert hygiene.out_of_step(asked, lock.read_text()) == []


@pytest.mark.parametrize("lock", sorted(SDKS.glob("*/package-lock.json")), ids=lambda path: path.parent.name)
def test_javascript_is_locked_by_hash_and_bound_to_no_registry(lock):
    asked = json.loads((lock.parent / "package.json").read_text())["dependencies"]
    packages = json.loads(lock.read_text())["packages"]
    assert packages.pop("")["dependencies"] == asked
    assert {name for name, package in packages.items() if not package["integrity"].startswith("sha512-")} == set()
    assert {name for name, package in packages.items() if "resolved" in package} == set()
