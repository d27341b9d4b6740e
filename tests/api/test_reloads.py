"""A configuration that is no longer in force holds no memory."""

import gc

import pytest

from sentinel_gateway.app import Wiring
from tests.gateway import one_provider, running_gateway

pytestmark = pytest.mark.anyio


def wirings() -> dict[int, Wiring]:
    gc.collect()
    return {id(held): held for held in gc.get_objects() if isinstance(held, Wiring)}


async def test_a_wiring_ends_with_its_configuration(chaos, tmp_path):
    others = wirings()  # of tests that ran before in this process
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url)) as gateway:
        for _ in range(5):
            assert (await gateway.request("POST", "/admin/reload", headers=gateway.admin)).status == 200
        kept = len(wirings().keys() - others.keys())
    assert kept <= 2, "the one in force, and one that a kept connection has asked last"
