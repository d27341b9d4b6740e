"""`sentinel replay`."""

import sys
from contextlib import closing
from pathlib import Path

from sentinel_gateway.cli.edge import loader, refuse
from sentinel_gateway.cli.findings import add_output_options, deliver, made, refuse_input
from sentinel_gateway.cli.line import Commands, add_command, add_config_option, add_json_option
from sentinel_gateway.cli.progress import Progress
from sentinel_gateway.errors import ConfigurationError


def add(commands: Commands) -> None:
    """Declare the command."""
    line = add_command(commands, replay)
    line.add_argument("file", metavar="FILE", help="The log, plain or gzipped; - is standard input.")
    add_config_option(line)
    add_output_options(line)
    add_json_option(line)


def replay(file: str, config: Path | None, limit: int | None, html: Path | None, *, as_json: bool) -> int:
    """Tell what caching would have saved on your own traffic.

    The log has a line of JSON for each request: the body of an OpenAI chat request, or {"body": {...}} around it, with what else
    is known: "timestamp" (ISO or Unix), "response" (the chat.completion, or an error), "seconds" that it took, "tenant". What is
    missing is estimated, and told.

    Every request goes down the gateway's own path, by the settings in force, with the log in place of providers: nothing is sent
    anywhere, and nothing is kept. Exit code 0, or 2 if the log can't be used.

    Examples:
      sentinel replay traffic.jsonl
      sentinel replay traffic.jsonl.gz --html report.html
      zcat traffic-*.gz | sentinel replay - --json

    """
    import asyncio

    import msgspec

    from sentinel_gateway.evaluation.log_replay import replay_log
    from sentinel_gateway.evaluation.reports import replay_report
    from sentinel_gateway.evaluation.rows import Unusable

    try:
        settings = loader(config)().settings
        with closing(Progress(sys.stderr)) as progress:
            found = asyncio.run(replay_log(file, settings, progress, limit=limit))
    except ConfigurationError as error:
        return refuse(error, as_json=as_json)
    except Unusable as error:
        return refuse_input(str(error), as_json=as_json)
    figures = msgspec.json.format(msgspec.json.encode({"ok": True, "log": found}))
    return deliver(replay_report(found, made()), figures, html, as_json=as_json)
