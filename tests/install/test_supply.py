"""`make sbom` names everything that is installed, by version and hash. Its tools come from the network: not in `make test`."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.shape import hygiene

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
FILES = {"runtime.lock": "sbom.json", "image.lock": "sbom-image.json"}


@pytest.fixture(scope="module")
def bills() -> dict[str, dict]:
    """What each lock's bill says."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    made = subprocess.run(["make", "sbom"], cwd=ROOT, env=inherited, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    read = {name: json.loads((ROOT / "dist" / file).read_text()) for name, file in FILES.items()}
    shutil.rmtree(ROOT / "dist")
    return read


@pytest.mark.parametrize("lock", FILES)
def test_it_names_what_is_locked_with_its_hashes(bills, lock):
    locked = hygiene.pins((ROOT / "requirements" / lock).read_text())
    assert {part["name"]: part["version"] for part in bills[lock]["components"]} == locked
    for part in bills[lock]["components"]:
        hashes = [found for reference in part["externalReferences"] for found in reference.get("hashes", ())]
        assert {found["alg"] for found in hashes} == {"SHA-256"}, part["name"]


@pytest.mark.parametrize("lock", FILES)
def test_it_says_of_what(bills, lock):
    bill = bills[lock]
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "sentinel-gateway")
    assert float(bill["specVersion"]) >= 1.6
