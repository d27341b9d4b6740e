"""`sentinel`: one small function a command, a file each. A command imports what it needs when it runs."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Final

from sentinel_gateway import __version__
from sentinel_gateway.cli import alerts, cache, check, doctor, evaluate, keys, ledger, metrics, replay, serve
from sentinel_gateway.cli.line import WRONG_USE, Line

INTERRUPTED: Final = 130
"""Exit code after Ctrl-C, as shells have it."""
OUTPUT_CLOSED: Final = 1
"""Exit code where whoever read the output has left."""


def main(argv: Sequence[str] | None = None) -> int:
    """The console script; the exit code. Help, the version and what can't be understood raise SystemExit."""
    try:
        try:
            return sentinel(argv)
        finally:
            print(end="", flush=True)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains of it at its end
        return OUTPUT_CLOSED


def sentinel(argv: Sequence[str] | None) -> int:
    """A semantic AI gateway: one OpenAI-compatible endpoint in front of any LLM provider.

    Without any configuration it listens on http://127.0.0.1:8080 with the built-in demo model; each provider whose key is
    in the environment, such as OPENAI_API_KEY, is on. Settings come from flags, the environment, .env and sentinel.yaml,
    in this order.
    """
    line = Line(prog="sentinel", description=sentinel.__doc__)
    line.add_argument("--version", action="version", version=f"sentinel {__version__}", help="Show the version.")
    line.set_defaults(command=None, line=line)
    commands = line.add_subparsers(title="commands", metavar="COMMAND")
    for module in (serve, check, doctor, keys, cache, ledger, metrics, alerts, evaluate, replay):
        module.add(commands)
    known, unknown = line.parse_known_args(argv)
    arguments = vars(known)
    command: Callable[..., int] | None = arguments.pop("command")
    line = arguments.pop("line")
    if unknown:
        line.refuse(unknown[0])
    if command is None:
        line.print_help(sys.stderr)
        return WRONG_USE
    return command(**arguments)
