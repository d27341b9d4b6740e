"""docs/prices.md says what the code says."""

import json
import re
import subprocess
from pathlib import Path

from sentinel_gateway import rules
from sentinel_gateway.core.chat import Usage
from sentinel_gateway.core.pricing import FALLBACK, cost, usd
from sentinel_gateway.providers.catalogue import SHELVES
from sentinel_gateway.settings.load import load
from sentinel_gateway.settings.prices import PriceSettings
from sentinel_gateway.telemetry.costs import MOST
from tests.process.conftest import serve

__all__ = ["serve"]

PAGE = (Path(__file__).parents[2] / "docs" / "prices.md").read_text()
[EXAMPLE] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def test_the_example_is_a_configuration(tmp_path):
    (tmp_path / "sentinel.yaml").write_text(EXAMPLE)
    own = rules.price_rules(load({"HOME": "/h"}, cwd=tmp_path).settings).own
    assert list(own) == ["local/*", "local/big"]
    assert usd(cost(own["local/big"], Usage(200_001, 0, 0))) == "1.200006"
    assert own["local/big"].as_of == "2026-01-31"


def test_every_member_of_a_price_is_explained():
    [_, table] = PAGE.split("| member |", 1)
    explained = set(re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in table.splitlines()[2:9])))
    assert explained == set(PriceSettings.model_fields)


def test_the_estimate_and_the_bounds_are_those_that_are_told():
    assert f"(${FALLBACK.usd_per_million('input')} and ${FALLBACK.usd_per_million('output')} per million tokens)" in PAGE
    assert f"{MOST} pairs of a model and a face" in PAGE
    assert f"the prices of {'thirteen' if len(SHELVES) == 13 else len(SHELVES)} providers" in PAGE


def test_the_lines_tell_what_is_shown(serve) -> None:
    program = serve()
    question = {"model": "demo", "messages": [{"role": "user", "content": "What is the capital of France?"}]}
    first, _ = [program.request("POST", "/v1/chat/completions", question) for _ in range(2)]
    costs, metrics = [
        json.loads(
            subprocess.run(
                ["sh", "-c", line.replace("http://127.0.0.1:8080", program.base_url)], capture_output=True, check=True
            ).stdout
        )
        for line in re.findall(r"```sh\n(curl .*?)\n```", PAGE)
    ]
    [shown] = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
    costs["demo:chat"]["last_updated"] = shown["demo:chat"]["last_updated"]
    assert costs == shown
    assert list(costs["demo:chat"]) == list(shown["demo:chat"])
    assert first.headers["x-sentinel-cost-usd"] == usd(round(shown["demo:chat"]["total_cost_usd"] * 10**9))
    assert metrics["cost_analysis"]["savings_percent"] == "50.00%"
