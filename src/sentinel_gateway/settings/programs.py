"""The room `programs`: what `/v1/predict` runs beside its built-in programs."""

import re
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from sentinel_gateway.settings.room import Room

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_MODULE: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
FACES: Final = ("chat", "completions", "embeddings", "feedback", "messages", "predict", "query", "responses")
"""What `/costs` calls that which no program answered."""


def check_program(name: str) -> str:
    """A program's name: it becomes a label, and a part of a route."""
    if not _NAME.fullmatch(name):
        raise ValueError("a program's name has up to 64 lower-case letters, digits, '_' and '-', the first none of these two")
    if name in FACES:
        raise ValueError(f"'{name}' is what /costs calls another endpoint: give the program another name")
    return name


def check_module(path: str) -> str:
    """Where Python finds it."""
    if not _MODULE.fullmatch(path):
        raise ValueError(f"got '{path}', but a module is written package.module:attribute")
    return path


def check_state(path: Path) -> Path:
    """A pickle runs whatever its maker likes."""
    if path.suffix != ".json":
        raise ValueError(f"got '{path}', but a saved state must be JSON: program.save('{path.stem}.json')")
    return path


class ProgramSettings(Room):
    module: Annotated[str, AfterValidator(check_module)] | None = Field(
        default=None, description="A dspy.Module, or what makes one: package.module:attribute. Unset: what its signature says."
    )
    signature: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="Its inputs and outputs, typed: 'question, context -> answer: float'."
    )
    kind: Literal["predict", "cot", "react"] | None = Field(
        default=None, description="What is made of the signature: predict (the default), cot (thinks first) or react (has tools)."
    )
    instructions: str | None = Field(default=None, description="What the model is told to do, beside the signature.")
    state: Annotated[Path, AfterValidator(check_state)] | None = Field(
        default=None, description="A JSON file that DSPy has saved of the program: its instructions and examples."
    )
    semantic: bool = Field(default=False, description="May reworded questions answer what it asks models?")
    version: str = Field(default="", description="Change it, and what it has put out before is not served any more.")

    @model_validator(mode="after")
    def _check(self) -> "ProgramSettings":
        if self.module is None and self.signature is None:
            raise ValueError("needs a module, or a signature such as 'question -> answer'")
        if self.module is not None and (self.kind is not None or self.instructions is not None):
            raise ValueError("kind and instructions are for a program without a module: that says itself what it does")
        return self
