"""docs/alerts.md says what the code says, and its commands work as they stand there.

After changing a rule or a metric: `python -m tests.docs.test_alerts` writes the tables anew.
"""

import json
import re
from pathlib import Path

import pytest

from sentinel_gateway.alarms import make_rules, stamp
from sentinel_gateway.alerts import courier
from sentinel_gateway.alerts.webhook import TYPE
from sentinel_gateway.core.alerting.board import Alert, Notice
from sentinel_gateway.core.alerting.conditions import PAIRS, find
from sentinel_gateway.core.alerting.figures import Figures, Served
from sentinel_gateway.core.alerting.notices import message
from sentinel_gateway.core.alerting.rules import CALL_METRICS, SERVED_METRICS, UNITS, Rule, default_rules
from sentinel_gateway.settings.alerts import check_signing_secret
from sentinel_gateway.settings.load import load
from sentinel_gateway.settings.model import Settings
from sentinel_gateway.stores.alerts import MOST_WAITING
from tests.alerts.sinks import SECRET
from tests.docs.test_keys import ADMIN, GATEWAY, shell
from tests.process.conftest import serve

__all__ = ["serve", "shell"]

PATH = Path(__file__).parents[2] / "docs" / "alerts.md"
PAGE = PATH.read_text()
COMMANDS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#ops"
SAYS = {
    "total_cost": "USD that providers took",
    "cost_per_request": "USD of a call",
    "total_requests": "calls of providers",
    "error_rate": "share of calls that failed, 0 to 1",
    "request_error_rate": "share of requests that callers got 5xx for, 0 to 1",
    "hit_rate": "share of requests answered from the cache, of those that it decided",
    "first_token_avg_ms": "milliseconds to the first token, on average",
    "provider_health": "of each provider, 0 to 100",
    "circuit_open": "of each target whose circuit is open; needs no `above`",
    "budget_used": "share of each budget of a key or tenant that is spent",
    "wrong_hit_rate": "lower bound of the share of compared questions with a wrong answer",
}


def metrics_table() -> str:
    rows = []
    for name in UNITS:
        of = "calls" if name in CALL_METRICS else "requests" if name in SERVED_METRICS else "now"
        said = SAYS.get(name) or f"milliseconds that {name.split('_')[1].removeprefix('p')} % of the answered calls stay within"
        rows.append(f"| `{name}` | {of} | {said} |\n")
    return "| metric | of | |\n|---|---|---|\n" + "".join(rows)


def rules_table() -> str:
    rules = default_rules(most_wrong=0.01)
    rows = [f"| `{rule.name}` | {_when(rule)} | {rule.severity} | {rule.description} |\n" for rule in rules]
    return "| rule | when | severity | |\n|---|---|---|---|\n" + "".join(rows)


def _when(rule: Rule) -> str:
    lasting = f", for {rule.after / 60:g} minutes" if rule.after else ""
    side = "below" if rule.below else "above"
    match rule.kind:
        case "anomaly":
            return f"`anomaly`, {rule.anomalies}{lasting}"
        case "burn_rate":
            return f"`burn_rate` of `{rule.metric}`, {rule.limit:g} allowed{lasting}"
        case "change":
            floor = f", and {rule.floor:g} at least" if rule.floor else ""
            return f"`{rule.metric}` {side} {rule.limit:g} times what it was a day before{floor}{lasting}"
        case "forecast":
            return f"`forecast` of `{rule.metric}` above {rule.limit:g}{lasting}"
        case _ if rule.metric == "circuit_open":
            return f"`circuit_open`{lasting}"
        case _:
            limit = "`cache.max_wrong_hit_rate`" if rule.metric == "wrong_hit_rate" else f"{rule.limit:g}"
            return f"`{rule.metric}` {side} {limit}{lasting}"


MADE = {"metrics": metrics_table, "rules": rules_table}


def parts(page: str, name: str) -> tuple[str, str, str]:
    before, begin, rest = re.split(rf"(<!-- {name}: [^\n]*-->\n)", page)
    table, end, after = re.split(rf"(<!-- /{name} -->)", rest)
    return before + begin, table, end + after


@pytest.mark.parametrize("name", MADE)
def test_the_tables_equal_the_code(name):
    assert parts(PAGE, name)[1] == MADE[name]()


def loaded(text: str, folder: Path) -> Settings:
    file = folder / "sentinel.yaml"
    file.touch(mode=0o600)
    file.write_text(text)
    return load({"HOME": "/h", "SLACK_URL": SLACK, "HOOK_SECRET": SECRET}, cwd=folder).settings


@pytest.mark.parametrize("text", EXAMPLES)
def test_the_examples_are_configurations(text, tmp_path):
    assert loaded(text, tmp_path).alerts.on


def test_the_example_of_rules_makes_them(tmp_path):
    made = {rule.name: rule for rule in make_rules(loaded(EXAMPLES[1], tmp_path))}
    assert made["bill"].channels == ("ops",)
    assert "circuit-open" not in made


def test_the_body_is_the_one_that_is_shown():
    now = 1_795_348_800.0
    rule = next(rule for rule in default_rules(most_wrong=0.01) if rule.name == "request-errors")
    [found] = find(rule, Figures(now=now, served=[Served(int(now) - 300, 100, 12, 100, 0)]))
    alert = Alert(
        rule=rule.name,
        subject=found.subject,
        severity=rule.severity,
        channels=(),
        phase="firing",
        since=now,
        value=found.value,
        limit=found.limit,
        text=found.text,
    )
    told = message(Notice((alert,), (), (), {}), service="sentinel", stamp=stamp)
    [shown] = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    data = {"title": told.title, "text": told.text, **told.data}
    assert json.loads(shown) == {"type": TYPE.format("alerts"), "timestamp": stamp(now), "data": data}


def test_the_figures_are_the_code_s():
    assert (courier.FIRST, courier.LONGEST, courier.TOO_OLD) == (5.0, 60.0, 6 * 3600.0)
    assert f"after {courier.PAUSES.failures} failures in a row it is left alone for a minute" in PAGE
    assert f"At most {MOST_WAITING} messages wait" in PAGE
    for _, _, factor in PAIRS:
        assert f"{factor:g} times" in PAGE


def test_the_commands_of_the_shell_work(shell, tmp_path):
    secret = shell(COMMANDS[2]).strip()
    check_signing_secret(loaded(EXAMPLES[0].replace("${HOOK_SECRET}", secret), tmp_path).alerts.channels["ops"].secret)
    assert "request-errors" in shell(COMMANDS[1])
    with pytest.raises(AssertionError, match="No channel is configured"):
        shell(COMMANDS[0])


def test_the_commands_of_the_gateway_work(shell, serve):
    program = serve(SENTINEL_ALERTS__ENABLED="true", SENTINEL_ADMIN_KEY=ADMIN)
    silence, look = (command.replace(GATEWAY, program.base_url) for command in COMMANDS[3:])
    assert json.loads(shell(silence))["rule"] == "request-errors"
    shown, history = look.splitlines()
    rules = {rule["name"]: rule for rule in json.loads(shell(shown))["rules"]}
    assert rules["request-errors"]["silenced_until"] is not None
    assert json.loads(shell(history))["data"][0]["kind"] == "silenced"


if __name__ == "__main__":
    page = PAGE
    for name, made in MADE.items():
        before, _, after = parts(page, name)
        page = before + made() + after
    PATH.write_text(page)
