"""The page on reworded questions lists every guard, and no other."""

import re
from pathlib import Path
from typing import get_args

from sentinel_gateway.core.guards import Guard

PAGE = Path(__file__).parents[2] / "docs" / "semantic.md"


def test_the_page_lists_every_guard():
    assert sorted(re.findall(r"^\| `([a-z]+)` \|", PAGE.read_text(), re.MULTILINE)) == sorted(get_args(Guard))
