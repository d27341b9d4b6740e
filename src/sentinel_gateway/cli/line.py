"""The command line as the standard library parses it, with errors of one line, and help that keeps examples as they are."""

import argparse
import re
import shutil
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, NoReturn, TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[Line]"  # noqa: SLF001 - it has no public name
"""Where commands are added."""
WRONG_USE: Final = 2
"""Exit code for a command line that can't be understood."""
WIDEST: Final = 100
"""Columns of help: longer lines are hard to read."""


class Line(argparse.ArgumentParser):
    """The parser of the whole line, or of one command."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=HelpText, allow_abbrev=False, add_help=False, **options)
        self.add_argument("-h", "--help", action="help", help="Show this message and exit.")

    def refuse(self, word: str) -> NoReturn:
        """End the process over a word that has no meaning here."""
        if word.startswith("-"):
            word = word.partition("=")[0]
            self.error(f"unknown option '{word}'{_hint(word, self._option_string_actions)}")
        self.error(f"unexpected argument '{word}'")

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG_USE, f"{self.prog}: {message} (see {self.prog} --help)\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(None, f"unknown command '{value}'{_hint(value, action.choices)}")


class HelpText(argparse.HelpFormatter):
    """Paragraphs are wrapped, but for those with indented lines; an option's value is named once for all of its names."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=min(shutil.get_terminal_size().columns, WIDEST) - 2)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = re.sub(r"^    ", "", text.strip(), flags=re.MULTILINE).split("\n\n")
        wrap = textwrap.TextWrapper(width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
        return "\n\n".join(part if "\n " in part else wrap.fill(part) for part in paragraphs)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        return f"{', '.join(action.option_strings)} {action.metavar}"


def add_command(commands: Commands, command: Callable[..., int]) -> Line:
    """A command named as its function (`list_` is `list`) and explained by its docstring; its options are still to be added."""
    text = command.__doc__ or ""
    line = commands.add_parser(command.__name__.rstrip("_"), help=text.partition("\n")[0], description=text)
    line.set_defaults(command=command, line=line)
    return line


def add_config_option(line: Line) -> None:
    explained = "The YAML file. Default: $SENTINEL_CONFIG, else ./sentinel.yaml if there is one."
    line.add_argument("-c", "--config", type=Path, metavar="FILE", help=explained)


def add_json_option(line: Line) -> None:
    line.add_argument("--json", action="store_true", dest="as_json", help="Write JSON, for programs.")


def _hint(word: str, known: Iterable[str]) -> str:
    import difflib

    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean '{near[0]}'?" if near else ""
