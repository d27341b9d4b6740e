"""docs/runbooks.md names what there is, covers every alert, and its commands work as they stand there."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from sentinel_gateway.core.alerting.rules import DEFAULTS
from sentinel_gateway.errors import RequestError
from sentinel_gateway.settings.load import load
from sentinel_gateway.settings.schema import fixed_settings
from sentinel_gateway.telemetry import catalogue
from sentinel_gateway.telemetry.catalogue import Family
from tests.docs.test_keys import ADMIN, GATEWAY, ID, shell
from tests.docs.test_recovery import until
from tests.process.conftest import Program, serve

__all__ = ["serve", "shell"]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "runbooks.md").read_text()
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
COMMANDS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
CODE = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
ALERTS = re.findall(r"^ +- alert: (\w+)", (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text(), re.MULTILINE)
ON_REDIS = [block for block in COMMANDS if "redis-cli" in block]
[NEW_SECRET] = [block for block in COMMANDS if "before-the-leak" in block]


def named(where: str) -> set[str]:
    """What the tables of all sections name in the rows that begin so."""
    rows = re.findall(rf"^\| {where} \| (.*) \|$", PAGE, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([\w-]+)`", row)}


def codes(kind: type[RequestError] = RequestError) -> Iterator[str | None]:
    yield kind.code
    for below in kind.__subclasses__():
        yield from codes(below)


def test_every_alert_has_its_runbook():
    assert named("Prometheus") == set(ALERTS)
    assert named("alerts") == {rule.name for rule in DEFAULTS}


def test_each_alert_of_prometheus_points_at_a_section_that_names_it():
    groups = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())["groups"]
    sections = {title.lower().replace(" ", "-"): text for title, text in SECTIONS.items()} | {"": PAGE}
    for rule in (rule for group in groups for rule in group["rules"]):
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert page == "docs/runbooks.md"
        assert f"`{rule['alert']}`" in sections[anchor]


def test_every_name_is_one_that_callers_logs_and_metrics_have():
    assert named("callers") <= set(codes())
    assert {event for event in named("log") if f'"{event}"' not in CODE} == set()
    families = {family.name for family in vars(catalogue).values() if isinstance(family, Family)}
    assert named("metrics") <= families | {"process_resident_memory_bytes"}
    assert min(map(len, (named("callers"), named("log"), named("metrics")))) > 5


def test_every_section_is_found_from_the_top_and_says_what_to_do():
    listed = re.findall(r"^\| .* \| \[(.*)\]\(#(.*)\) \|$", PAGE.partition("\n## ")[0], re.MULTILINE)
    assert [anchor for _, anchor in listed] == [title.lower().replace(" ", "-") for title in SECTIONS]
    for title, section in SECTIONS.items():
        assert "```sh" in section or title == "PostgreSQL is away", title


def test_its_configuration_holds(tmp_path):
    for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)):
        (tmp_path / f"{number}.yaml").write_text(block)
        keys = {"OPENAI_API_KEY": "a", "AZURE_API_KEY": "b", "AZURE_BASE_URL": "https://a.example.com"}
        load({"HOME": "/h"} | keys, cwd=tmp_path, config=tmp_path / f"{number}.yaml")
    known = {".".join(place) for place, _ in fixed_settings()}
    spoken = set(re.findall(r"`((?:cache|ledger|server|keys|routing|budget)\.[a-z_.]+)[:`]", PAGE))
    assert {name for name in spoken if not name.endswith(".db")} <= known
    assert len(spoken) > 8


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Iterator[Program]:
    home = tmp_path_factory.mktemp("runbooks")
    program = Program(home, {"SENTINEL_DATA_DIR": str(home / "data"), "SENTINEL_ADMIN_KEY": ADMIN})
    yield program
    program.stop()


def test_the_commands_work_one_after_the_other(program, shell):
    where = {"SENTINEL_DATA_DIR": str(program.errors.parent / "data"), "PORT": str(program.port)}
    made = json.loads(shell("sentinel keys create --name leaked --json", **where))
    assert program.ask("How do I reset my password?", Authorization=f"Bearer {made['key']}").status == 200
    told = {}
    for block in COMMANDS:
        if block not in (*ON_REDIS, NEW_SECRET):
            told[block] = shell(block.replace(GATEWAY, program.base_url).replace(ID, made["id"]), KEY=made["key"], **where)
    assert all(told.values()), [block for block, said in told.items() if not said]
    [cleared] = [said for block, said in told.items() if '"writer"' in block]
    assert '"action":"key.create"' in cleared.replace(" ", "")
    assert program.request("GET", "/v1/models", Authorization=f"Bearer {made['key']}").status == 401
    [grown] = [said for block, said in told.items() if "process_resident_memory_bytes" in block]
    assert len(grown.splitlines()) == 4


def test_another_secret_begins_with_no_keys(serve, shell, tmp_path):
    where = {"SENTINEL_DATA_DIR": str(tmp_path / "data"), "SENTINEL_CACHE__SEMANTIC__ENABLED": "false"}
    key = json.loads(shell("sentinel keys create --name old --json"))["key"]
    (tmp_path / "data" / "secret").unlink()
    with pytest.raises(AssertionError, match="made with another secret"):
        serve(**where)
    shell(NEW_SECRET)
    gateway = serve(**where)
    new = json.loads(shell("sentinel keys create --name new --json"))["key"]
    until(lambda: gateway.request("GET", "/v1/models").status == 401, "the door stayed open")
    seen = [gateway.request("GET", "/v1/models", Authorization=f"Bearer {one}").status for one in (new, key)]
    assert seen == [200, 401]


def test_redis_is_asked(redis8, shell, absent):
    if shutil.which("redis-cli") is None:
        absent("redis-cli (apt-get install redis-tools)")
    said = [shell(block, REDIS_URL=redis8.url) for block in ON_REDIS]
    assert said
    assert all("PONG" in one and "maxmemory_policy" in one for one in said)
