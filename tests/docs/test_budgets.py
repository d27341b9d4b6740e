"""docs/budgets.md says what the code says, and its commands work as they stand there."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sentinel_gateway.api.wire.budget_headers import budget_headers
from sentinel_gateway.core.budgets import CALM, LEASE, Account, Allowance
from sentinel_gateway.core.pricing import NANO_PER_USD
from sentinel_gateway.pipeline.budgeting import refusal
from sentinel_gateway.rules import limit_rules, outputs
from sentinel_gateway.settings.load import load
from tests.docs.test_keys import ADMIN, GATEWAY, ID, shell
from tests.process.conftest import serve

__all__ = ["serve", "shell"]

PAGE = (Path(__file__).parents[2] / "docs" / "budgets.md").read_text()
COMMANDS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
ENDS = int(datetime(2026, 11, 23, tzinfo=UTC).timestamp())
DAILY = Allowance("a", "key", "day", 5 * NANO_PER_USD, ENDS)


def test_the_examples_are_a_configuration(tmp_path):
    (tmp_path / "sentinel.yaml").write_text("".join(re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)))
    settings = load({"HOME": "/h"}, cwd=tmp_path).settings
    budgets = limit_rules(settings).budgets
    assert (budgets.keys.day, budgets.keys.month) == (10 * NANO_PER_USD, None)
    assert (budgets.tenants["acme"].day, budgets.tenants["acme"].month) == (200 * NANO_PER_USD, 3000 * NANO_PER_USD)
    assert outputs(settings) == {"demo/demo": 16384}


def test_the_commands_work(shell, serve, tmp_path):
    made, changed, put, stand = COMMANDS
    id_ = re.search(r"key_\w+", said := shell(made))[0]
    assert "budget      5 USD a day, 100 USD a month" in said
    assert "may spend 8 USD a day, 100 USD a month" in shell(changed.replace(ID, id_))
    gateway = serve(SENTINEL_DATA_DIR=str(tmp_path / "data"), SENTINEL_ADMIN_KEY=ADMIN)
    put = json.loads(shell(put.replace(ID, id_).replace(GATEWAY, gateway.base_url)))
    assert (put["id"], put["budget"]) == (id_, {"day": "8", "month": "100"})
    told = json.loads(shell(stand.replace(GATEWAY, gateway.base_url)))
    assert [(one["owner"], one["span"], one["limit"]) for one in told["budgets"]] == [(id_, "day", 8.0), (id_, "month", 100.0)]
    shown = json.loads(re.search(r'```json\n(\{"timestamp".*?)```', PAGE, re.DOTALL)[1])
    assert (told.keys(), told["budgets"][0].keys()) == (shown.keys(), shown["budgets"][0].keys())


def test_the_headers_are_those_of_an_answer():
    told = "".join(f"{name.decode()}: {value.decode()}\n" for name, value in budget_headers([(DAILY, Account(10_000_000))]))
    [shown] = re.findall(r"```\n(x-budget.*?)```", PAGE, re.DOTALL)
    assert shown == told


def test_the_refusal_is_the_one_that_is_shown():
    error = refusal(DAILY, Account(5 * NANO_PER_USD), 1, retry_after=1.0)
    assert f'"message": "{error.message}"' in PAGE
    assert f'"type": "{error.type}"' in PAGE
    assert f'"code": "{error.code}"' in PAGE


def test_the_times_are_those_of_the_code():
    assert f"held for {LEASE // 1000} s more" in PAGE
    assert f"for {CALM // 1000} s nobody draws more" in PAGE


@pytest.mark.parametrize("setting", ["tokens.output", "tokens.media", "prices.unknown"])
def test_the_settings_that_it_names_are_there(setting):
    assert f"`{setting}`" in (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
