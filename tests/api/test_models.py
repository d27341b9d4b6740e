"""The list of models is made once for what can be routed to."""

import json

import pytest

from sentinel_gateway.api.models import Models
from sentinel_gateway.core.access import ANYBODY
from sentinel_gateway.core.routing import Directory


@pytest.mark.parametrize("anthropic", [False, True])
def test_what_is_listed_is_what_can_be_routed_to_now(anthropic):
    directories = [Directory({}, ("mock",), {"mock": frozenset({"a"})}, {})]
    models = Models(lambda: directories[-1], created=0)

    def listed() -> list[str]:
        return [one["id"] for one in json.loads(models.listed(ANYBODY, anthropic=anthropic))["data"]]

    assert listed() == listed() == ["mock/a"]
    directories.append(Directory({}, ("mock", "other"), {"mock": frozenset({"b"}), "other": frozenset({"c"})}, {}))
    assert listed() == listed() == ["mock/b", "other/c"]
