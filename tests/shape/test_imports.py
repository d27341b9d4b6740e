"""The layers hold, and each rule of import-linter in pyproject.toml would notice if it didn't."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]

VIOLATIONS = {
    "Layers: imports point down, neighbours never see each other": [
        ("core/planted.py", "import sentinel_gateway.ports"),
        ("stores/planted.py", "import sentinel_gateway.providers"),
        ("pipeline/planted.py", "def late():\n    import sentinel_gateway.telemetry"),
        ("unlisted_room.py", ""),
    ],
    "Only the wiring names adapters": [("api/planted.py", "import sentinel_gateway.stores")],
    "Settings know nothing of what they configure": [("settings/planted.py", "import sentinel_gateway.core.chat")],
    "Rules have no clock, no chance, no I/O and no framework": [("core/planted.py", "def late():\n    from time import time")],
    "The path and its ports know no framework and no wire": [("pipeline/planted.py", "import starlette.requests")],
    "Only api and what is above it know the server": [("stores/planted.py", "import fastapi")],
    "Only providers call out": [("api/planted.py", "import aiohappyeyeballs")],
}
"""For each rule, files that break it."""


def lint_imports(package_parent: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(package_parent), "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_imports_follow_the_rules():
    result = lint_imports(ROOT / "src")
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"Contracts: {len(CONTRACTS)} kept, 0 broken." in result.stdout


def test_each_rule_notices_a_violation(tmp_path):
    package = tmp_path / "sentinel_gateway"
    shutil.copytree(ROOT / "src" / "sentinel_gateway", package, ignore=shutil.ignore_patterns("__pycache__"))
    for files in VIOLATIONS.values():
        for name, text in files:
            with (package / name).open("a") as file:
                file.write(text + "\n")
    output = lint_imports(tmp_path).stdout
    assert VIOLATIONS.keys() == {contract["name"] for contract in CONTRACTS}
    for contract, files in VIOLATIONS.items():
        assert f"{contract} BROKEN" in output
        for name, _ in files:
            assert f"sentinel_gateway.{name.removesuffix('.py').replace('/', '.')}" in output, name
