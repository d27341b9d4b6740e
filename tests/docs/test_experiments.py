"""docs/experiments.md says what the gateway does."""

import json
import re
import subprocess
import time
from pathlib import Path

from sentinel_gateway import rules
from sentinel_gateway.core.experiments import ERROR, LEAST_UNITS, Arm
from sentinel_gateway.settings.experiments import LEAST_ARMS, MOST_ARMS, ArmSettings
from sentinel_gateway.settings.load import load
from tests.process.conftest import serve

__all__ = ["serve"]

ADMIN = "an-admin-key-of-the-tests-that-is-long-enough"
PAGE = (Path(__file__).parents[2] / "docs" / "experiments.md").read_text()
[EXAMPLE] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def test_the_example_is_a_configuration_and_the_curls_work(serve, tmp_path):
    ask, look = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    (promised,) = re.findall(r"```\n(x-sentinel-experiment: [\w=-]+)\n```", PAGE)
    file = tmp_path / "experiments.yaml"
    file.write_text(EXAMPLE)
    file.chmod(0o600)
    server = serve(SENTINEL_ADMIN_KEY=ADMIN, SENTINEL_CONFIG=str(file))

    def run(script: str) -> str:
        script = f"SENTINEL_ADMIN_KEY={ADMIN}\n" + script.replace("http://127.0.0.1:8080", server.base_url)
        return subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=30, check=True).stdout

    [arm] = re.findall(r"^x-sentinel-experiment: fresher=(\w+)$", run(ask), re.MULTILINE)
    assert arm in {"usual", "short"}
    assert promised.startswith("x-sentinel-experiment: fresher=")
    end = time.monotonic() + 30
    told = json.loads(run(look))
    while not any(one["requests"] for one in told["arms"]):
        assert time.monotonic() < end
        told = json.loads(run(look))
    assert {one["arm"]: one["requests"] for one in told["arms"]} == {"usual": 0, "short": 0} | {arm: 1}
    for name in re.findall(r"`(\w+)`", PAGE[PAGE.index("## What came of it") : PAGE.index("Conversations are counted")]):
        if name.endswith(("_rate", "_ms", "_request", "_hits", "_wrong")):
            assert any(name in part for part in (told, *told["arms"])), name


def test_the_example_says_the_defaults(tmp_path):
    (tmp_path / "sentinel.yaml").write_text(EXAMPLE)
    (tmp_path / "sentinel.yaml").chmod(0o600)
    [experiment] = rules.experiments(load({"HOME": "/h"}, cwd=tmp_path).settings)
    assert (experiment.by, experiment.share) == ("conversation", 1.0)
    assert experiment.arms == (Arm("usual"), Arm("short", ttl=60.0))


def test_every_setting_of_an_arm_stands_in_the_table():
    table = PAGE[PAGE.index("## What an arm changes") : PAGE.index("**Who is in which arm**")]
    assert {name for name in ArmSettings.model_fields if f"| `{name}" not in table} == set()
    assert f"# {LEAST_ARMS} to {MOST_ARMS};" in EXAMPLE
    assert f"below {LEAST_UNITS} in an arm" in PAGE
    assert ERROR == 0.05, "one experiment of twenty"
