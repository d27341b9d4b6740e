"""The index of decisions is whole."""

import re
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docs" / "decisions"


def test_every_decision_is_in_the_index_under_its_title():
    listed = dict(re.findall(r"\]\((\d{3}-[\w-]+\.md)\) \| (.+) \|", (FOLDER / "README.md").read_text()))
    files = sorted(FOLDER.glob("[0-9]*.md"))
    assert list(listed) == [file.name for file in files]
    assert [file.name[:3] for file in files] == [f"{number:03}" for number in range(1, len(files) + 1)]
    for file in files:
        assert file.read_text().startswith(f"# {file.name[:3]} ")
