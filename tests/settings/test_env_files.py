"""`.env.development` and `.env.production` are configurations that start, and name nothing that there is not."""

import re
from pathlib import Path

import pytest

from sentinel_gateway.settings.environment import known_names
from sentinel_gateway.settings.load import load
from sentinel_gateway.settings.variables import FILE

ROOT = Path(__file__).parents[2]
SECRETS = {
    "SENTINEL_ADMIN_KEY": "c1b7d0a6e25f4893",
    "SENTINEL_SECRET": "0b9d44f6a1c37e8852f0d6b3e97a214c6d83f5b0972ea4c1d58f60b3a7e9142d",
}


@pytest.mark.parametrize("name", [".env.development", ".env.production"])
def test_every_name_is_a_setting(name):
    named = re.findall(r"^#?([A-Z][A-Z0-9_]+)=", (ROOT / name).read_text(), re.MULTILINE)
    assert {one.removesuffix(FILE) for one in named} <= set(known_names())
    assert len(named) == len(set(named)) > 5


def of(name: str, tmp_path: Path, **more: str):
    """The settings of a gateway that is started beside this file, with nothing else in its environment."""
    (tmp_path / ".env").write_text((ROOT / name).read_text())
    return load({"HOME": "/h"} | more, cwd=tmp_path).settings


def test_development_is_for_this_machine_and_talks(tmp_path):
    settings = of(".env.development", tmp_path)
    assert (settings.logging.level, settings.logging.format) == ("debug", "text")
    assert settings.server.host == "127.0.0.1"
    assert settings.demo


def test_production_lets_nobody_in_without_a_key(tmp_path):
    settings = of(".env.production", tmp_path, **SECRETS)
    assert settings.keys.required is True
    assert settings.server.allowed_hosts == ("ai.example.com",)
    assert settings.logging.level == "info"
    assert settings.budget.day is not None


def test_what_stands_commented_out_in_production_is_understood(tmp_path):
    text = re.sub(r"^#(?=[A-Z])", "", (ROOT / ".env.production").read_text(), flags=re.MULTILINE)
    (tmp_path / "key").write_text("a-key")
    (tmp_path / ".env").write_text(re.sub(r"(?<=_FILE=).*", str(tmp_path / "key"), text))
    settings = load({"HOME": "/h"} | SECRETS, cwd=tmp_path).settings
    assert settings.replicas == 2
    assert {"openai", "groq"} <= settings.providers.keys()
