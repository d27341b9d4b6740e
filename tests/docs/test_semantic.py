"""docs/semantic.md says what the code says, and its figures are those of the model that is built in."""

import math
import re
import subprocess
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from sentinel_gateway.core.budget import ErrorBudgets
from sentinel_gateway.core.guards import Guard
from sentinel_gateway.core.identity import Unfit
from sentinel_gateway.embedders.local import LocalLimits
from sentinel_gateway.embedders.minilm import open_minilm
from sentinel_gateway.rules import error_budgets
from sentinel_gateway.settings.load import load
from tests.process.conftest import serve

__all__ = ["serve"]

PAGE = (Path(__file__).parents[2] / "docs" / "semantic.md").read_text()


def table(head: str) -> list[list[str]]:
    _, _, rest = PAGE.partition(head)
    lines = rest.partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if not line.startswith("|---")][1:]


def test_every_reason_is_explained() -> None:
    text = " ".join(row[0] + row[1] for row in table("| REASON | |"))
    assert {name for name in get_args(Unfit) if f"`{name}`" not in text} == set()


def test_every_guard_is_described() -> None:
    _, _, guards = PAGE.partition("## Guards")
    assert {name for name in get_args(Guard) if f"`{name}`" not in guards} == set()


@pytest.mark.anyio
async def test_the_similarities_are_the_models_own() -> None:
    embedder = await open_minilm(limits=LocalLimits(deadline=20), on_event=print)
    rows = table("| stored | asked | similarity |")
    assert len(rows) >= 6
    for stored, asked, shown, _ in rows:
        one, other = await embedder.embed([stored, asked])
        unit = 10 ** len(shown.partition(".")[2])
        assert math.floor(float(np.dot(one, other)) * unit) == round(float(shown) * unit), (stored, asked)
    await embedder.close()


def test_budgets_are_set_as_shown(tmp_path) -> None:
    _, _, section = PAGE.partition("## How sure is sure enough")
    (tmp_path / "sentinel.yaml").write_text(re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)[0])
    budgets = error_budgets(load({"HOME": "/h", "GROQ_API_KEY": "gsk-of-the-tests"}, cwd=tmp_path).settings)
    assert budgets == ErrorBudgets(0.01, {"fast": 0.005}, {"legal": 0.001})


def test_the_curls_work(serve) -> None:
    block = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)[0]
    (promised,) = re.findall(r"```\n(x-cache: .*?)```", PAGE, re.DOTALL)
    script = block.replace("http://127.0.0.1:8080", serve().base_url)
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=30, check=True).stdout
    assert re.findall(r"^x-cache: (\w+)", said, re.MULTILINE) == ["miss", "semantic"]
    for line in promised.strip().splitlines():
        assert line.partition("ttl=")[0] in said
