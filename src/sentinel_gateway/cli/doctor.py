"""`sentinel doctor`: the configuration, and whether the world is as it needs it. Changes nothing and costs nothing."""

import json
from pathlib import Path

from sentinel_gateway.cli.edge import loader, refuse
from sentinel_gateway.cli.line import Commands, add_command, add_config_option, add_json_option
from sentinel_gateway.errors import ConfigurationError


def add(commands: Commands) -> None:
    """Declare the command."""
    line = add_command(commands, doctor)
    add_config_option(line)
    add_json_option(line)


def doctor(config: Path | None, *, as_json: bool) -> int:
    """Check the configuration and what it needs.

    Looks at the versions of libraries, the data folder, its disk and the databases in it, the port, PostgreSQL and its clock,
    Redis and its clock, Qdrant and the embedding model, and asks each provider for its list of models with the key that is
    set, which costs nothing. Exit code 0 if all is well or may only need attention (warn), 1 if something fails, 2 if the
    configuration is wrong.

    Examples:
      sentinel doctor
      sentinel doctor --config /etc/sentinel/sentinel.yaml --json

    """
    import asyncio
    from dataclasses import asdict

    from sentinel_gateway import probes
    from sentinel_gateway.cli.examination import Finding, examine

    try:
        loaded = loader(config)()
    except ConfigurationError as error:
        return refuse(error, as_json=as_json)
    findings = list(examine(loaded.settings))
    asked = asyncio.run(probes.probe_providers(loaded.settings))
    findings += [Finding(f"provider {probe.name}", probe.ok, probe.detail) for probe in asked]
    found = [
        *probes.probe_database(loaded.settings),
        *asyncio.run(probes.probe_redis(loaded.settings)),
        *asyncio.run(probes.probe_qdrant(loaded.settings)),
    ]
    if loaded.settings.cache.semantic.enabled:
        found.append(asyncio.run(probes.probe_embedder()))
    findings += [Finding(probe.name, probe.ok, probe.detail) for probe in found]
    healthy = all(finding.ok for finding in findings)
    if as_json:
        print(json.dumps({"ok": healthy, "findings": [asdict(f) for f in findings], "notes": list(loaded.notes)}, indent=2))
    else:
        lines = [f"{finding.mark:<4}  {finding.name}: {finding.detail}" for finding in findings]
        print("\n".join(lines + [f"note  {note}" for note in loaded.notes]))
    return 0 if healthy else 1
