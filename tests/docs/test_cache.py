"""docs/cache.md says what the code says."""

import re
from pathlib import Path
from typing import get_args

from sentinel_gateway.core.caching import Why

PAGE = (Path(__file__).parents[2] / "docs" / "cache.md").read_text()


def test_every_reason_for_not_storing_is_explained_and_no_other() -> None:
    table = PAGE.partition("| WHY |")[2].partition("\n\n")[0]
    firsts = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert sorted(re.findall(r"`([^`]+)`", " ".join(firsts))) == sorted(get_args(Why))
