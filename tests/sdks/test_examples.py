"""The examples in JavaScript, and the Postman collection by newman: against a gateway, as they are."""

import subprocess
from pathlib import Path

import pytest

from tests.sdks.conftest import ENVIRONMENTS, PATIENCE, ROOT, Gateway, interpreter

pytestmark = pytest.mark.sdks

EXAMPLES = ROOT / "examples"


@pytest.fixture
def node(gateway, tmp_path):
    """node("ask.mjs", "openai-js") runs a copy beside that client's packages, on an empty cache; what it says."""

    def run(example: str, client: str) -> str:
        gateway.clear()
        (tmp_path / "node_modules").symlink_to(ENVIRONMENTS / client / "node_modules")
        copy = tmp_path / example
        copy.write_text((EXAMPLES / "javascript" / example).read_text())
        command, environ = [interpreter(client, ".mjs"), copy], {"GATEWAY": gateway.base_url}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return run


def test_openai_s_client_says_where_answers_came_from(node):
    assert [line.split()[0] for line in node("ask.mjs", "openai-js").splitlines()] == ["miss", "exact", "semantic"]


def test_fetch_alone_reads_a_stream(node):
    assert node("stream.mjs", "openai-js").startswith("You asked: Tell me of the Danube")


def collection(gateway: Gateway, **variables: str) -> subprocess.CompletedProcess[str]:
    """What newman makes of it."""
    program = ENVIRONMENTS / "newman" / "node_modules" / "newman" / "bin" / "newman.js"
    assert program.exists(), "newman is missing: `make test-sdks` installs it"
    given = [f"--env-var={name}={value}" for name, value in {"gateway": gateway.base_url, **variables}.items()]
    command = [interpreter("newman", ".mjs"), program, "run", EXAMPLES / "postman" / "sentinel.postman_collection.json", *given]
    return subprocess.run(
        command, env={"HOME": str(Path.home())}, capture_output=True, text=True, timeout=4 * PATIENCE, check=False
    )


def test_postman_s_collection_passes_twice(gateway):
    """The second run finds a gateway that has seen all of it before."""
    for _ in range(2):
        done = collection(gateway, admin_key=Gateway.ADMIN_KEY)
        assert done.returncode == 0, done.stdout[-6000:]
        assert "failures" not in done.stdout.partition("executed")[0]


def test_postman_s_collection_can_fail(gateway):
    done = collection(gateway, admin_key="sk-sn-wrong")
    assert done.returncode != 0
    assert "AssertionError" in done.stdout
