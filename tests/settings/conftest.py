"""A folder to configure Sentinel in, and what comes of it."""

import textwrap

import pytest

from sentinel_gateway.errors import ConfigurationError
from sentinel_gateway.settings.load import load


@pytest.fixture
def configure(tmp_path):
    """configure(yaml, env={}, dotenv="", flags={}) is what `load` returns; HOME is /home/me."""

    def run(yaml="", *, env=None, dotenv="", flags=None, mode=0o600):
        for name, text in (("sentinel.yaml", yaml), (".env", dotenv)):
            path = tmp_path / name
            path.unlink(missing_ok=True)
            if text:
                path.write_text(textwrap.dedent(text))
                path.chmod(mode)
        return load({"HOME": "/home/me"} | (env or {}), cwd=tmp_path, flags=flags or {})

    return run


@pytest.fixture
def faults(configure):
    """As `configure`, for one that must fail: the (place, sentence) pairs."""

    def run(*args, **kwargs):
        with pytest.raises(ConfigurationError) as caught:
            configure(*args, **kwargs)
        return caught.value.faults

    return run
