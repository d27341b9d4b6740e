"""`sentinel`: one small function a command, a file each. A command that needs the gateway imports it when it runs."""

from typing import Annotated

import typer

from sentinel_gateway import __version__
from sentinel_gateway.cli.check import check
from sentinel_gateway.cli.doctor import doctor
from sentinel_gateway.cli.serve import serve


def main() -> None:
    """The console script. Ends the process with the command's exit code."""
    build()(prog_name="sentinel")


def build() -> typer.Typer:
    """The command line."""
    # Rich boxes break pipes and narrow terminals, its tracebacks show local variables, which may hold keys.
    commands = typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    commands.callback()(sentinel)
    for command in (serve, check, doctor):
        commands.command()(command)
    return commands


def sentinel(
    *,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=lambda on: _show_version(on=on), help="Show the version.")
    ] = False,
) -> None:
    """A semantic AI gateway: one OpenAI-compatible endpoint in front of any LLM provider.

    Without any configuration it listens on http://127.0.0.1:8080 with the built-in demo model; each provider whose key is
    in the environment, such as OPENAI_API_KEY, is on. Settings come from flags, the environment, .env and sentinel.yaml,
    in this order.
    """


def _show_version(*, on: bool) -> None:
    if on:
        typer.echo(f"sentinel {__version__}")
        raise typer.Exit
