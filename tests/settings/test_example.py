"""`.env.example` and `examples/sentinel.yaml` are what the settings are."""

import re
from pathlib import Path

import pytest

from sentinel_gateway.settings.environment import known_names, prefixed_name
from sentinel_gateway.settings.example import env_example
from sentinel_gateway.settings.load import load
from sentinel_gateway.settings.schema import fixed_settings
from sentinel_gateway.settings.variables import LATER, VARIABLES

ROOT = Path(__file__).parents[2]
ENV_EXAMPLE = (ROOT / ".env.example").read_text()
ASSIGNED = dict(re.findall(r"^#(\w+)=(.*)$", ENV_EXAMPLE, re.MULTILINE))
KEYS = {
    "GROQ_API_KEY": "g",
    "WORK_OPENAI_KEY": "w",
    "SENTINEL_ADMIN_KEY": "k" * 16,
    "SLACK_URL": "slack://a/b/c",
    "HOOK_SECRET": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
}


def test_the_committed_file_is_the_generated_one():
    assert env_example() == ENV_EXAMPLE, "run: python -m sentinel_gateway.settings.example > .env.example"


def test_env_example_names_equal_settings():
    named = {variable.location for variable in VARIABLES}
    also_named = {prefixed_name(place) for place, _ in fixed_settings() if place in named}
    own = {variable.name for variable in VARIABLES}
    assert ASSIGNED.keys() == set(known_names()) - (also_named - own)
    assert not ASSIGNED.keys() & LATER.keys()


def test_every_line_is_commented_out():
    assert all(not line or line.startswith("#") for line in ENV_EXAMPLE.splitlines())


@pytest.mark.parametrize("name", [name for name, value in ASSIGNED.items() if value])
def test_every_line_can_be_uncommented(tmp_path, name):
    (tmp_path / "sentinel.yaml").write_text("")
    (tmp_path / ".env").write_text(f"{name}={ASSIGNED[name]}\n")
    loaded = load({"HOME": "/h"}, cwd=tmp_path)
    assert loaded.files == ("sentinel.yaml", ".env")


def test_uncommented_as_a_whole_it_changes_nothing_but_what_it_must(tmp_path):
    lines = [f"{name}={value}" for name, value in ASSIGNED.items() if value and name != "SENTINEL_CONFIG"]
    (tmp_path / ".env").write_text("\n".join(lines))
    settings = load({"HOME": "/h"}, cwd=tmp_path).settings
    untouched = load({"HOME": "/h"}, cwd=tmp_path / "nowhere").settings
    assert settings.server == untouched.server
    assert settings.cache.ttl == 3600
    assert settings.cache.model_copy(update={"ttl": None}) == untouched.cache
    assert list(settings.providers) == ["ollama", "vllm"]


def test_the_yaml_example_is_the_defaults():
    example = load({"HOME": "/h"}, cwd=ROOT, config=ROOT / "examples" / "sentinel.yaml").settings
    defaults = load({"HOME": "/h"}, cwd=ROOT / "nowhere").settings
    assert example.model_copy(update={"providers": {}}) == defaults
    assert example.demo


def test_the_yaml_example_uncommented(tmp_path):
    text = re.sub(r"^(\s*)#(?=\S)", r"\1", (ROOT / "examples" / "sentinel.yaml").read_text(), flags=re.MULTILINE)
    (tmp_path / "sentinel.yaml").write_text(text)
    settings = load({"HOME": "/h"} | KEYS, cwd=tmp_path).settings
    assert list(settings.providers) == ["demo", "groq", "work", "local"]
    assert settings.models["fast"].names == ("groq/llama-3.1-8b-instant", "local/qwen3")
    assert settings.models["careful"].ttl == 3600
    assert settings.models["careful"].limits.requests_per_minute == 60
    assert settings.limits.tokens_per_minute == 100_000
    assert settings.tenants["acme"].cache_group == settings.tenants["partner"].cache_group
    assert settings.cache.ttl == 3600
    assert str(settings.data_dir) == "/var/lib/sentinel"
    assert settings.admin_key is not None
