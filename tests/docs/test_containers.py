"""docs/docker.md, docs/kubernetes.md and the rollback in docs/operations.md: what their commands name is there.

No engine and no cluster is here: of `docker`, `helm` and `kubectl` lines all is tested but the engine's own work. What runs in
a container (`sentinel ...`) is run, `make` has the targets, kubectl makes the secrets without a cluster, values are the chart's.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from sentinel_gateway.settings.load import load
from tests.deploy.dockerfile import steps
from tests.deploy.manifests import VERSIONS
from tests.deploy.test_compose import COMPOSE, SERVICES
from tests.shape.test_make import targets

ROOT = Path(__file__).parents[2]
PAGES = {name: (ROOT / "docs" / f"{name}.md").read_text() for name in ("docker", "kubernetes", "operations")}
CHART = ROOT / "deploy" / "helm" / "sentinel"
POD: Any = yaml.safe_load((ROOT / "deploy" / "k8s" / "deployment.yaml").read_text())["spec"]["template"]["spec"]
IMAGE = "sentinel-gateway:local"
TOOLS = {"make", ".venv/bin/python", "docker", "trivy", "helm", "kubectl", "openssl", "curl"}


def commands(page: str, tool: str = "") -> list[str]:
    """The lines of its blocks, continued ones joined, that begin with the tool."""
    joined = [block.replace("\\\n", " ") for block in re.findall(r"```sh\n(.*?)```", PAGES[page], re.DOTALL)]
    return [line for block in joined for line in block.splitlines() if line.startswith(tool)]


EVERY = [line for page in PAGES for line in commands(page)]


def test_every_tool_is_known_here():
    assert {line.split()[0] for line in EVERY} <= TOOLS


@pytest.mark.parametrize("line", [line for line in EVERY if line.startswith("make ")])
def test_make_has_the_target(line):
    assert {word for word in shlex.split(line)[1:] if "=" not in word} <= targets()


def in_a_container() -> list[str]:
    """What containers and pods are asked to do."""
    pattern = rf"(?:{IMAGE}|exec sentinel sentinel|-- sentinel) (keys .+)"
    return [match[1].partition("|")[0].strip() for line in EVERY if (match := re.search(pattern, line))]


@pytest.mark.parametrize("words", in_a_container())
def test_what_a_container_is_asked_to_do_is_done(words, tmp_path):
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    command = [sys.executable, "-m", "sentinel_gateway", *shlex.split(words)]
    result = subprocess.run(command, env=kept | {"HOME": str(tmp_path)}, cwd=tmp_path, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr
    assert b"sk-sn-" in result.stdout


def test_all_kinds_of_container_lines_were_found():
    assert len(in_a_container()) == 4


def test_docker_run_says_what_the_image_says():
    image = {step.word: step for step in steps(ROOT / "Dockerfile") if step.stage == 1}
    first, served = commands("docker", "docker run")
    words = shlex.split(served)
    mounted = [words[i + 1] for i, word in enumerate(words) if word == "--volume"]
    assert {volume.partition(":")[2] for volume in mounted} <= set(image["VOLUME"].command)
    assert "--volume sentinel:/data" in first
    assert words[words.index("--tmpfs") + 1] == image["ENV"].pairs["TMPDIR"]
    assert words[words.index("--publish") + 1] == f"127.0.0.1:8080:{image['EXPOSE'].text}"
    assert (
        int(words[words.index("--stop-timeout") + 1]) > load({"HOME": "/h"}, cwd=Path("/nowhere")).settings.server.drain_timeout
    )
    assert words[-1] == IMAGE


def test_compose_lines_name_what_is_there():
    for line in commands("docker", "docker compose"):
        words = shlex.split(line)
        assert all((ROOT / words[i + 1]).exists() for i, word in enumerate(words) if word == "--file")
        profiles = {words[i + 1] for i, word in enumerate(words) if word == "--profile"}
        assert profiles <= {profile for service in SERVICES.values() for profile in service.get("profiles", ())}
        names = set(words[words.index("--detach") + 1 :]) if "--detach" in words else {words[words.index("exec") + 1]}
        assert names <= SERVICES.keys()


def test_the_table_of_services_is_compose_s():
    rows = re.findall(r"^\| `([\w-]+)` \| (.+?) \| (.+?) \|$", PAGES["docker"], re.MULTILINE)
    assert {name for name, *_ in rows} == {name for name, service in SERVICES.items() if "profiles" not in service}
    for name, where, kept in rows:
        published = [port.rpartition(":")[0] for port in SERVICES[name].get("ports", ())]
        assert bool(published) == ("http://127.0.0.1:" in where)
        volumes = set(re.findall(r"`(\w+)`", kept)) & COMPOSE["volumes"].keys()
        assert volumes, name
        assert volumes <= {volume.partition(":")[0] for volume in SERVICES[name]["volumes"]}


def test_what_env_is_told_is_a_configuration(tmp_path):
    [block] = re.findall(r"```\n(SENTINEL_DATABASE_URL.*?)```", PAGES["docker"], re.DOTALL)
    (tmp_path / ".env").write_text(block)
    settings = load({"HOME": "/h"}, cwd=tmp_path).settings
    assert settings.database_url.get_secret_value().endswith("@postgres/sentinel")
    assert settings.tracing.endpoint == "http://jaeger:4318"
    assert {"postgres", "jaeger"} <= SERVICES.keys()
    [profiles] = re.findall(r"^COMPOSE_PROFILES=(.+)$", block, re.MULTILINE)  # on a command line, the next 'up' would forget them
    assert set(profiles.split(",")) == {profile for service in SERVICES.values() for profile in service.get("profiles", ())}


def secrets_made(absent: Any) -> dict[str, set[str]]:
    """What the pages' own lines make, by kubectl without a cluster: members by the secret's name."""
    kubectl = shutil.which("kubectl") or absent("kubectl", rare=True)
    environ = {"PATH": os.environ["PATH"], "HOME": "/nowhere", "SENTINEL_DATABASE_URL": "postgresql://s@db/s"}
    environ |= {"OPENAI_API_KEY": "sk-x", "GROQ_API_KEY": "gsk-x"}
    made = {}
    for line in [line.rpartition("| ")[2] for page in PAGES for line in commands(page) if "create secret" in line]:
        dry = line.strip().replace("kubectl", shlex.quote(kubectl), 1) + " --dry-run=client --output json"
        ran = subprocess.run(["sh", "-c", dry], env=environ, input="sk-sn-x", capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        secret = json.loads(ran.stdout)
        made[secret["metadata"]["name"]] = set(secret["data"])
    return made


def test_the_secrets_are_those_that_the_pods_and_prometheus_ask_for(absent):
    made = secrets_made(absent)
    asked = [variable["valueFrom"]["secretKeyRef"] for variable in POD["containers"][0]["env"]]
    assert made["sentinel-secrets"] == {secret["key"] for secret in asked if secret["name"] == "sentinel-secrets"}
    assert {source["secretRef"]["name"] for source in POD["containers"][0]["envFrom"] if "secretRef" in source} <= made.keys()
    monitor = yaml.safe_load((ROOT / "deploy" / "k8s" / "monitoring" / "servicemonitor.yaml").read_text())
    credentials = monitor["spec"]["endpoints"][0]["authorization"]["credentials"]
    assert made[credentials["name"]] == {credentials["key"]}


@pytest.mark.parametrize("line", [line for line in EVERY if line.startswith("helm ")])
def test_helm_lines_name_files_and_values_that_are_there(line):
    words = shlex.split(line)
    assert all((ROOT / words[i + 1]).exists() for i, word in enumerate(words) if word == "--values")
    ours = "deploy/helm/sentinel" in words  # of another's chart only the files are here
    for setting in [words[i + 1] for i, word in enumerate(words) if word == "--set" and ours]:
        place: Any = yaml.safe_load((CHART / "values.yaml").read_text())
        for part in setting.partition("=")[0].split("."):
            assert part in place, setting
            place = place[part]


def test_every_values_file_is_on_the_page():
    named = set(re.findall(r"([\w-]+-values\.yaml)", PAGES["kubernetes"])) - {"adapter-values.yaml"}
    assert named == {file.name for file in (CHART / "ci").iterdir()}


def test_figures_are_those_of_the_manifests():
    page = PAGES["kubernetes"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["kubeVersion"] == f">={VERSIONS[0]}.0-0"
    assert f"Kubernetes {VERSIONS[0]} or newer" in page
    assert f"Kubernetes {VERSIONS[0]}, {VERSIONS[1]} and {VERSIONS[2]}" in page
    config = yaml.safe_load((ROOT / "deploy" / "k8s" / "configmap.yaml").read_text())["data"]
    waits = POD["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1]
    assert f"{waits} s in which every proxy hears of it, then up to {config['SENTINEL_SERVER__DRAIN_TIMEOUT']} s" in page
    assert f"killed after {POD['terminationGracePeriodSeconds']} s" in page
    assert config["SENTINEL_MEMORY_CACHE_BYTES"].replace("MiB", " MiB") in page
    resources = POD["initContainers"][0]["resources"]
    wanted, most = resources["requests"], resources["limits"]
    assert f"{wanted['cpu']} and {wanted['memory']} requested, {most['cpu']} CPU and {most['memory']} at most" in page


def test_blue_and_green_are_told_apart_by_what_the_chart_sets():
    patches = [json.loads(re.search(r"--patch '(.*?)'", line)[1]) for line in commands("operations", "kubectl patch")]
    assert [patch["spec"]["selector"] for patch in patches] == [
        {"app.kubernetes.io/instance": "green"},
        {"app.kubernetes.io/instance": "sentinel"},
    ]
    helpers = (CHART / "templates" / "_helpers.tpl").read_text()
    assert "app.kubernetes.io/instance: {{ .Release.Name }}" in helpers
    [image] = commands("operations", "kubectl set image")
    assert {word.partition("=")[0] for word in image.split() if "=" in word} == {
        container["name"] for container in [*POD["initContainers"], *POD["containers"]]
    }
