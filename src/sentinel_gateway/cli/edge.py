"""Where commands meet the process: the only place that reads its environment and working folder, and what commands share."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Final

import typer

from sentinel_gateway.errors import ConfigurationError
from sentinel_gateway.settings.load import NO_FLAGS, Loaded, load

WRONG_CONFIGURATION: Final = 2
"""Exit code for a configuration that can't be used."""

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", metavar="FILE", help="The YAML file. Default: $SENTINEL_CONFIG, else ./sentinel.yaml if there is one."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")]


def loader(config: Path | None, flags: Mapping[str, object] = NO_FLAGS) -> Callable[[], Loaded]:
    """A function that loads the settings as they are when it is called; a reload calls it again."""
    cwd = Path.cwd()

    def load_now() -> Loaded:
        return load(os.environ, cwd=cwd, config=config, flags=flags)

    return load_now


def refuse(error: ConfigurationError, *, as_json: bool = False) -> typer.Exit:
    """Report every fault; raise what comes back."""
    if as_json:
        faults = [{"place": place, "fault": sentence} for place, sentence in error.faults]
        typer.echo(json.dumps({"ok": False, "faults": faults}, indent=2))
    else:
        count = len(error.faults)
        typer.echo(f"The configuration has {count} fault{'' if count == 1 else 's'}:", err=True)
        for place, sentence in error.faults:
            typer.echo(f"\n  {place}\n    {sentence}", err=True)
    return typer.Exit(WRONG_CONFIGURATION)
