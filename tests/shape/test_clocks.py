"""Who reads the wall clock: nobody whose deadlines a jump of it could move. All else is given a `SteadyClock`, or counts by the
monotonic clock, so the change of summer time, a leap second and an operator's hand are nothing to it (F12).
"""

import ast
from pathlib import Path

from tests.shape.budget import walk

SRC = Path(__file__).parents[2] / "src" / "sentinel_gateway"
WALL_CLOCK = {
    "stores/clock.py::SteadyClock": "read once, and carried on by a monotonic clock",
    "adapters.py::_signer": "AWS refuses what was not signed at its time of day",
    "providers/openai.py::OpenAIProvider": "a date in Retry-After is one of the wall clock",
    "providers/openai.py::OpenAIStream": "the same",
    "providers/_translated.py::TranslatedProvider": "the same",
    "providers/_translated.py::TranslatedStream": "the same",
    "providers/_translated.py::_writer": "an answer says when it was made, and nothing goes by that",
    "ledger/look.py::look": "it is the clock that is looked at",
    "stores/_adoption.py::adopt": "once, before anything is served: when keys were brought over",
    "programs/tools.py::today": "a tool for programs: what day it is",
}
"""In what serves requests; what ends by itself (commands, probes, the evaluation) may read what it likes."""
ENDS_BY_ITSELF = ("cli/", "evaluation/", "probes.py")
READS = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "date.today", "time.localtime", "datetime.today"}


def readers(source: str) -> set[str]:
    """The classes or functions of a module in which the wall clock is named, called or not; local time, too."""
    found = set()
    for scope, node in walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in READS:
            found.add(scope.partition(".")[0])
    return found


def test_a_reader_is_found_however_it_reads():
    assert readers("def f():\n    return time.time()") == {"f"}
    assert readers("class A:\n    def f(self):\n        return g(clock=time.time)") == {"A"}
    assert readers("def f():\n    return datetime.now(UTC)") == {"f"}
    assert readers("def f():\n    return time.monotonic()") == set()


def test_nobody_else_reads_the_wall_clock():
    found = {
        f"{path.relative_to(SRC)}::{scope}"
        for path in SRC.rglob("*.py")
        if not str(path.relative_to(SRC)).startswith(ENDS_BY_ITSELF)
        for scope in readers(path.read_text())
    }
    assert found == WALL_CLOCK.keys()
