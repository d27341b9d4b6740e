"""A Dockerfile as the list of its instructions, as far as ours goes: comments, continued lines, stages."""

import json
import re
from pathlib import Path
from typing import NamedTuple


class Step(NamedTuple):
    """`stage` counts from 0; what stands before the first FROM is in stage -1."""

    stage: int
    word: str
    text: str

    @property
    def command(self) -> list[str]:
        """Of the exec form."""
        words: list[str] = json.loads(self.text)
        return words

    @property
    def pairs(self) -> dict[str, str]:
        """NAME=value, as ENV, ARG and LABEL have them; quotes are taken off."""
        found = re.findall(r'([\w.]+)=("[^"]*"|\S*)', self.text)
        return {name: value.removeprefix('"').removesuffix('"') for name, value in found}


def steps(file: Path) -> list[Step]:
    """From top to bottom."""
    lines = [line for line in file.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    found: list[Step] = []
    stage = -1
    for instruction in "\n".join(lines).replace("\\\n", " ").splitlines():
        word, _, text = instruction.strip().partition(" ")
        stage += word == "FROM"
        found.append(Step(stage, word, " ".join(text.split())))
    return found
