"""What a process keeps, before it serves."""

from contextlib import AsyncExitStack
from types import SimpleNamespace

import pytest
from msgspec.structs import fields

from sentinel_gateway.storage import Stores, follow_others
from sentinel_gateway.stores.memory_limits import MemoryLimits
from tests.fakes import FakeBulletin, FakeClock

pytestmark = pytest.mark.anyio


async def test_other_nodes_are_heard_and_limits_are_reached_before_the_first_request():
    asked = []

    class News(FakeBulletin):
        async def follow(self, *_):
            asked.append("bulletin")

        async def close(self):
            asked.append("closed")

    class Limits(MemoryLimits):
        async def open(self):
            asked.append("limits")

    own = {
        "tiers": SimpleNamespace(learn_pins=lambda: asked.append("pins")),
        "state": SimpleNamespace(ring=None),
        "bulletin": News(),
        "limits": Limits(clock=FakeClock()),
    }
    others = {field.name: None for field in fields(Stores) if field.name not in own}
    async with AsyncExitStack() as closing:
        await follow_others(Stores(**own, **others), closing)
        assert asked == ["pins", "bulletin", "limits"]
    assert asked[-1] == "closed"
