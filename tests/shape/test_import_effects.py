"""Importing a module does nothing: no files, sockets, threads, handlers or environment; wiring is app.py's, at start."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("import_effects.py")
SRC = Path(__file__).parents[2] / "src"

PLANTED = {
    "writes": ("open('{tmp}/file', 'w').close()", "open "),
    "makes_folder": ("import os; os.mkdir('{tmp}/folder')", "os.mkdir "),
    "removes": ("import os; os.remove('{tmp}/victim')", "os.remove "),
    "listens": ("import socket; socket.socket()", "socket.__new__"),
    "loops": ("import asyncio; asyncio.new_event_loop()", "socket.__new__"),
    "threads": (
        "import threading; threading.Thread(target=threading.Event().wait, name='planted', daemon=True).start()",
        "thread planted",
    ),
    "runs": ("import subprocess; subprocess.Popen(['true']).wait()", "subprocess.Popen "),
    "opens_database": ("import sqlite3; sqlite3.connect(':memory:')", "sqlite3.connect "),
    "logs": ("import logging; logging.basicConfig()", "handlers for logs or signals"),
    "handles": ("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)", "handlers for logs or signals"),
    "reads_environment": ("import os; os.environ['PATH']", "environment PATH"),
    "gets_environment": ("import os; os.getenv('HOME')", "environment HOME"),
    "sets_environment": ("import os; os.putenv('A', 'b')", "os.putenv "),
    "breaks": ("1 / 0", "ZeroDivisionError"),
    "ends": ("import os; os._exit(3)", "the process ended"),
}
"""A module's text that does something when imported, and how the effect is reported."""


LEANING = {
    "package/__init__": "",
    "package/inner": "",
    "brings": "import package.inner",
    "leans": "import package; package.inner",
    "first": "import second; ready = True",
    "second": "from first import ready",
}
"""Modules of which two can be imported only after others: after `brings`, after `second`."""


def effects_below(folder: Path) -> dict[str, list[str]]:
    result = subprocess.run([sys.executable, SCRIPT, folder], capture_output=True, text=True, check=True)
    return json.loads(result.stdout)


def test_importing_does_nothing():
    effects = effects_below(SRC)
    assert len(effects) > 300
    assert {name: what for name, what in effects.items() if what} == {}


@pytest.fixture(scope="module")
def planted_effects(tmp_path_factory) -> dict[str, list[str]]:
    tmp = tmp_path_factory.mktemp("planted")
    folder = tmp / "src"
    folder.mkdir()
    (tmp / "victim").touch()
    (folder / "harmless.py").write_text("import os\nprint = os.getenv\nopen(__file__).close()\n")
    for name, (text, _) in PLANTED.items():
        (folder / f"{name}.py").write_text(text.format(tmp=tmp))
    (folder / "package").mkdir()
    for name, text in LEANING.items():
        (folder / f"{name}.py").write_text(text)
    return effects_below(folder)


@pytest.mark.parametrize("name", PLANTED)
def test_an_effect_is_noticed(planted_effects, name):
    assert any(effect.startswith(PLANTED[name][1]) for effect in planted_effects[name]), planted_effects[name]


def test_a_harmless_module_has_no_effects(planted_effects):
    assert planted_effects["harmless"] == []


def test_a_module_that_leans_on_what_others_have_imported_is_noticed(planted_effects):
    assert {name for name, what in planted_effects.items() if what} - PLANTED.keys() == {"leans", "first"}
    assert planted_effects["leans"][0].startswith("AttributeError")
    assert planted_effects["first"][0].startswith("ImportError")
