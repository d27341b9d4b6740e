"""deploy/prometheus/alerts.yml: each alert fires when it should, says what it should, and is quiet when it should be.

`promtool test rules` runs the rules over made-up series, a minute a step, or a few where a day is needed.
"""

import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.servers import PROMTOOL

FOLDER = Path(__file__).parents[2] / "deploy" / "prometheus"
ALERTS = {
    rule["alert"]: rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]
}
JOB = 'job="sentinel",instance="one"'
CALLS = "sentinel_upstream_attempts_total"
FIRST = "sentinel_first_token_seconds_bucket"
OWN = "sentinel_own_seconds_bucket"


class Case(NamedTuple):
    """An alert that `series` make fire at `minute`, and `quiet` ones do not. `labels` are those beside `severity`."""

    alert: str
    series: dict[str, str]
    quiet: dict[str, str]
    summary: str
    labels: dict[str, str]
    minute: int = 30
    step: int = 1


ONE = {"job": "sentinel", "instance": "one"}
ALL = {"job": "sentinel"}
CASES = [
    Case(
        "SentinelDown",
        {f"up{{{JOB}}}": "1x10 0x60"},
        {f"up{{{JOB}}}": "1x10 0 1x60"},
        "Sentinel on one does not answer.",
        ONE,
    ),
    Case(
        "SentinelNotReady",
        {f"sentinel_ready{{{JOB}}}": "1x10 0x60"},
        {f"sentinel_ready{{{JOB}}}": "1x27 0 0 1x60"},
        "one can't serve requests.",
        ONE,
    ),
    Case(
        "SentinelDependencyDown",
        {f'sentinel_dependency_up{{{JOB},dependency="redis"}}': "1x10 0x60"},
        {f'sentinel_dependency_up{{{JOB},dependency="redis"}}': "1x60"},
        "redis of one is down.",
        ONE | {"dependency": "redis"},
    ),
    Case(
        "SentinelErrors",
        {
            f'requests_total{{{JOB},route="/v1/chat/completions",status="200"}}': "0+70x60",
            f'requests_total{{{JOB},route="/v1/chat/completions",status="502"}}': "0+6x60",
            f'requests_total{{{JOB},route="/v1/chat/completions",status="504"}}': "0+24x60",
            f"sentinel_not_cached_total{{{JOB}}}": "0+20x60",
            f"sentinel_inference_requests_total{{{JOB}}}": "0+100x60",
        },
        {
            f'requests_total{{{JOB},route="/v1/chat/completions",status="200"}}': "0+90x60",
            f'requests_total{{{JOB},route="/v1/chat/completions",status="429"}}': "0+10x60",
            f'requests_total{{{JOB},route="/health",status="503"}}': "0+90x60",
            f'requests_total{{{JOB},route="/v1/chat/completions",status="504"}}': "0+100x60",
            f"sentinel_not_cached_total{{{JOB}}}": "0+100x60",
            f"sentinel_inference_requests_total{{{JOB}}}": "0+100x60",
        },
        "10% of the requests fail.",
        ALL,
    ),
    Case(
        "SentinelFault",
        {f'sentinel_events_total{{{JOB},event="internal_error"}}': "_x25 1x60"},
        {f'sentinel_events_total{{{JOB},event="internal_error"}}': "1x60"},
        "A fault of Sentinel's own on one.",
        ONE | {"event": "internal_error"},
    ),
    Case(
        "SentinelOverloaded",
        {f'requests_total{{{JOB},route="/v1/messages",status="503"}}': "0+60x60"},
        {f'requests_total{{{JOB},route="/v1/messages",status="503"}}': "0+1x60"},
        "one refuses 1 requests a second.",
        ONE,
    ),
    Case(
        "SentinelProviderFailing",
        {
            f'{CALLS}{{{JOB},provider="groq",outcome="answered"}}': "0+70x60",
            f'{CALLS}{{{JOB},provider="groq",outcome="timeout"}}': "0+30x60",
        },
        {
            f'{CALLS}{{{JOB},provider="groq",outcome="answered"}}': "0+70x60",
            f'{CALLS}{{{JOB},provider="groq",outcome="refused"}}': "0+30x60",
        },
        "30% of the calls of groq fail.",
        ALL | {"provider": "groq"},
    ),
    Case(
        "SentinelProviderRefusesKey",
        {f'{CALLS}{{{JOB},provider="groq",outcome="unauthorized"}}': "_x25 1x60"},
        {f'{CALLS}{{{JOB},provider="groq",outcome="unauthorized"}}': "3x60"},
        "groq refuses our key.",
        ONE | {"provider": "groq", "outcome": "unauthorized"},
    ),
    Case(
        "SentinelCircuitOpen",
        {f'dspy_circuit_breaker_state{{{JOB},model="llama"}}': "0x20 1x60"},
        {f'dspy_circuit_breaker_state{{{JOB},model="llama"}}': "0x20 2x60"},
        "llama is left alone: it failed too often.",
        ALL | {"model": "llama"},
    ),
    Case(  # each request that tries it takes a minute to fail, and on another node one waits all the while
        "SentinelCircuitOpen",
        {
            f'dspy_circuit_breaker_state{{{JOB},model="llama"}}': "0x20" + " 1 2" * 20,
            'dspy_circuit_breaker_state{job="sentinel",instance="two",model="llama"}': "0x20 2x40",
        },
        {f'dspy_circuit_breaker_state{{{JOB},model="llama"}}': "0x26 1 2x40"},
        "llama is left alone: it failed too often.",
        ALL | {"model": "llama"},
    ),
    Case(
        "SentinelFirstTokenSlow",
        {
            f'{FIRST}{{{JOB},provider="groq",le="5.0"}}': "0+50x60",
            f'{FIRST}{{{JOB},provider="groq",le="10.0"}}': "0+100x60",
            f'{FIRST}{{{JOB},provider="groq",le="+Inf"}}': "0+100x60",
        },
        {
            f'{FIRST}{{{JOB},provider="groq",le="5.0"}}': "0+99x60",
            f'{FIRST}{{{JOB},provider="groq",le="10.0"}}': "0+100x60",
            f'{FIRST}{{{JOB},provider="groq",le="+Inf"}}': "0+100x60",
        },
        "groq takes 9.5s to begin with one stream in twenty.",
        ALL | {"provider": "groq"},
    ),
    Case(
        "SentinelHitsSlow",
        {
            f'{OWN}{{{JOB},outcome="exact",le="0.05"}}': "0+50x60",
            f'{OWN}{{{JOB},outcome="exact",le="0.1"}}': "0+100x60",
            f'{OWN}{{{JOB},outcome="exact",le="+Inf"}}': "0+100x60",
        },
        {
            f'{OWN}{{{JOB},outcome="miss",le="0.05"}}': "0+50x60",
            f'{OWN}{{{JOB},outcome="miss",le="0.1"}}': "0+100x60",
            f'{OWN}{{{JOB},outcome="miss",le="+Inf"}}': "0+100x60",
        },
        "One hit in a hundred takes 99ms.",
        ALL | {"outcome": "exact"},
    ),
    Case(
        "SentinelHitRateDropped",
        {
            f'sentinel_cache_requests_total{{{JOB},outcome="exact"}}': "0+100x720 72000+20x100",
            f'sentinel_cache_requests_total{{{JOB},outcome="miss"}}': "0+100x720 72000+180x100",
            f"sentinel_inference_requests_total{{{JOB}}}": "0+200x820",
        },
        {
            f'sentinel_cache_requests_total{{{JOB},outcome="exact"}}': "0+100x720 72000+60x100",
            f'sentinel_cache_requests_total{{{JOB},outcome="miss"}}': "0+100x720 72000+140x100",
            f"sentinel_inference_requests_total{{{JOB}}}": "0+200x820",
        },
        "The hit rate is 10%, less than half of what it was yesterday.",
        ALL,
        minute=1620,
        step=2,
    ),
    Case(
        "SentinelCostJump",
        {f"sentinel_cost_usd_total{{{JOB}}}": "0+0.1x288 28.8+1x20"},
        {f"sentinel_cost_usd_total{{{JOB}}}": "0+0.005x288 1.44+0.05x20"},
        "12.00 USD an hour: three times as much as in the day before.",
        ALL,
        minute=1515,
        step=5,
    ),
    Case(
        "SentinelWrongAnswers",
        {f'sentinel_semantic_wrong_rate{{{JOB},scope="all",bound="low"}}': "0.02x60"},
        {
            f'sentinel_semantic_wrong_rate{{{JOB},scope="all",bound="low"}}': "0.005x60",
            f'sentinel_semantic_wrong_rate{{{JOB},scope="all",bound="estimate"}}': "0.02x60",
        },
        "More than 1 % of the compared questions get another question's answer.",
        ALL,
    ),
    Case(
        "SentinelFilesRunOut",
        {f"process_open_fds{{{JOB}}}": "900x60", f"process_max_fds{{{JOB}}}": "1000x60"},
        {f"process_open_fds{{{JOB}}}": "700x60", f"process_max_fds{{{JOB}}}": "1000x60"},
        "one has 90% of the files open that it may have.",
        ONE,
    ),
]


def judged(case: Case, series: dict[str, str], expected: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": case.alert,
        "interval": f"{case.step}m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": f"{case.minute}m", "alertname": case.alert, "exp_alerts": expected}],
    }


def alarm(case: Case) -> dict[str, Any]:
    rule = ALERTS[case.alert]
    annotations = rule["annotations"] | {"summary": case.summary}
    return {"exp_labels": case.labels | rule["labels"], "exp_annotations": annotations}


def promtool(tests: list[dict[str, Any]], step: int, tmp_path: Path, absent) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "tests.yml"
    rules = [str(FOLDER / "rules.yml"), str(FOLDER / "alerts.yml")]
    file.write_text(yaml.safe_dump({"rule_files": rules, "evaluation_interval": f"{step}m", "tests": tests}))
    tool = PROMTOOL or absent("promtool: make test-deps installs it with prometheus")
    return subprocess.run([tool, "test", "rules", str(file)], capture_output=True, text=True, check=False)


def test_every_alert_has_its_case():
    assert list(dict.fromkeys(case.alert for case in CASES)) == list(ALERTS)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.alert)
def test_it_fires_and_says_so_and_else_is_quiet(case, tmp_path, absent):
    result = promtool([judged(case, case.series, [alarm(case)]), judged(case, case.quiet, [])], case.step, tmp_path, absent)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("kind", "files"), [("rules", ("rules.yml", "alerts.yml")), ("config", ("prometheus.yml",))], ids=["rules", "config"]
)
def test_promtool_finds_no_fault(kind, files, absent):
    tool = PROMTOOL or absent("promtool: make test-deps installs it with prometheus")
    checked = [str(FOLDER / file) for file in files]
    result = subprocess.run([tool, "check", kind, *checked], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "SUCCESS" in result.stdout
