"""The page on reworded questions lists every guard, and no other."""

import re
from pathlib import Path
from typing import get_args

from sentinel_gateway.core.guards import Guard

PAGE = Path(__file__).parents[2] / "docs" / "semantic.md"


def test_the_page_lists_every_guard():
    guards = PAGE.read_text().partition("\n## Guards\n")[2].partition("\n## ")[0]
    assert sorted(re.findall(r"^\| `([a-z]+)` \|", guards, re.MULTILINE)) == sorted(get_args(Guard))
