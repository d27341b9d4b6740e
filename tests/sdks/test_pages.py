"""What docs/sdks shows, pasted and run in its client's environment as a newcomer does it; the suite changes the address alone."""

import subprocess
from pathlib import Path

import pytest

from tests.docs.test_sdks import PAGES, blocks
from tests.sdks.conftest import ADDRESS, ENVIRONMENTS, PATIENCE, Gateway, interpreter, variables

pytestmark = pytest.mark.sdks

SUFFIX = {"python": ".py", "js": ".mjs", "sh": ".sh"}
BEGINS = {"instructor": "name="}
"""What the demo's answer begins with, where that is not the question."""


def run(client: str, pasted: str, gateway: Gateway, home: Path) -> str:
    """What it says on its standard output. The file is not called as the client is, which an import would find first."""
    _, (kind, _), *_ = blocks(client)
    suffix = SUFFIX[kind]
    runner = interpreter(client, suffix.replace(".sh", ".py"))
    if suffix == ".mjs" and not (home / "node_modules").exists():
        (home / "node_modules").symlink_to(ENVIRONMENTS / client / "node_modules")
    file = home / f"ask{suffix}"
    assert ADDRESS in pasted
    file.write_text(pasted.replace(ADDRESS, gateway.base_url))
    command = ["sh" if kind == "sh" else runner, file]
    done = subprocess.run(
        command,
        cwd=home,
        env=variables(home, runner),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("client", PAGES)
def test_what_the_page_shows_runs_as_it_stands(client, gateway, tmp_path):
    """Its program twice, and once more with what the page goes on to show below it."""
    _, (_, whole), *more = blocks(client)
    before = gateway.hits
    said = [run(client, whole, gateway, tmp_path).splitlines() for _ in range(2)]
    assert gateway.hits == before + 1
    if "x-cache" in whole:
        assert [lines.pop() for lines in said] == ["miss", "exact"]
    assert said[0] == said[1]
    assert said[0][0].startswith(BEGINS.get(client, "You asked: What is the capital of France?"))
    if more:
        below = "".join(text for _, text in more)
        again = run(client, whole + below, gateway, tmp_path)
        assert len(again.splitlines()) > len(said[0]) + ("x-cache" in whole)
