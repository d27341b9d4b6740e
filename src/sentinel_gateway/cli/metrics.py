"""`sentinel metrics`: what is kept of providers' last hours, in Redis."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sentinel_gateway.cli.edge import loader, refuse
from sentinel_gateway.cli.line import WRONG_USE, Commands, add_command, add_config_option
from sentinel_gateway.errors import ConfigurationError, StoreDown

if TYPE_CHECKING:
    from sentinel_gateway.settings.model import Settings

FEWEST: Final = 1
MOST: Final = 720
NO_ANSWER: Final = 1
"""Exit code where Redis does not answer."""


def add(commands: Commands) -> None:
    """Declare the command and the one below it."""
    line = add_command(commands, metrics)
    line.set_defaults(command=None)
    below = line.add_subparsers(title="commands", metavar="COMMAND")
    line = add_command(below, cleanup)
    line.add_argument("--hours", type=_hours, default=2, metavar="HOURS", help="Keep so many hours. Default: 2.")
    add_config_option(line)


def metrics() -> int:
    """Look after what is kept of providers' last hours.

    Example:
      sentinel metrics cleanup --hours 2

    """
    return WRONG_USE


def cleanup(hours: int, config: Path | None) -> int:
    """Remove what is older from Redis.

    Nothing needs it: all of it ends by itself after two hours. It looks through all keys of the server, some hundred at a time,
    and leaves alone what others keep by such names: hashes without total_cost, members that are no <ms>:<id> by Unix seconds.
    Exit code 0, 1 if Redis does not answer, 2 if the configuration is wrong.

    Example:
      sentinel metrics cleanup --hours 1

    """
    import asyncio

    try:
        settings = loader(config)().settings
        removed = asyncio.run(_clean(settings, hours))
    except ConfigurationError as error:
        return refuse(error)
    except StoreDown as error:
        print(f"sentinel: Redis does not answer as it should ({error})", file=sys.stderr)
        return NO_ANSWER
    if removed is None:
        print("No Redis is configured: what a gateway keeps in memory ends by itself.")
    else:
        print(f"{removed} removed.")
    return 0


async def _clean(settings: "Settings", hours: int) -> int | None:
    """How many hours and measured calls were removed; None where there is no Redis."""
    from sentinel_gateway.adapters import open_redis
    from sentinel_gateway.storage import open_recent
    from sentinel_gateway.stores.clock import SteadyClock
    from sentinel_gateway.telemetry.events import Unheard

    clock = SteadyClock()
    link = open_redis(settings, "cleanup", clock, Unheard())
    if link is None:
        return None
    try:
        await link.check()
        return await open_recent(settings, link, clock).cleanup_old_data(hours)
    finally:
        await link.close()


def _hours(said: str) -> int:
    import argparse

    if said.isdecimal() and FEWEST <= int(said) <= MOST:
        return int(said)
    raise argparse.ArgumentTypeError(f"'{said}' is no number of hours from {FEWEST} to {MOST}")
