"""docker-compose.yml says what can be done, names what is there, and opens nothing to others. No engine is asked."""

import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from sentinel_gateway.settings.environment import known_names
from sentinel_gateway.settings.load import load
from tests.deploy.dockerfile import steps

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
DEVELOPMENT = ROOT / "deploy" / "compose" / "development.yml"
SETTINGS = {"REDIS_URL", "QDRANT_URL", "SENTINEL_SERVER__ALLOWED_HOSTS", "SENTINEL_PROVIDERS__DEMO__ENABLED"}
GIVEN = {"CONTAINER_USER", "GATEWAY_PORT", "GRAFANA_PASSWORD", "POSTGRES_PASSWORD"} | SETTINGS
"""What compose itself takes from .env."""
INTERPOLATED = re.compile(r"\$\{(\w+)(?::([-+?])((?:[^${}]|\$\{\w+\})*))?\}")


def filled(text: str, environ: Mapping[str, str]) -> str:
    """As compose fills it in from .env: ${NAME}, ${NAME:-without}, ${NAME:+with}, one within another."""

    def value(match: re.Match[str]) -> str:
        name, how, other = match.groups()
        if how == "+":
            return filled(other, environ) if environ.get(name) else ""
        return environ.get(name) or (filled(other, environ) if how == "-" else "")

    return INTERPOLATED.sub(value, text)


def gateway_environment(**env: str) -> dict[str, str]:
    """What its container is given, where .env says `env`."""
    written = SERVICES["sentinel"]["environment"]
    return env | {name: filled(value, env) for name, value in written.items()}


def test_it_is_what_the_specification_allows():
    schema = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    result = subprocess.run([*schema, FILE, DEVELOPMENT], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_specification_notices_a_fault(tmp_path):
    broken = tmp_path / "docker-compose.yml"
    broken.write_text(FILE.read_text().replace("restart: unless-stopped", "restrat: unless-stopped", 1))
    schema = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    result = subprocess.run([*schema, broken], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "restrat" in result.stdout


def test_the_services_are_those_of_the_seeds():
    started = {name for name, service in SERVICES.items() if "profiles" not in service}
    assert started == {"first-key", "sentinel", "redis", "qdrant", "prometheus", "grafana"}
    assert {service["profiles"][0] for name, service in SERVICES.items() if name not in started} == {"postgres", "tracing"}
    assert {"redis_data", "qdrant_storage"} <= COMPOSE["volumes"].keys()
    assert "./logs:/app/logs" in SERVICES["sentinel"]["volumes"]


@pytest.mark.parametrize(("name", "interval", "timeout", "retries"), [("redis", "5s", "3s", 5), ("qdrant", "5s", "3s", 10)])
def test_health_checks_have_the_intervals_of_seed_000(name, interval, timeout, retries):
    check = SERVICES[name]["healthcheck"]
    assert (check["interval"], check["timeout"], check["retries"]) == (interval, timeout, retries)


def test_who_waits_for_health_waits_for_one_that_tells_it():
    own = {step.word for step in steps(ROOT / "Dockerfile")}
    for name, service in SERVICES.items():
        for needed, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[needed] or ("build" in SERVICES[needed] and "HEALTHCHECK" in own), (name, needed)
            else:
                assert SERVICES[needed]["restart"] == "no", "one that is started again never ends"
            if "profiles" in SERVICES[needed]:
                assert how["required"] is False
    assert SERVICES["sentinel"]["depends_on"].keys() == {"first-key", "redis", "qdrant"}


def test_ports_are_this_machines_and_nobody_has_them_twice():
    every = [*SERVICES.values(), *yaml.safe_load(DEVELOPMENT.read_text())["services"].values()]
    published = [port for service in every for port in service.get("ports", ())]
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert len({re.sub(r"\$\{\w+:-(\d+)\}", r"\1", port).split(":")[1] for port in published}) == len(published)
    [exposed] = [step.text for step in steps(ROOT / "Dockerfile") if step.word == "EXPOSE"]
    assert SERVICES["sentinel"]["ports"][0].endswith(f":{exposed}")
    assert SERVICES["sentinel"]["environment"]["PORT"] == exposed


def test_every_variable_is_a_setting():
    for name in ("sentinel", "first-key"):
        assert SERVICES[name]["environment"].keys() <= set(known_names()) | {"SENTINEL_PROVIDERS__DEMO__ENABLED"}
    interpolated = set(re.findall(r"\$\{(\w+)", FILE.read_text()))
    assert interpolated == GIVEN


def test_env_has_the_last_word(tmp_path):
    """`environment` wins over `env_file`, so what docs/docker.md leaves to .env has to come from it."""
    usual = gateway_environment()
    assert usual["REDIS_URL"] == "redis://redis:6379"
    assert usual["QDRANT_URL"] == "http://qdrant:6333"
    assert usual["SENTINEL_PROVIDERS__DEMO__ENABLED"] == "true"
    yours = {"REDIS_URL": "rediss://cache.example.com:6380", "QDRANT_URL": "https://qdrant.example.com"}
    yours |= {"SENTINEL_PROVIDERS__DEMO__ENABLED": "false", "SENTINEL_SERVER__ALLOWED_HOSTS": "ai.example.com,ai2.example.com"}
    assert yours.keys() == SETTINGS
    assert set(SERVICES["sentinel"]["environment"]) - SETTINGS == {"HOST", "PORT", "LOG_PATH", "SENTINEL_DATA_DIR"}
    settings = load(gateway_environment(**yours) | {"HOME": str(tmp_path)}, cwd=tmp_path).settings
    assert settings.redis.address == yours["REDIS_URL"]
    assert settings.qdrant.url == yours["QDRANT_URL"]
    assert settings.server.allowed_hosts == ("sentinel", "ai.example.com", "ai2.example.com")
    assert not settings.providers["demo"].enabled


def test_every_mount_is_there():
    for name, service in SERVICES.items():
        for volume in service.get("volumes", ()):
            source, _, target = volume.partition(":")
            if source.startswith("./deploy"):
                assert (ROOT / source).exists(), f"{name}: {source}"
                assert target.endswith(":ro")
            elif source != "./logs":
                assert source in COMPOSE["volumes"], f"{name}: {source}"


def test_addresses_are_names_of_services():
    text = yaml.safe_dump(SERVICES) + (ROOT / "deploy" / "compose" / "prometheus.yml").read_text()
    named = set(re.findall(r"(?:redis|http)://([a-z]+):\d+", text)) | {"sentinel"}
    assert named <= SERVICES.keys() | {"localhost"}


def test_prometheus_is_told_of_what_is_mounted():
    folder = "/etc/prometheus/"
    mounted = {volume.split(":")[1].removeprefix(folder) for volume in SERVICES["prometheus"]["volumes"] if folder in volume}
    config = yaml.safe_load((ROOT / "deploy" / "compose" / "prometheus.yml").read_text())
    assert mounted == {"prometheus.yml", *config["rule_files"], "keys"}
    [job] = config["scrape_configs"]
    assert job["authorization"]["credentials_file"] == "keys/prometheus"
    assert SERVICES["first-key"]["command"][-2:] == ["--to", "/app/keys/prometheus"]
    assert job["static_configs"][0]["targets"] == ["sentinel:8080"]
    assert gateway_environment()["SENTINEL_SERVER__ALLOWED_HOSTS"] == "sentinel"


def test_the_extras_are_some_that_the_image_can_have():
    locked = re.search(r"^IMAGE_EXTRAS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    for name in ("sentinel", "first-key"):
        assert set(SERVICES[name]["build"]["args"]["EXTRAS"].split()) <= set(locked)


@pytest.fixture
def checkout(tmp_path) -> Path:
    """Where `make` finds what it needs, and a `docker` that writes down what it is asked."""
    for name in ("Makefile", ".env.example"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "compose.py", tmp_path / "scripts")
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\necho "$@" >>asked\n')
    docker.chmod(0o755)
    return tmp_path


def make(target: str, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = ["make", target, "DOCKER=./docker", f"PYTHON={sys.executable}", *more]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def values(file: Path) -> dict[str, str]:
    return dict(re.findall(r"^(\w+)=(.+)$", file.read_text(), re.MULTILINE))


def test_compose_first_start_without_env(checkout):
    result = make("docker-compose-up", checkout)
    assert result.returncode == 0, result.stderr
    env = checkout / ".env"
    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    made = values(env)
    assert made.keys() == {"SENTINEL_ADMIN_KEY", "GRAFANA_PASSWORD", "CONTAINER_USER"}
    assert re.fullmatch(r"[0-9a-f]{64}", made["SENTINEL_ADMIN_KEY"])
    assert made["CONTAINER_USER"] != "0"
    assert (checkout / "logs").stat().st_uid == int(made["CONTAINER_USER"])
    assert (checkout / "asked").read_text() == "compose up --detach --build\n"
    assert "curl -i http://127.0.0.1:8080/v1/chat/completions" in result.stdout
    assert made["SENTINEL_ADMIN_KEY"] not in result.stdout


def test_what_env_says_is_kept(checkout):
    (checkout / ".env").write_text("OPENAI_API_KEY=mine\nSENTINEL_ADMIN_KEY=chosen-by-the-operator\n")
    (checkout / ".env").chmod(0o644)
    first = make("docker-compose-up", checkout)
    kept = (checkout / ".env").read_text()
    second = make("docker-compose-up", checkout)
    assert (first.returncode, second.returncode) == (0, 0)
    assert (checkout / ".env").read_text() == kept
    assert stat.S_IMODE((checkout / ".env").stat().st_mode) == 0o600, "now it holds Grafana's password"
    assert kept.startswith("OPENAI_API_KEY=mine\nSENTINEL_ADMIN_KEY=chosen-by-the-operator\n")
    assert values(checkout / ".env").keys() == {"OPENAI_API_KEY", "SENTINEL_ADMIN_KEY", "GRAFANA_PASSWORD", "CONTAINER_USER"}


def test_what_to_try_names_the_port_of_env(checkout):
    (checkout / ".env").write_text("GATEWAY_PORT=8090\n")
    told = make("docker-compose-up", checkout).stdout
    assert "curl -i http://127.0.0.1:8090/v1/chat/completions" in told
    assert "8080" not in told
    assert filled(SERVICES["sentinel"]["ports"][0], values(checkout / ".env")) == "127.0.0.1:8090:8080"


@pytest.mark.parametrize("target", ["docker-build", "docker-compose-up", "docker-compose-logs", "docker-compose-down"])
def test_no_docker_is_said_so(checkout, target):
    (checkout / "docker").unlink()
    result = make(target, checkout)
    assert result.returncode == 2
    assert f"make {target} needs Docker, and './docker' is not here" in result.stderr
    assert not (checkout / ".env").exists()


def test_the_image_is_built_with_its_version_and_extras(checkout):
    package = checkout / "src" / "sentinel_gateway"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('__version__ = "9.8.7"\n')
    assert make("docker-build", checkout, "EXTRAS=redis sentry").returncode == 0
    asked = (checkout / "asked").read_text()
    assert asked.startswith("build --tag sentinel-gateway:local --build-arg EXTRAS=redis sentry --build-arg VERSION=9.8.7 ")
