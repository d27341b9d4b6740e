"""Processes that all want to make the same file at the same moment."""

import os
import subprocess
import sys
from pathlib import Path

RACERS = 8


def raced(module: str, expression: str, folder: Path) -> list[str]:
    """What each says of `expression`, which sees the names of the module and the folder; all have loaded it before they begin."""
    root = Path(__file__).parents[3]
    code = (
        f"import sys, pathlib; from {module} import *; folder = pathlib.Path(sys.argv[1])\n"
        f"print(flush=True); sys.stdin.read(1); print({expression})"
    )
    kept = {name: os.environ[name] for name in ("PATH", "COVERAGE_PROCESS_CONFIG") if name in os.environ}
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": kept | {"PYTHONPATH": f"{root}/src"}}
    racers = [subprocess.Popen([sys.executable, "-c", code, folder], **options) for _ in range(RACERS)]
    for racer in racers:
        racer.stdout.readline()
    for racer in racers:
        racer.stdin.write("x")
        racer.stdin.flush()
    said = [racer.communicate(timeout=60)[0].strip() for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * RACERS
    return said
