"""`sentinel check`."""

import json
from pathlib import Path

from sentinel_gateway.cli.edge import loader, refuse
from sentinel_gateway.cli.line import Commands, add_command, add_config_option, add_json_option
from sentinel_gateway.errors import ConfigurationError


def add(commands: Commands) -> None:
    """Declare the command."""
    line = add_command(commands, check)
    add_config_option(line)
    add_json_option(line)


def check(config: Path | None, *, as_json: bool) -> int:
    """Validate the configuration without starting.

    Shows what would be on, or every fault with its place and what would be right. Exit code 0 if the configuration holds,
    else 2.

    Examples:
      sentinel check
      sentinel check --config new.yaml --json

    """
    from sentinel_gateway.cli.summary import describe, summarize

    try:
        loaded = loader(config)()
    except ConfigurationError as error:
        return refuse(error, as_json=as_json)
    summary = summarize(loaded)
    print(json.dumps({"ok": True} | summary, indent=2) if as_json else "\n".join(describe(summary)))
    return 0
