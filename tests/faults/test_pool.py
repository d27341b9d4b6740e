"""F11: calls of providers that are cancelled wherever they just are, twice over, while others wait for their places.

In public a pool of connections lost a place with each such cancel, until nobody could ask a provider that was well
(encode/httpcore#1093). Here places are `Admission`'s and connections `HttpClient`'s, which keeps none that was broken off.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable

import httpcore
import msgspec
import pytest

from bench.chaos import ChaosUpstream
from sentinel_gateway.errors import RequestError
from sentinel_gateway.pipeline.admit import Admission, Capacity
from sentinel_gateway.providers._deadlines import Timeouts
from sentinel_gateway.providers._http import Endpoint, HttpClient
from tests.gateway import until

pytestmark = pytest.mark.anyio

PLACES = 10
AT_ONCE = 60
CANCELS = [pytest.param(2_000, id="some"), pytest.param(50_000, id="50,000", marks=pytest.mark.long)]
AFTERWARDS = 1_000
MOST = 40_000
"""Cancels within which the library that loses places must have lost one."""
BODY = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "Which spade?"}]})

Ask = Callable[[], Awaitable[object]]


async def torture(ask: Ask, *, cancels: int) -> Counter[str]:
    """Ask until so many calls were cancelled, a third of them twice; what came of all."""
    chance, came = random.Random(cancels), Counter[str]()

    async def one() -> None:
        while came["cancelled"] < cancels:
            asking = asyncio.ensure_future(ask())
            for _ in range(chance.randrange(12)):
                await asyncio.sleep(0)
            if chance.random() < 0.5:
                await asyncio.sleep(chance.random() * 0.004)
            if chance.random() < 0.8:
                asking.cancel()
                if chance.random() < 0.33:
                    await asyncio.sleep(0)
                    asking.cancel()
            came[await end_of(asking)] += 1

    await asyncio.gather(*(one() for _ in range(AT_ONCE)))
    return came


def url_of(upstream: ChaosUpstream) -> str:
    """Where answers take a moment, so that there is something to cancel."""
    return f"{upstream.url_with('latency_ms=1')}/chat/completions"


async def end_of(asking: "asyncio.Future[object]") -> str:
    await asyncio.wait([asking])
    if asking.cancelled():
        return "cancelled"
    error = asking.exception()
    return "answered" if error is None else type(error).__name__


async def afterwards(ask: Ask) -> Counter[str]:
    """What comes of so many more, if nobody cancels them."""
    numbers, came = iter(range(AFTERWARDS)), Counter[str]()

    async def some() -> None:
        for _ in numbers:
            came[await end_of(asyncio.ensure_future(ask()))] += 1

    await asyncio.gather(*(some() for _ in range(PLACES)))
    return came


@pytest.mark.parametrize("cancels", CANCELS)
async def test_every_place_and_every_connection_is_there_again(upstream, cancels):
    admission = Admission(Capacity(PLACES, AT_ONCE, 30.0), lambda: 0.5)
    async with HttpClient(via="sentinel-n1", version="9.9") as http:
        endpoint = Endpoint("mock", url_of(upstream), {}, Timeouts())

        async def ask() -> object:
            async with admission:
                return await (await http.send(endpoint, BODY)).read_whole()

        came = await torture(ask, cancels=cancels)
        assert admission.running == 0
        assert await afterwards(ask) == {"answered": AFTERWARDS}
        await until(lambda: upstream.open_connections <= PLACES)
        print(f"{dict(came)}; then {AFTERWARDS} answered over {upstream.open_connections} connections")
    assert came.keys() <= {"cancelled", "answered", *(kind.__name__ for kind in RequestError.__subclasses__())}
    assert came["answered"] > 50, "places changed hands"
    assert came.total() == came["cancelled"] + came["answered"], came


@pytest.mark.long
async def test_the_torture_shows_the_fault_where_it_is(upstream):
    """The negative control: the same on httpcore 1.0.9, which loses places."""
    url, headers = url_of(upstream), {"content-type": "application/json"}
    async with httpcore.AsyncConnectionPool(max_connections=PLACES) as pool:

        async def ask() -> object:
            waiting = {"timeout": {"pool": 5.0, "connect": 5.0, "read": 5.0, "write": 5.0}}
            return await pool.request("POST", url, headers=headers, content=BODY, extensions=waiting)

        came, lost = Counter[str](), 0
        while not lost and came["cancelled"] < MOST:
            came += await torture(ask, cancels=5_000)
            lost = sum(not connection.is_idle() for connection in pool.connections)
        print(f"httpcore {httpcore.__version__}: {dict(came)}; {lost} of {PLACES} places are lost: {pool!r}")
        assert lost, "nobody asks any more, and nothing is held"
