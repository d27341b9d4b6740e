"""A log that takes nothing holds nothing of the requests whose lines wait for it but these."""

import gc

import pytest

from sentinel_gateway.pipeline.journey import Journey
from tests.gateway import chat, one_provider, running_gateway, until

pytestmark = pytest.mark.anyio


def journeys() -> dict[int, Journey]:
    gc.collect()
    return {id(held): held for held in gc.get_objects() if isinstance(held, Journey) and held.model}


async def test_requests_do_not_wait_in_memory_for_a_disk_that_is_full(upstream, tmp_path):
    path, room = tmp_path / "requests.log", tmp_path / "room"
    path.symlink_to("/dev/full")
    config = one_provider(upstream.base_url)
    others = journeys()  # of tests that ran before in this process
    async with running_gateway(tmp_path, environ={"LOG_PATH": str(path)}, config=config) as gateway:
        for number in range(20):
            assert (await gateway.ask(chat(f"{number} " * 1000))).status == 200
        await until(lambda: gateway.metric('sentinel_events_total{event="request_log_failed"}') == 1)
        assert journeys().keys() <= others.keys()
        spare = tmp_path / "spare"
        spare.symlink_to(room)
        spare.replace(path)
    assert room.read_bytes().count(b"\n") == 20
