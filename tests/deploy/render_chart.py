"""Helm's own engine (its Go SDK, in the wheel of helm-python-sdk), in a process of its own: what it makes of a chart, as JSON.

Usage: python render_chart.py CHART [VALUES.yaml ...]; the first is rendered without values, then each file by itself.
"""

import json
import sys
from pathlib import Path

import helm_python
import yaml

RELEASE = {"name": "sentinel", "namespace": "sentinel"}


def main(chart: str, *files: str) -> None:
    """Findings of the linter and rendered templates by the values' names; what is refused is told as `refused`."""
    told = {}
    for name, values in {"": {}, **{file: yaml.safe_load(Path(file).read_text()) for file in files}}.items():
        with helm_python.Chart.load(chart) as loaded:
            try:
                loaded.validate_schema(values)
                rendered = loaded.render(values, **RELEASE)
            except helm_python.HelmError as refused:
                told[name] = {"refused": str(refused)}
                continue
        told[name] = {"lint": helm_python.lint(chart, values), "rendered": rendered}
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
