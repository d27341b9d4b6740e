"""`sentinel alerts`: whether a channel works, and which rules there are."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sentinel_gateway.cli.edge import loader, refuse
from sentinel_gateway.cli.line import WRONG_USE, Commands, add_command, add_config_option, add_json_option
from sentinel_gateway.errors import ConfigurationError

if TYPE_CHECKING:
    from sentinel_gateway.settings.model import Settings

NOT_DELIVERED: Final = 1
"""Exit code where a channel did not take it."""
COLUMNS: Final = ("rule", "kind", "metric", "severity", "channels")


def add(commands: Commands) -> None:
    """Declare the command and those below it."""
    line = add_command(commands, alerts)
    line.set_defaults(command=None)
    below = line.add_subparsers(title="commands", metavar="COMMAND")
    line = add_command(below, test)
    line.add_argument("channel", nargs="?", metavar="CHANNEL", help="Its name under alerts.channels. Default: all of them.")
    add_config_option(line)
    add_json_option(line)
    line = add_command(below, list_)
    add_config_option(line)
    add_json_option(line)


def alerts() -> int:
    """Try out channels of alerts, and list rules.

    Examples:
      sentinel alerts test
      sentinel alerts list

    """
    return WRONG_USE


def test(channel: str | None, config: Path | None, *, as_json: bool) -> int:
    """Send a test to one channel, or to all.

    The message goes from here, whether or not a gateway runs. Exit code 0 if all have taken it, 1 if one has not, 2 if the
    configuration is wrong or has no such channel.

    Examples:
      sentinel alerts test
      sentinel alerts test ops --json

    """
    import asyncio

    try:
        settings = loader(config)().settings
        outcomes = asyncio.run(_test(settings, _chosen(settings, channel)))
    except ConfigurationError as error:
        return refuse(error, as_json=as_json)
    if as_json:
        print(json.dumps({"channels": outcomes}, indent=2))
    elif not outcomes:
        print("No channel is configured: name one under alerts.channels.", file=sys.stderr)
    else:
        for one in outcomes:
            print(f"{one['channel']} ({one['kind']}): {'delivered' if one['delivered'] else one['detail']}")
    return 0 if outcomes and all(one["delivered"] for one in outcomes) else NOT_DELIVERED


def list_(config: Path | None, *, as_json: bool) -> int:
    """Show the rules in force, the default ones among them, and the channels. How they stand, GET /admin/alerts tells.

    Examples:
      sentinel alerts list
      sentinel alerts list --json

    """
    import msgspec

    from sentinel_gateway.alarms import make_rules

    try:
        settings = loader(config)().settings
    except ConfigurationError as error:
        return refuse(error, as_json=as_json)
    rules, written = list(make_rules(settings)), settings.alerts
    channels = {name: "webhook" if one.webhook else _kind(one.apprise) for name, one in written.channels.items()}
    if as_json:
        found = {"enabled": written.on, "channels": channels, "rules": msgspec.to_builtins(rules)}
        print(json.dumps(found, indent=2))
        return 0
    print(f"Alerts are {'on' if written.on else 'off: name a channel or a rule under alerts, or set alerts.enabled to true'}.")
    for name, kind in channels.items():
        print(f"channel {name}: {kind}")
    rows = [COLUMNS, *((one.name, one.kind, one.metric, one.severity, ",".join(one.channels) or "all") for one in rules)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _chosen(settings: "Settings", channel: str | None) -> list[str]:
    known = list(settings.alerts.channels)
    if channel is None or channel in known:
        return known if channel is None else [channel]
    raise ConfigurationError([("alerts.channels", f"there is no '{channel}': there are {', '.join(known) or 'none'}")])


def _kind(url: Any) -> str:
    """The service, which is all of its URL that is shown."""
    return str(url.get_secret_value()).partition(":")[0].lower()


async def _test(settings: "Settings", names: list[str]) -> list[dict[str, Any]]:
    from sentinel_gateway.alarms import lone_client, open_channel
    from sentinel_gateway.alerts.watch import send_trial
    from sentinel_gateway.errors import ChannelDown
    from sentinel_gateway.stores.clock import SteadyClock

    clock, outcomes = SteadyClock(), []
    async with lone_client() as http:
        for channel in [open_channel(name, settings.alerts.channels[name], http, clock) for name in names]:
            detail = None
            try:
                await send_trial(channel, clock(), service=settings.service.name)
            except ChannelDown as exc:
                detail = str(exc)
            outcomes.append({"channel": channel.name, "kind": channel.kind, "delivered": detail is None, "detail": detail})
    return outcomes
