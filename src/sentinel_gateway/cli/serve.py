"""`sentinel serve`."""

import signal
import threading
from typing import Annotated

import typer

from sentinel_gateway.cli.edge import ConfigOption, loader, refuse
from sentinel_gateway.errors import ConfigurationError


def serve(
    config: ConfigOption = None,
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Address to listen on; this version takes loopback only.")
    ] = None,
    port: Annotated[str | None, typer.Option(metavar="PORT", help="Port to listen on; 0 takes any free one.")] = None,
    log_level: Annotated[str | None, typer.Option(metavar="LEVEL", help="trace, debug, info, warn or error.")] = None,
) -> None:
    """Start the gateway.

    SIGTERM and Ctrl-C let running requests finish, a second one ends at once; SIGHUP reads the configuration again and keeps
    the old one if the new one is wrong.

    \b
    Examples:
      sentinel serve
      OPENAI_API_KEY=sk-... sentinel serve --port 9000
      sentinel serve --config /etc/sentinel/sentinel.yaml
    """  # noqa: D301 - click reads the \b, which keeps the lines apart
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    from sentinel_gateway import serving  # noqa: PLC0415 - the other commands start without it

    try:
        code = serving.serve(loader(config, {"host": host, "port": port, "log-level": log_level}))
    except ConfigurationError as error:
        raise refuse(error) from None
    raise typer.Exit(code)
