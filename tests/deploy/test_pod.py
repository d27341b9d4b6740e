"""What runs in a pod of deploy/k8s, by its own commands and variables, beside Redis 8 and PostgreSQL."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.manifests import mebibytes
from tests.process.conftest import Program

FOLDER = Path(__file__).parents[2] / "deploy" / "k8s"
CHART = FOLDER.parent / "helm" / "sentinel"
POD: Any = yaml.safe_load((FOLDER / "deployment.yaml").read_text())["spec"]["template"]["spec"]
SECRET = "0b9d44f6a1c37e8852f0d6b3e97a214c6d83f5b0972ea4c1d58f60b3a7e9142d"


def with_ingress() -> dict[str, str]:
    """What the component changes: any name is answered to, and pages may come by one."""
    [patch] = yaml.safe_load((FOLDER / "ingress" / "kustomization.yaml").read_text())["patches"]
    [change] = yaml.safe_load(patch["patch"])
    return {change["path"].rpartition("/")[2]: change["value"]}


class Pod:
    """Its environment, where its volumes and servers are here."""

    def __init__(self, folder: Path, redis_url: str, database_url: str) -> None:
        self.folder = folder
        settings = yaml.safe_load((FOLDER / "configmap.yaml").read_text())["data"] | with_ingress()
        secrets = {"SENTINEL_SECRET": SECRET, "SENTINEL_ADMIN_KEY": SECRET, "SENTINEL_DATABASE_URL": database_url}
        image = {"HOST": "0.0.0.0", "SENTINEL_DATA_DIR": f"{folder}/data"}
        here = {"REDIS_URL": redis_url, "PORT": "0", "LOG_LEVEL": "error", "OPENAI_API_KEY": "sk-nobody"}
        self.environ = image | settings | secrets | here
        self.path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def first_key(self, **environ: str) -> subprocess.CompletedProcess[str]:
        kept = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ} | {"PATH": self.path}
        environment = kept | {"HOME": str(self.folder)} | self.environ | environ
        command = POD["initContainers"][0]["command"]
        return subprocess.run(command, env=environment, cwd=self.folder, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="module")
def pod(tmp_path_factory, redis8, postgres) -> Pod:
    redis8.flush()
    return Pod(tmp_path_factory.mktemp("pod"), redis8.url, postgres.fresh())


@pytest.fixture(scope="module")
def gateway(pod) -> Iterator[Program]:
    for _ in ("of this pod", "of another"):
        made = pod.first_key()
        assert (made.returncode, made.stdout, made.stderr) == (0, "", "")
    program = Program(pod.folder, pod.environ)
    yield program
    program.stop()


def as_admin(gateway: Program, path: str) -> Any:
    return gateway.request("GET", path, authorization=f"Bearer {SECRET}").json


def test_all_pods_make_one_first_key_that_nobody_has(gateway):
    keys = as_admin(gateway, "/admin/keys")["data"]
    assert [(key["name"], key["scopes"]) for key in keys] == [("kubernetes", ["read"])]


def test_a_first_key_that_cannot_be_made_holds_no_pod_up(pod):
    away = pod.first_key(SENTINEL_DATABASE_URL="postgresql://sentinel@127.0.0.1:1/sentinel")
    assert (away.returncode, away.stdout) == (0, "")
    assert "sentinel keys:" in away.stderr


def probed(gateway: Program) -> dict[str, int]:
    """What the kubelet is told: it asks by the pod's address, unless a probe has a Host of its own."""
    probes = [POD["containers"][0][probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")]
    headers = [{"Host": "10.1.2.3:8080"} | {h["name"]: h["value"] for h in probe.get("httpHeaders", ())} for probe in probes]
    asked = zip(probes, headers, strict=True)
    return {probe["path"]: gateway.request("GET", probe["path"], **given).status for probe, given in asked}


def test_probes_are_answered_and_whoever_asks_by_the_pod_s_address_needs_a_key(gateway):
    assert probed(gateway) == {"/livez": 200, "/ready": 200}
    assert gateway.request("GET", "/v1/models", Host="10.1.2.3:8080").status == 401


def test_probes_are_answered_where_one_name_alone_is_allowed(pod):
    given = {"SENTINEL_SERVER__ALLOWED_HOSTS": "ai.example.com", "SENTINEL_DATA_DIR": f"{pod.folder}/named"}
    named = Program(pod.folder, pod.environ | given)
    try:
        assert named.request("GET", "/livez", Host="10.1.2.3:8080").status == 421
        assert probed(named) == {"/livez": 200, "/ready": 200}
    finally:
        named.stop()


def spare(process: int, resources: Any, cache: str) -> float:
    """MiB below four fifths of the request, where the autoscaler begins to make pods, once the memory cache is full."""
    status = Path(f"/proc/{process}/status").read_text()
    [resident] = [int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS:")]
    return 0.8 * mebibytes(resources["requests"]["memory"]) - resident - mebibytes(cache.removesuffix("B"))


def test_an_idle_pod_and_a_full_cache_make_no_pods(pod, gateway):
    resources = POD["initContainers"][0]["resources"]
    assert resources["requests"]["memory"] == "512Mi"
    assert spare(gateway.process.pid, resources, pod.environ["SENTINEL_MEMORY_CACHE_BYTES"]) > 0


def test_without_the_model_half_of_it_is_enough(pod):
    values = yaml.safe_load((CHART / "ci" / "small-values.yaml").read_text())
    assert values["resources"]["requests"]["memory"] == "256Mi"
    given = {name: str(value) for name, value in values["env"].items()} | {"SENTINEL_DATA_DIR": f"{pod.folder}/small"}
    small = Program(pod.folder, pod.environ | given)
    try:
        assert small.request("GET", "/ready").status == 200
        assert spare(small.process.pid, values["resources"], given["SENTINEL_MEMORY_CACHE_BYTES"]) > 0
    finally:
        small.stop()


def test_whoever_comes_by_the_ingress_can_sign_in(gateway):
    page = {"Host": "ai.example.com", "Origin": "https://ai.example.com"}
    assert gateway.request("POST", "/dashboard/sign-in", None, **page).status != 403
    assert gateway.request("POST", "/dashboard/sign-in", None, **page | {"Origin": "https://evil.example"}).status == 403


def test_one_node_s_keys_come_along_in_the_order_of_the_page(tmp_path, redis8, postgres):
    """docs/kubernetes.md: its secret becomes the others', and it starts once more while it is alone."""
    several = Pod(tmp_path, redis8.url, postgres.fresh()).environ
    shared = ("SENTINEL_SECRET", "SENTINEL_DATABASE_URL", "SENTINEL_REPLICAS", "REDIS_URL")
    alone = {name: value for name, value in several.items() if name not in shared} | {"HOME": str(tmp_path)}
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    create = [sys.executable, "-m", "sentinel_gateway", "keys", "create", "--name", "mobile app", "--json"]
    made = subprocess.run(create, env=kept | alone, cwd=tmp_path, capture_output=True, check=True, timeout=60)
    secret = (tmp_path / "data" / "secret").read_text()
    meeting = {"SENTINEL_SECRET": secret, "REDIS_URL": redis8.url, "SENTINEL_DATABASE_URL": several["SENTINEL_DATABASE_URL"]}
    other = several | meeting | {"SENTINEL_DATA_DIR": f"{tmp_path}/other"}
    for environ in (alone, alone | meeting, other):
        node = Program(tmp_path, environ)
        try:
            assert node.request("GET", "/v1/models", authorization=f"Bearer {json.loads(made.stdout)['key']}").status == 200
        finally:
            node.stop()
