"""What programs there are: those that come with the gateway, and how an operator's are told."""

from pathlib import Path
from typing import Final, Literal

import msgspec

Kind = Literal["predict", "cot", "react"]


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """One program: a `module` (`package.module:attribute`), or what `kind` makes of a `signature`.

    `state` is a JSON file that DSPy has saved. `version` is the operator's word for what we can't see changing.
    """

    name: str
    kind: Kind = "predict"
    module: str | None = None
    signature: str | None = None
    instructions: str | None = None
    state: Path | None = None
    semantic: bool = False
    version: str = ""


QUESTION: Final = "question -> answer"
BUILT_IN: Final = (
    Definition(name="baseline", signature=QUESTION),
    Definition(name="cot", kind="cot", signature=QUESTION),
    Definition(name="react", kind="react", signature=QUESTION),
)
"""Always there, unless a program of the operator's has the same name."""
