"""docs/limits.md says what the code says."""

import re
from pathlib import Path

import pytest

from sentinel_gateway.api.wire.limit_headers import limit_headers
from sentinel_gateway.core.budgets import Budget
from sentinel_gateway.core.limits import Limits, Standing
from sentinel_gateway.errors import RequestsLimited
from sentinel_gateway.pipeline.callers import LimitRules
from sentinel_gateway.pipeline.limiting import Limiter
from sentinel_gateway.settings.load import load
from sentinel_gateway.stores.memory_limits import MOST_USERS, MemoryLimits
from tests.fakes import FakeClock
from tests.process.conftest import serve

__all__ = ["serve"]

PAGE = (Path(__file__).parents[2] / "docs" / "limits.md").read_text()

SPENT = 20
"""Requests of 60 a minute: a bucket that fills for so many seconds is one in use, also when a machine stands still meanwhile."""


class Party:
    id = tenant = "one"
    limits = Limits(requests_per_minute=600)
    user_limits = Limits()
    budget = Budget()


def test_the_example_is_a_configuration(tmp_path):
    [example] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "sentinel.yaml").write_text(example)
    settings = load({"HOME": "/h"}, cwd=tmp_path).settings
    assert settings.limits.requests_per_minute == 600
    assert settings.tenants["acme"].limits.requests_per_minute == 3000
    assert settings.models["big"].limits.requests_per_minute == 60


def test_the_headers_are_those_of_a_first_request():
    told = "".join(f"{name.decode()}: {value.decode()}\n" for name, value in limit_headers(Standing(600, 599, 100), None))
    [shown] = re.findall(r"```\n(x-ratelimit.*?)```", PAGE, re.DOTALL)
    assert sorted(shown.splitlines()) == sorted(told.splitlines())


@pytest.mark.anyio
async def test_the_refusal_is_the_one_that_is_shown():
    clock = FakeClock()
    limiter = Limiter(MemoryLimits(clock=clock), rules=LimitRules(), clock=clock, chance=float)
    with pytest.raises(RequestsLimited) as caught:
        for _ in range(601):
            await limiter.grant(Party()).enter(model="m")
    assert f'"message": "{caught.value.message}"' in PAGE
    assert f'"type": "{caught.value.type}"' in PAGE


def test_the_bound_on_end_users_is_the_one_that_is_told():
    assert f"{MOST_USERS:,} of them counted apart" in PAGE


def test_a_gateway_with_the_example_tells_its_limits_and_its_buckets(serve, tmp_path):
    [example] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "sentinel.yaml").write_text(example)
    gateway = serve()
    told = gateway.ask("How many more?").headers
    [shown] = re.findall(r"```\n(x-ratelimit.*?)```", PAGE, re.DOTALL)
    for line in shown.splitlines():
        name, _, value = line.partition(": ")
        assert told[name].split(", ")[0] == value
    assert told["x-ratelimit-limit-tokens"] == "100000"
    for _ in range(SPENT):
        assert gateway.ask("How many of this model?", "big").headers["x-ratelimit-limit-requests"] == "60"
    in_use = re.search(r"^rate_limiter_buckets (.*)$", gateway.request("GET", "/metrics").body.decode(), re.MULTILINE)
    assert float(in_use[1]) > 0


def test_models_metrics_and_probes_cost_nothing(serve, tmp_path):
    (tmp_path / "sentinel.yaml").write_text("limits: {requests_per_minute: 1}\n")
    gateway = serve()
    for path in ("/v1/models", "/metrics", "/v1/metrics", "/health"):
        assert gateway.request("GET", path).status == 200
    assert [gateway.ask("Once").status, gateway.ask("Once").status] == [200, 429]
