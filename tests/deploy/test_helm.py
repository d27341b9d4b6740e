"""deploy/helm/sentinel, rendered and linted by Helm's own engine for every combination of values that the docs name."""

import json
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from sentinel_gateway import __version__
from sentinel_gateway.settings.environment import known_names
from tests.deploy.manifests import VERSIONS, Manifest, one, pods, unrestricted, validate
from tests.deploy.test_kubernetes import kustomized
from tests.docs.test_containers import EVERY

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "sentinel"
FILES = {file.name.removesuffix("-values.yaml"): file for file in sorted((CHART / "ci").glob("*.yaml"))}
COMBINATIONS = ("one-node", *FILES)
REFUSED = {
    "several-without-redis": {"autoscaling": {"enabled": True}},
    "misspelt": {"autoscale": {"enabled": True}},
    "no-such-service": {"service": {"type": "Public"}},
    "no-redis-url": {"redis": {"url": "cache.example.com"}},
}

REDIS = {
    "rediss://:p%40ss@cache.example.com": {6379},
    "redis+sentinel://a:26379,b/mymaster/0": {26379, 6379},
    "rediss+sentinel://a:1,[::1]:2/mymaster?sentinel_password=a:9": {1, 2, 6379},
    "rediss+cluster://u:3@a:7000,b:7001": {7000, 7001},
    "unix:///run/redis/redis.sock": set(),
}
"""What redis.url says, and the ports that are open for it."""

NUMBERS = {"SENTINEL_CACHE__SEMANTIC__ENTRIES": 2_000_000, "SENTINEL_LEDGER__JOURNAL_BYTES": 2**31, "SENTINEL_BUDGET__DAY": 0.5}
"""Variables that a values file gives as numbers."""


def settings_of(line: str) -> dict[str, Any]:
    """The values that a line of the docs gives: its files, then what it sets."""
    words, values = shlex.split(line), {}
    following = list(pairwise(words))
    for file in (word for option, word in following if option == "--values"):
        values |= yaml.safe_load((ROOT / file).read_text())
    for setting in (word for option, word in following if option == "--set"):
        *path, last = setting.partition("=")[0].split(".")
        place = values
        for part in path:
            place = place.setdefault(part, {})
        place[last] = yaml.safe_load(setting.partition("=")[2])
    return values


INSTALLED = [line for line in EVERY if line.startswith("helm upgrade") and " deploy/helm/sentinel " in line]
MADE = {f"redis-{url}": {"redis": {"url": url}} for url in REDIS} | {line: settings_of(line) for line in INSTALLED}
MADE |= {"numbers": {"env": NUMBERS}}


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> dict[str, Any]:
    """What Helm says, by the name of the combination."""
    folder = tmp_path_factory.mktemp("values")
    given = {name: folder / str(number) for number, name in enumerate(MADE | REFUSED)}
    for name, file in given.items():
        file.write_text(yaml.safe_dump((MADE | REFUSED)[name]))
    files = [*FILES.values(), *given.values()]
    command = [sys.executable, Path(__file__).with_name("render_chart.py"), CHART, *files]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
    return dict(zip((*COMBINATIONS, *given), json.loads(result.stdout).values(), strict=True))


@pytest.fixture(scope="module")
def every(told) -> dict[str, list[Manifest]]:
    return {
        name: [
            manifest
            for template, text in told[name]["rendered"].items()
            if template.endswith(".yaml")
            for manifest in yaml.safe_load_all(text)
            if manifest
        ]
        for name in (*COMBINATIONS, *MADE)
    }


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_helm_finds_no_fault(told, combination):
    findings = told[combination]["lint"]
    assert "ERROR" not in json.dumps(findings)
    assert "WARN" not in json.dumps(findings)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("combination", COMBINATIONS)
def test_kubernetes_takes_every_manifest(every, combination, version):
    for manifest in every[combination]:
        validate(manifest, version)


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_its_pods_are_restricted_and_its_variables_settings(every, combination):
    assert {fault for pod in pods(every[combination]) for fault in unrestricted(pod)} == set()
    known = {*known_names(), "SENTINEL_PROVIDERS__DEMO__ENABLED"}
    assert one(every[combination], "ConfigMap")["data"].keys() <= known


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ("several-without-redis", "several nodes meet in Redis: set redis.enabled or redis.url"),
        ("misspelt", "autoscale"),
        ("no-such-service", "service"),
        ("no-redis-url", "redis"),
    ],
)
def test_what_can_not_work_is_refused(told, values, why):
    assert why in told[values]["refused"]


def test_one_node_keeps_what_it_has(every):
    deployment = one(every["one-node"], "Deployment")["spec"]
    assert (deployment["replicas"], deployment["strategy"]["type"]) == (1, "Recreate")
    [claim] = [one for one in every["one-node"] if one["kind"] == "PersistentVolumeClaim"]
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    [data] = [volume for volume in deployment["template"]["spec"]["volumes"] if volume["name"] == "data"]
    assert data["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    secrets = [v["valueFrom"]["secretKeyRef"] for v in deployment["template"]["spec"]["containers"][0]["env"]]
    assert all(secret["optional"] for secret in secrets), "it starts without any"


def test_each_value_is_where_it_belongs(every):
    assert one(every["ingress"], "ConfigMap")["data"]["SENTINEL_SERVER__ALLOWED_HOSTS"] == "*,ai.example.com"
    assert one(every["load-balancer"], "Service")["spec"]["type"] == "LoadBalancer"
    assert one(every["monitoring"], "ServiceMonitor")["spec"]["endpoints"][0]["interval"] == "15s"
    yours = every["your-redis"]
    assert one(yours, "ConfigMap")["data"]["REDIS_URL"] == "rediss://cache.example.com:6380"
    ports = [port["port"] for rule in one(yours, "NetworkPolicy")["spec"]["egress"] for port in rule["ports"]]
    assert {6380, 4318} <= set(ports)
    metrics = one(yours, "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert [metric["type"] for metric in metrics] == ["Resource", "Resource"]
    configured = one(every["configured"], "ConfigMap", "sentinel-config")["data"]["sentinel.yaml"]
    assert yaml.safe_load(configured)["models"] == {"fast": ["groq/llama-3.1-8b-instant"]}
    data = one(every["configured"], "ConfigMap")["data"]
    assert (data["LOG_LEVEL"], data["SENTINEL_BATCH__CONCURRENCY"]) == ("warn", "16")


def test_a_number_is_told_digit_by_digit(every):
    """To Helm a number in a file is a float; 2e+06 is none to the gateway, which would not start."""
    data = one(every["numbers"], "ConfigMap")["data"]
    assert {name: data[name] for name in NUMBERS} == {name: str(number) for name, number in NUMBERS.items()}


def test_what_serves_the_world_is_said(every):
    [path] = one(every["ingress"], "Ingress")["spec"]["rules"][0]["http"]["paths"]
    assert path["path"] == "/v1", "operators' paths are theirs"
    annotations = one(every["load-balancer"], "Service")["metadata"]["annotations"]
    assert annotations == {"service.beta.kubernetes.io/aws-load-balancer-scheme": "internal"}
    labels = one(every["monitoring"], "ServiceMonitor")["metadata"]["labels"]
    assert labels["release"] == "kube-prometheus-stack", "which takes no other"
    assert labels["app.kubernetes.io/name"] == "sentinel"


@pytest.mark.parametrize(("url", "ports"), REDIS.items())
def test_each_server_of_your_redis_can_be_reached(every, url, ports):
    """A port that is closed looks like a Redis that is down."""
    usual = {port["port"] for rule in one(every["one-node"], "NetworkPolicy")["spec"]["egress"] for port in rule["ports"]}
    policy = one(every[f"redis-{url}"], "NetworkPolicy")
    assert {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]} - usual == ports
    assert one(every[f"redis-{url}"], "ConfigMap")["data"]["REDIS_URL"] == url
    for version in VERSIONS:
        validate(policy, version)


@pytest.mark.parametrize("line", INSTALLED)
def test_every_line_of_the_docs_installs_something(every, line):
    for manifest in every[line]:
        validate(manifest, VERSIONS[0])
    assert "image.repository=" in line or "--reuse-values" in line, "the chart's own is a placeholder"


def test_versions_are_the_package_s():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert {chart["version"], chart["appVersion"]} == {__version__}


OWN = {"annotations", "app.kubernetes.io/instance"}
"""By which Helm knows its own."""


def alike(value: Any) -> Any:
    """A manifest without them."""
    if isinstance(value, dict):
        return {name: alike(member) for name, member in value.items() if name not in OWN}
    return [alike(member) for member in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def kustomization(tmp_path_factory, absent) -> list[Manifest]:
    return kustomized(tmp_path_factory.mktemp("kustomize"), (), absent)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *(("Deployment", "sentinel"), ("HorizontalPodAutoscaler", "sentinel"), ("PodDisruptionBudget", "sentinel")),
        *(("NetworkPolicy", "sentinel"), ("NetworkPolicy", "sentinel-redis"), ("Deployment", "sentinel-redis")),
    ],
)
def test_several_nodes_are_what_deploy_k8s_says(every, kustomization, kind, name):
    """Two ways to the same thing: who changes one, changes the other."""
    chart, plain = (alike(one(manifests, kind, name)["spec"]) for manifests in (every["several-nodes"], kustomization))
    assert chart == plain


def test_both_set_the_same_variables(every, kustomization):
    chart, plain = (one(manifests, "ConfigMap")["data"] for manifests in (every["several-nodes"], kustomization))
    assert chart == plain
