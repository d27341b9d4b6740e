"""`sentinel serve`."""

import gc
import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Final

from sentinel_gateway.cli.edge import loader, refuse
from sentinel_gateway.cli.line import Commands, add_command, add_config_option
from sentinel_gateway.errors import ConfigurationError

FIRST_PROCESS: Final = 1
"""Of a container. Signals that it does not ask for are kept from it."""


def add(commands: Commands) -> None:
    """Declare the command. Values are settings, so the settings judge them."""
    line = add_command(commands, serve)
    add_config_option(line)
    line.add_argument("--host", metavar="ADDRESS", help="Address to listen on; one beyond this machine needs a client key first.")
    line.add_argument("--port", metavar="PORT", help="Port to listen on; 0 takes any free one.")
    line.add_argument("--log-level", metavar="LEVEL", help="trace, debug, info, warn or error.")


def serve(config: Path | None, host: str | None, port: str | None, log_level: str | None) -> int:
    """Start the gateway.

    SIGTERM and Ctrl-C let running requests finish, a second one ends at once; SIGHUP reads the configuration again and keeps
    the old one if the new one is wrong.

    Examples:
      sentinel serve
      OPENAI_API_KEY=sk-... sentinel serve --port 9000
      sentinel serve --config /etc/sentinel/sentinel.yaml

    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
        if os.getpid() == FIRST_PROCESS:
            signal.signal(signal.SIGTERM, _end)  # until there is something to let finish
    gc.disable()  # nearly all that is made now stays, and to look through it time and again takes a sixth of a start
    try:
        from sentinel_gateway import serving

        return serving.serve(loader(config, {"host": host, "port": port, "log-level": log_level}))
    except ConfigurationError as error:
        return refuse(error)
    finally:
        gc.enable()


def _end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as signals call it
    """As it would have ended as any other process."""
    os._exit(128 + number)
