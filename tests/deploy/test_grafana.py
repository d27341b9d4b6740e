"""deploy/grafana: the dashboards are those that scripts/dashboards.py writes, and Grafana can read them."""

import json
from pathlib import Path

import pytest
import yaml

from scripts.dashboards import DASHBOARDS, WIDTH, as_text

FOLDER = Path(__file__).parents[2] / "deploy" / "grafana"
FILES = sorted((FOLDER / "dashboards").glob("*.json"))


def test_all_dashboards_are_committed():
    assert {file.stem for file in FILES} == DASHBOARDS.keys()


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_the_file_is_what_the_script_writes(uid):
    assert (FOLDER / "dashboards" / f"{uid}.json").read_text() == as_text(uid), "python scripts/dashboards.py writes it anew"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_panels_have_their_place_and_nothing_is_left_unsaid(file):
    dashboard = json.loads(file.read_text())
    assert dashboard["uid"] == file.stem
    panels = dashboard["panels"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    taken = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= WIDTH
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, f"{panel['title']} lies upon another"
        taken |= cells
        assert panel["title"]
        assert all(target["expr"] and target["legendFormat"] for target in panel["targets"])
    chosen = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert chosen == {"datasource", "job", "instance"}


def test_provisioning_names_what_is_there():
    [source] = yaml.safe_load((FOLDER / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert (source["type"], source["access"]) == ("prometheus", "proxy")
    [provider] = yaml.safe_load((FOLDER / "provisioning/dashboards/sentinel.yml").read_text())["providers"]
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"
