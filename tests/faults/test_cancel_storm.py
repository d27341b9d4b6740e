"""I1: whoever leaves while Redis is being asked must not leave the answer to whoever asks next."""

import ast
import asyncio
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from sentinel_gateway.stores._redis import RedisLimits, open_link
from sentinel_gateway.stores._redis_client import make_client
from tests.contract.stores.conftest import Told
from tests.faults.proxy import Fault
from tests.faults.storm import CANCELLED, KEYS, key, storm, value

pytestmark = pytest.mark.anyio

CALLS = [pytest.param(3_000, id="some"), pytest.param(200_000, id="200,000", marks=pytest.mark.long)]
FEWER_CALLS = [CALLS[0], pytest.param(20_000, id="20,000", marks=pytest.mark.long)]
OLD_LIBRARY = Path(__file__).parents[2] / ".sdks" / "redis-4.5.1" / "bin" / "python"
"""What `make test-long` makes: the redis-py with which users were told what others had asked."""


@pytest.fixture(autouse=True)
def filled(redis):
    with redis.client() as client:
        client.mset({key(number): value(key(number)) for number in range(KEYS)})


def judge(came: Counter[str], proxy, calls: int) -> None:
    print(f"{calls} look-ups: {dict(came)}; {dict(proxy.did)}")
    assert came["wrong"] == came["missing"] == 0
    assert came["right"] > calls / 2
    assert came["cancelled"] > calls * CANCELLED / 2
    assert proxy.did["delayed"] > calls / 2
    assert proxy.did["connected"] > came["cancelled"] / 4, "a call that is cancelled while it waits loses its connection"


@pytest.mark.parametrize("calls", CALLS)
async def test_the_client_as_we_set_it_up(proxy, calls):
    proxy.answers.fault = Fault(jitter=0.1)
    client = make_client(f"redis://127.0.0.1:{proxy.port}", connect=10.0, patience=10.0)

    async def look_up(name: str) -> str | None:
        found = await client.get(name)
        return found and found.decode()

    try:
        judge(await storm(look_up, calls=calls, longest=0.06), proxy, calls)
    finally:
        await client.aclose()


@pytest.mark.parametrize("calls", FEWER_CALLS)
async def test_the_link(proxy, calls):
    """With all the time it wants: on a machine that is busy it would otherwise find the storm slow, and leave Redis alone."""
    told, limits = Told(), RedisLimits(place=5.0, call=5.0, connect=5.0, slow=5.0)
    link = open_link(f"redis://127.0.0.1:{proxy.port}", name="test", clock=time.monotonic, events=told, limits=limits)

    async def look_up(name: str) -> str | None:
        found = await link.call(lambda client: client.get(name))
        return found and found.decode()

    try:
        await link.check()
        proxy.answers.fault = Fault(jitter=0.03)
        judge(await storm(look_up, calls=calls, longest=0.02, at_once=limits.connections), proxy, calls)
    finally:
        await link.close()
    assert told.events == []


@pytest.mark.long
async def test_the_storm_shows_the_fault_where_it_is(redis, absent):
    """The negative control: the same storm on redis-py 4.5.1, whose connections outlived the calls that were cancelled."""
    if not OLD_LIBRARY.exists():
        absent("an environment with redis-py 4.5.1 (make test-long makes it)")
    command = [OLD_LIBRARY, "-I", Path(__file__).with_name("storm.py"), str(redis.port), "20000"]
    ran = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=300, check=True)
    came = ast.literal_eval(ran.stdout)
    print(f"redis-py 4.5.1: {came}")
    assert came["wrong"] > 1_000
