"""docs/routing.md says what the code says."""

import json
import re
import subprocess
from pathlib import Path
from typing import get_args

from sentinel_gateway import rules
from sentinel_gateway.core.record import Ending
from sentinel_gateway.core.retrying import RetryRules
from sentinel_gateway.core.routing import Deadlines, Hedge
from sentinel_gateway.core.standing import BEGINNINGS, ENOUGH, IN_TIME, RESERVE, StandingRules
from sentinel_gateway.pipeline.recovery import WITHHELD_BYTES
from sentinel_gateway.providers._errors import MAX_READ
from sentinel_gateway.settings.load import load
from sentinel_gateway.settings.targets import Hedging, ModelSettings, Routing
from tests.process.conftest import serve

__all__ = ["serve"]

PAGE = (Path(__file__).parents[2] / "docs" / "routing.md").read_text()
ADMIN = "sk-sn-admin-of-the-tests"


def test_the_example_is_a_configuration(tmp_path) -> None:
    [example] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "sentinel.yaml").write_text(example)
    keys = {"GROQ_API_KEY": "gsk_1", "OPENAI_API_KEY": "sk-1"}
    settings = load({"HOME": "/h"} | keys, cwd=tmp_path).settings
    routes = rules.routes(settings)
    assert {name: route.strategy for name, route in routes.items()} == {
        "fast": "priority",
        "spread": "weighted",
        "quick": "least_latency",
        "able": "priority",
        "urgent": "priority",
        "costly": "priority",
    }
    assert routes["spread"].sticky
    assert routes["able"].abilities[0].context == 8192
    urgent, costly = routes["urgent"].conduct, routes["costly"].conduct
    assert (urgent.hedge, urgent.total) == (Hedge(1.5, 0.05), 45.0)
    assert (costly.careful, costly.drain) == (frozenset(routes["costly"].targets), True)
    assert costly.deadlines_of(routes["costly"].targets[0], 0.0) == Deadlines(idle=20.0)
    assert rules.retries(settings) == RetryRules()
    assert rules.standings(settings) == StandingRules()


def test_every_strategy_and_every_outcome_is_told() -> None:
    (strategies, _) = get_args(ModelSettings.model_fields["strategy"].annotation)
    told = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert set(get_args(strategies)) <= set(told)
    assert all(f"`{ending}`" in PAGE for ending in get_args(Ending))


def test_the_figures_are_the_code_s() -> None:
    assert (StandingRules().retry_budget, RESERVE) == (0.1, 10.0)
    assert "for one request in ten (`routing.retry_budget`, with ten to begin with)" in PAGE
    assert StandingRules().cool_down == 30.0
    assert "cools so long, 30 s at most" in PAGE
    assert (BEGINNINGS, ENOUGH, IN_TIME) == (200, 20, 0.95)
    assert "95 % of its answers lately (of the last 200" in PAGE
    assert "before 20 are known" in PAGE
    assert Hedging(after=1.0).max_cost_share == 0.05
    assert "`max_cost_share` (0.05)" in PAGE
    assert Routing().max_drains == 64
    assert "`routing.max_drains` (64)" in PAGE
    assert MAX_READ == 64 * 1024


def test_the_curls_work(serve) -> None:
    server = serve(SENTINEL_ADMIN_KEY=ADMIN)
    script = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL))
    script = script.replace("http://127.0.0.1:8080", server.base_url).replace("curl ", "curl -s ")
    script = f"export SENTINEL_ADMIN_KEY={ADMIN}\n{script}"
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=30, check=True).stdout
    stream, _, documents = said.partition("data: [DONE]\n\n")
    assert stream.count('"role":"assistant"') == 1
    assert [json.loads(line) for line in documents.replace("}{", "}\n{").splitlines()] == [{"targets": []}, {"closed": []}]


def test_what_is_withheld_at_most_is_told() -> None:
    assert f"Up to {WITHHELD_BYTES >> 20} MiB are withheld" in PAGE
