"""`make scale-out` in small: every act is played, every promise is judged, and holds."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server.nginx import is_installed
from tests.servers import POSTGRES

ROOT = Path(__file__).parents[2]
PROMISES = 11


@pytest.mark.long
def test_the_promises_hold(tmp_path, absent):
    if not is_installed() or POSTGRES is None:
        absent("nginx or PostgreSQL (make test-deps installs them)")
    command = [sys.executable, "-m", "tests.scale_out.run", "--quick", "--out", str(tmp_path)]
    ran = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False, timeout=300)
    print(ran.stdout)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (report,) = tmp_path.glob("*-scale-out.md")
    judged = re.findall(r"^\| .* \| (held|\*\*BROKEN\*\*) \|$", report.read_text(), re.MULTILINE)
    assert judged == ["held"] * PROMISES
