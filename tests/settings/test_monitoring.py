"""`monitoring`: what stands before its keys in Redis."""

import pytest

from sentinel_gateway.errors import ConfigurationError
from sentinel_gateway.settings.load import load


def test_the_prefix_is_a_variable(tmp_path):
    settings = load({"HOME": "/h", "SENTINEL_METRICS_PREFIX": "team-a:"}, cwd=tmp_path).settings
    assert settings.monitoring.prefix == "team-a:"
    assert load({"HOME": "/h"}, cwd=tmp_path).settings.monitoring.prefix == ""


@pytest.mark.parametrize("prefix", ["{slot}:", "a*", "a b", "x" * 65])
def test_a_prefix_that_is_none(tmp_path, prefix):
    with pytest.raises(ConfigurationError) as caught:
        load({"HOME": "/h", "SENTINEL_METRICS_PREFIX": prefix}, cwd=tmp_path)
    ((place, sentence),) = caught.value.faults
    assert place == "env SENTINEL_METRICS_PREFIX"
    assert "such as 'team-a:'" in sentence
