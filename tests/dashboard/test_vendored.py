"""What others have made is what they made: each vendored file has the digest that is written beside it, and no other is there."""

import hashlib
import re
from pathlib import Path

import pytest

from sentinel_gateway.api.dashboard.static import FOLDER

VENDOR = Path(__file__).parent / "vendor"
ROW = re.compile(r"^\| `([^`]+)` \| .*\| `([0-9a-f]{64})` \|$", re.MULTILINE)
OURS = {"dashboard.css", "dashboard.js", "playground.js", "sentinel.svg", "sign_in.js", "theme.js"}


@pytest.mark.parametrize("folder", [FOLDER, VENDOR])
def test_vendored_files_are_unchanged(folder):
    listed = dict(ROW.findall((folder / "VENDORED.md").read_text()))
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in listed} == listed
    code = {path.name for path in folder.iterdir() if path.suffix in {".js", ".css", ".svg"}}
    assert code == listed.keys() | (OURS if folder == FOLDER else set())
