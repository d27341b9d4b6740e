"""docs/quickstart.md from its second step on, as a newcomer does it; the first is what `tests/shape` builds wheels for."""

import re
import sys
import tomllib
from pathlib import Path

from sentinel_gateway.settings.load import load
from tests.docs.test_keys import GATEWAY, shell
from tests.process.conftest import serve

__all__ = ["serve", "shell"]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "quickstart.md").read_text()
STEPS = dict(re.findall(r"^## \d\. (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


def blocks(step: str, kind: str = "sh") -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", STEPS[step], re.DOTALL)


def test_the_steps_work(serve, shell, tmp_path):
    program = serve(SENTINEL_DATA_DIR=str(tmp_path / "data"))
    first, reworded, why = (block.replace(GATEWAY, program.base_url) for block in blocks("Ask, twice, and in other words"))
    seen = [re.search(r"x-cache: (\w+)", shell(line))[1] for line in (first, first, reworded)]
    assert seen == ["miss", "exact", "semantic"]
    assert re.findall(r"`x-cache: (\w+)`", STEPS["Ask, twice, and in other words"]) == seen
    assert re.search(r"x-cache-explain: .*guard-", shell(why))
    [check] = [line for line in blocks("A real provider") if "check" in line]
    [example] = blocks("A real provider", "yaml")
    (tmp_path / "sentinel.yaml").write_text(example)
    shell(f"cd {tmp_path} && {check}", GROQ_API_KEY="gsk_1", OPENAI_API_KEY="sk-1")
    [pasted] = blocks("Your program", "python")
    (tmp_path / "ask.py").write_text(pasted.replace(GATEWAY, program.base_url))
    said = [shell(f"{sys.executable} {tmp_path}/ask.py").splitlines()[-1] for _ in range(2)]
    assert said == ["miss", "exact"]
    [create] = blocks("Others")
    assert re.search(r"sk-sn-\S+", shell(create))


def test_what_it_names_is_there(tmp_path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = re.search(r"are extras: (.*?)\.\n", PAGE)[1]
    assert set(re.findall(r"`(\w+)`", extras)) == project["optional-dependencies"].keys()
    assert load({"HOME": "/h"}, cwd=tmp_path).settings.server.port == 8080
