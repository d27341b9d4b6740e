"""What docker-compose.yml puts together, from processes: first-key, the gateway, Redis 8 and a Prometheus with its key."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.deploy.dockerfile import steps
from tests.deploy.test_compose import SERVICES, gateway_environment
from tests.process.conftest import DEADLINE, Program
from tests.servers import PROMETHEUS, PrometheusServer

ROOT = Path(__file__).parents[2]


class Topology:
    """The services, where they are here: `folder` stands for the image's, the volumes and ./logs."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        for name in ("data", "keys", "logs"):
            (folder / name).mkdir()
        self.folder = folder
        given = gateway_environment()
        here = {
            "SENTINEL_DATA_DIR": f"{folder}/data",
            "LOG_PATH": f"{folder}/logs/requests.log",
            "REDIS_URL": redis_url,
            "PORT": "0",
        }
        self.environ = {name: value for name, value in given.items() if name != "QDRANT_URL"} | here | {"LOG_LEVEL": "error"}
        self.key_file = folder / "keys" / "prometheus"

    def first_key(self) -> None:
        words = [word.replace("/app/keys", f"{self.folder}/keys") for word in SERVICES["first-key"]["command"]]
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        command = [sys.executable, "-m", "sentinel_gateway", *words]
        subprocess.run(command, env=kept | {"HOME": str(self.folder)} | self.environ, cwd=self.folder, check=True, timeout=60)


@pytest.fixture(scope="module")
def topology(tmp_path_factory, redis8) -> Topology:
    redis8.flush()
    topology = Topology(tmp_path_factory.mktemp("compose"), redis8.url)
    topology.first_key()
    return topology


@pytest.fixture(scope="module")
def gateway(topology) -> Iterator[Program]:
    program = Program(topology.folder, topology.environ)
    yield program
    program.stop()


def test_first_key_makes_one_key_for_good(topology):
    text = topology.key_file.read_text()
    assert text.startswith("sk-sn-")
    assert topology.key_file.stat().st_mode & 0o777 == 0o640, "the group may read it, and Prometheus is in it"
    topology.first_key()
    assert topology.key_file.read_text() == text


def test_every_service_of_its_is_up(topology, gateway):
    headers = {"Host": "sentinel:8080", "Authorization": f"Bearer {topology.key_file.read_text()}"}
    health = gateway.request("GET", "/health", **headers)
    assert (health.status, health.json["services"]["redis"]["status"]) == (200, "up"), health.body
    assert gateway.request("GET", "/ready").status == 200
    assert gateway.request("GET", "/metrics", Host="sentinel:8080").status == 401
    assert gateway.ask("What is the capital of France?", authorization=headers["Authorization"]).status == 403, "it only reads"


def test_prometheus_scrapes_it_with_its_key(topology, gateway, tmp_path, absent):
    config = yaml.safe_load((ROOT / "deploy" / "compose" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
    [job] = config["scrape_configs"]
    job["static_configs"][0]["targets"] = [f"127.0.0.1:{gateway.port}"]
    job["authorization"]["credentials_file"] = str(topology.key_file)
    for rules in config["rule_files"]:
        (tmp_path / rules).write_text((ROOT / "deploy" / "prometheus" / rules).read_text())
    binary = PROMETHEUS or absent("prometheus: make test-deps installs it")
    with PrometheusServer(binary, tmp_path, yaml.safe_dump(config)) as prometheus:
        end = time.monotonic() + DEADLINE
        while not (found := prometheus.ask('up{job="sentinel"} == 1 and sentinel_ready == 1')):
            assert time.monotonic() < end, prometheus.ask("up")
            time.sleep(0.1)
    assert found[0]["metric"]["job"] == "sentinel"


def test_the_image_s_health_check_tells_life_from_death(gateway):
    [check] = [step for step in steps(ROOT / "Dockerfile") if step.word == "HEALTHCHECK"]
    python, *words = yaml.safe_load(check.text.partition("CMD ")[2])
    assert python == "python"
    environ = {"PATH": os.environ["PATH"]}
    alive = subprocess.run([sys.executable, *words], env=environ | {"PORT": str(gateway.port)}, check=False)
    assert alive.returncode == 0
    dead = subprocess.run([sys.executable, *words], env=environ | {"PORT": "1"}, stderr=subprocess.DEVNULL, check=False)
    assert dead.returncode == 1
