"""deploy/k8s is what Kubernetes takes, and what the gateway in it needs. No cluster is asked."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema_rs
import kubernetes_validate
import pytest
import yaml

from sentinel_gateway import __version__
from sentinel_gateway.settings.environment import known_names
from sentinel_gateway.settings.load import load
from tests.deploy.dockerfile import steps
from tests.deploy.manifests import VERSIONS, Manifest, one, pods, unrestricted, validate
from tests.servers import PROMTOOL

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "k8s"
COMPONENTS = ("ingress", "loadbalancer", "monitoring")
COMBINATIONS = [(), *((name,) for name in COMPONENTS), COMPONENTS]
SECRET = "0b9d44f6a1c37e8852f0d6b3e97a214c6d83f5b0972ea4c1d58f60b3a7e9142d"


def kustomized(folder: Path, components: tuple[str, ...], absent: Any) -> list[Manifest]:
    """What kubectl makes of a copy, once the '#' before these components are taken away."""
    copy = folder / "-".join(("k8s", *components))
    shutil.copytree(FOLDER, copy)
    text = (copy / "kustomization.yaml").read_text()
    for line in ("components:", *(f"  - {name}" for name in components)) if components else ():
        assert f"# {line}" in text
        text = text.replace(f"# {line}", line)
    (copy / "kustomization.yaml").write_text(text)
    kubectl = shutil.which("kubectl") or absent("kubectl: Debian's is too old for components", rare=True)
    result = subprocess.run([kubectl, "kustomize", copy], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return list(yaml.safe_load_all(result.stdout))


@pytest.fixture(scope="module")
def every(tmp_path_factory, absent) -> dict[tuple[str, ...], list[Manifest]]:
    """All combinations that the docs name."""
    folder = tmp_path_factory.mktemp("kustomize")
    return {components: kustomized(folder, components, absent) for components in COMBINATIONS}


@pytest.fixture(scope="module")
def base(every) -> list[Manifest]:
    return every[()]


@pytest.fixture(scope="module")
def pod(base) -> Manifest:
    return one(base, "Deployment")["spec"]["template"]["spec"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("components", COMBINATIONS, ids=lambda names: "+".join(names) or "base")
def test_kubernetes_takes_every_manifest(every, components, version):
    for manifest in every[components]:
        validate(manifest, version)


def test_a_fault_is_noticed(base):
    deployment = one(base, "Deployment")
    broken = deployment | {"spec": deployment["spec"] | {"replica": 2}}
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        validate(broken, VERSIONS[0])
    monitor = {"apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor", "metadata": {}, "spec": {"endpoint": []}}
    with pytest.raises(jsonschema_rs.ValidationError):
        validate(monitor, VERSIONS[0])


def test_it_has_what_the_seeds_name(every):
    names = {file.name for file in FOLDER.glob("*.yaml")}
    assert {"deployment.yaml", "hpa.yaml", "service.yaml", "configmap.yaml", "redis.yaml"} <= names
    assert one(every["ingress",], "Ingress")["spec"]["rules"][0]["host"] == "ai.example.com"
    assert one(every["loadbalancer",], "Service")["spec"]["type"] == "LoadBalancer"


def test_all_stands_in_one_restricted_namespace(base):
    spaces = {one["metadata"].get("namespace") for one in base if one["kind"] != "Namespace"}
    assert spaces == {"sentinel"}
    assert one(base, "Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert [unrestricted(pod) for pod in pods(base)] == [[], []]


def test_a_pod_that_may_too_much_is_noticed(pod):
    assert unrestricted(pod | {"hostNetwork": True, "securityContext": {}}) == [
        *("hostNetwork", "first-key: runAsNonRoot", "first-key: seccompProfile"),
        *("sentinel: runAsNonRoot", "sentinel: seccompProfile"),
    ]
    loose = pod["containers"][0] | {"securityContext": {}}
    assert unrestricted(pod | {"containers": [loose], "initContainers": []}) == [
        "sentinel: allowPrivilegeEscalation",
        "sentinel: capabilities",
    ]


def test_the_autoscaler_counts_what_seed_001_counts(base):
    metrics = one(base, "HorizontalPodAutoscaler")["spec"]["metrics"]
    resources = {one["resource"]["name"]: one["resource"]["target"]["averageUtilization"] for one in metrics if "resource" in one}
    assert resources == {"cpu": 70, "memory": 80}
    [requests] = [one["pods"] for one in metrics if "pods" in one]
    assert requests["target"] == {"type": "AverageValue", "averageValue": "100"}
    [rule] = yaml.safe_load((FOLDER / "monitoring" / "adapter-values.yaml").read_text())["rules"]["custom"]
    assert rule["name"]["as"] == requests["metric"]["name"]


def test_the_adapter_s_rule_counts_requests_by_pod_without_probes_and_scrapes(tmp_path, absent):
    """As the adapter fills it in: each pod has 3 requests a second of models, and more that are none."""
    [rule] = yaml.safe_load((FOLDER / "monitoring" / "adapter-values.yaml").read_text())["rules"]["custom"]
    filled = {"<<.Series>>": "requests_total", "<<.LabelMatchers>>": 'namespace="sentinel",pod=~"a|b"', "<<.GroupBy>>": "pod"}
    query = rule["metricsQuery"]
    for template, text in filled.items():
        query = query.replace(template, text)
    labels = 'job="sentinel",namespace="sentinel"'
    routes = {"/v1/chat/completions": 40, "/v1/query": 5, "/livez": 600, "/ready": 600, "/health": 60, "/metrics": 60}
    found = [{"labels": f'{{pod="{pod}"}}', "value": 3} for pod in "ab"]
    test = {
        "interval": "15s",
        "input_series": [
            {"series": f'requests_total{{{labels},pod="{pod}",route="{route}"}}', "values": f"0+{step}x20"}
            for pod in "ab"
            for route, step in routes.items()
        ],
        "promql_expr_test": [
            {"expr": query, "eval_time": "4m", "exp_samples": found},
            {"expr": f"count({rule['seriesQuery']})", "eval_time": "4m", "exp_samples": [{"labels": "{}", "value": 12}]},
        ],
    }
    (tmp_path / "tests.yml").write_text(yaml.safe_dump({"tests": [test]}))
    tool = PROMTOOL or absent("promtool: make test-deps installs it with prometheus")
    result = subprocess.run([tool, "test", "rules", tmp_path / "tests.yml"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_its_selectors_find_its_pods(base):
    labels = one(base, "Deployment")["spec"]["template"]["metadata"]["labels"]
    for kind in ("Service", "Deployment", "PodDisruptionBudget", "NetworkPolicy"):
        spec = one(base, kind)["spec"]
        selector = spec.get("podSelector") or spec["selector"]
        assert selector.get("matchLabels", selector).items() <= labels.items()
    redis = one(base, "Deployment", "sentinel-redis")["spec"]["template"]["metadata"]["labels"]
    assert not one(base, "Service")["spec"]["selector"].items() <= redis.items()
    [scraped] = [port["name"] for port in one(base, "Service")["spec"]["ports"]]
    assert scraped == "http"


def settings_of(manifests: list[Manifest], **secrets: str) -> Any:
    """The gateway's settings in a pod."""
    environ = {"HOME": "/h", **one(manifests, "ConfigMap")["data"]}
    image = {name: value for step in steps(ROOT / "Dockerfile") if step.word == "ENV" for name, value in step.pairs.items()}
    return load({"HOST": image["HOST"], "PORT": image["PORT"]} | environ | secrets, cwd=Path("/nowhere")).settings


def test_every_variable_is_a_setting(base, pod):
    given = {variable["name"] for container in [*pod["initContainers"], *pod["containers"]] for variable in container["env"]}
    assert given | one(base, "ConfigMap")["data"].keys() <= set(known_names())


def test_the_settings_are_sound_and_fit_the_pod(base, pod):
    secrets = {"SENTINEL_SECRET": SECRET, "SENTINEL_DATABASE_URL": "postgresql://s@db/s", "SENTINEL_ADMIN_KEY": SECRET}
    settings = settings_of(base, **secrets)
    assert settings.replicas == one(base, "HorizontalPodAutoscaler")["spec"]["minReplicas"]
    [redis] = [one for one in base if one["kind"] == "Service" and f"//{one['metadata']['name']}:" in settings.redis.address]
    assert settings.redis.address.endswith(f":{redis['spec']['ports'][0]['port']}")
    assert pod["containers"][0]["ports"][0]["containerPort"] == settings.server.port
    assert settings.logging.path is None


def test_streams_have_their_time_before_a_pod_is_killed(base, pod):
    server = settings_of(base, SENTINEL_SECRET=SECRET, SENTINEL_DATABASE_URL="postgresql://s@db/s").server
    waits = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert waits + server.drain_notice + server.drain_timeout + 10 <= pod["terminationGracePeriodSeconds"]


def test_secrets_are_named_and_nowhere_written(base, pod):
    assert not [one for one in base if one["kind"] == "Secret"]
    asked = {v["valueFrom"]["secretKeyRef"]["key"] for v in pod["containers"][0]["env"]}
    assert asked == {"admin_key", "secret", "database_url", "openai_api_key"}


def test_only_what_the_image_leaves_to_others_is_written(pod):
    mounted = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    image = [step for step in steps(ROOT / "Dockerfile") if step.word == "ENV" and step.stage == 1]
    assert mounted == {image[0].pairs["SENTINEL_DATA_DIR"], image[0].pairs["TMPDIR"]}
    [user] = [step.text for step in steps(ROOT / "Dockerfile") if step.word == "USER"]
    whole = pod["securityContext"]
    assert whole["fsGroupChangePolicy"] == "OnRootMismatch", "the usual one opens the secret in the data folder to the group"
    assert user == f"{whole['runAsUser']}:{whole['runAsGroup']}"


def test_the_image_is_this_version(pod):
    assert {c["image"] for c in [*pod["initContainers"], *pod["containers"]]} == {
        f"registry.example.com/sentinel-gateway:{__version__}"
    }


@pytest.mark.parametrize("target", ["k8s-deploy", "k8s-status", "k8s-logs", "k8s-port-forward"])
def test_no_kubectl_is_said_so(target):
    result = subprocess.run(["make", target, "KUBECTL=./nowhere"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert f"make {target} needs kubectl, and './nowhere' is not here" in result.stderr


def test_k8s_deploy_asks_for_the_secrets_first(tmp_path):
    kubectl = tmp_path / "kubectl"
    kubectl.write_text('#!/bin/sh\ncase "$1" in get) exit 1;; esac\n')
    kubectl.chmod(0o755)
    result = subprocess.run(["make", "k8s-deploy", f"KUBECTL={kubectl}"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "docs/kubernetes.md has the line that makes them" in result.stderr
    kubectl.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\n')
    result = subprocess.run(["make", "k8s-deploy", f"KUBECTL={kubectl}"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    asked = (tmp_path / "asked").read_text().splitlines()
    assert re.fullmatch(r"apply --kustomize deploy/k8s", asked[1])
    assert "rollout restart" not in (tmp_path / "asked").read_text()


@pytest.mark.parametrize("fails", ["", "exit 1"])
def test_a_changed_configmap_reaches_the_pods(tmp_path, fails):
    """Pods read it when they start, and `apply` starts none for it; where that fails midway, the next finds nothing changed."""
    kubectl = tmp_path / "kubectl"
    applied = f'apply) echo "configmap/sentinel configured"; echo "deployment.apps/sentinel unchanged"; {fails or ":"};;'
    kubectl.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\ncase "$1" in {applied} esac\n')
    kubectl.chmod(0o755)
    result = subprocess.run(["make", "k8s-deploy", f"KUBECTL={kubectl}"], cwd=ROOT, capture_output=True, text=True, check=False)
    asked = (tmp_path / "asked").read_text().splitlines()
    assert "rollout restart deployment/sentinel --namespace sentinel" in asked
    assert result.returncode == (2 if fails else 0), result.stderr
    assert "configmap/sentinel configured" in result.stdout


def test_what_is_open_to_another_redis_mail_and_qdrant_only_waits_for_its_mark(tmp_path):
    """Each line that is commented out is a rule that Kubernetes takes."""
    lines = (FOLDER / "networkpolicy.yaml").read_text().splitlines()
    marked = "\n".join(line.replace("# - ports", "- ports", 1) for line in lines)
    policy, _ = yaml.safe_load_all(marked)
    for version in VERSIONS:
        validate(policy, version)
    ports = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
    assert ports == {53, 443, 5432, 6379, 6380, 26379, 6333, 465, 587, 4318}


def test_the_ingress_leads_callers_only(every):
    [path] = one(every["ingress",], "Ingress")["spec"]["rules"][0]["http"]["paths"]
    assert (path["path"], path["pathType"]) == ("/v1", "Prefix")
