"""Where commands meet the process: the only place that reads its environment and working folder, and what commands share."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from sentinel_gateway.errors import ConfigurationError

if TYPE_CHECKING:
    from sentinel_gateway.settings.load import Load, Loaded

WRONG_CONFIGURATION: Final = 2
"""Exit code for a configuration that can't be used."""
NO_FLAGS: Final[Mapping[str, object]] = MappingProxyType({})


def loader(config: Path | None, flags: Mapping[str, object] = NO_FLAGS) -> "Load":
    """A function that loads the settings as they are when it is called; a reload calls it again."""
    from sentinel_gateway.settings.load import load

    cwd = Path.cwd()

    def load_now(*, draft: str | None = None) -> "Loaded":
        return load(os.environ, cwd=cwd, config=config, flags=flags, draft=draft)

    return load_now


def refuse(error: ConfigurationError, *, as_json: bool = False) -> int:
    """Report every fault; the exit code."""
    if as_json:
        faults = [{"place": place, "fault": sentence} for place, sentence in error.faults]
        print(json.dumps({"ok": False, "faults": faults}, indent=2))
    else:
        count = len(error.faults)
        print(f"The configuration has {count} fault{'' if count == 1 else 's'}:", file=sys.stderr)
        for place, sentence in error.faults:
            print(f"\n  {place}\n    {sentence}", file=sys.stderr)
    return WRONG_CONFIGURATION
