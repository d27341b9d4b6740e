"""docs/query.md says what the code says."""

import re
from pathlib import Path

from sentinel_gateway.api.wire import query
from sentinel_gateway.settings.presets import PRESETS

PAGE = (Path(__file__).parents[2] / "docs" / "query.md").read_text()


def firsts(heading: str) -> list[str]:
    """The words in the first column of the table below a heading."""
    table = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return re.findall(r"`([^`]+)`", " ".join(cells))


def test_every_member_is_explained_and_no_other():
    assert firsts("What you send") == list(query.QueryBody.model_fields)
    assert firsts("What you get") == list(query.QueryAnswer.__struct_fields__)


def test_the_default_models_are_the_presets():
    told = re.findall(r"`(\w+/[\w.-]+)`", PAGE.partition("Unset, it is")[2].partition("## Errors")[0])
    assert told == [f"{preset.name}/{preset.default_model}" for preset in PRESETS.values() if preset.default_model]
