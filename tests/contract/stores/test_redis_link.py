"""The link to Redis: what a call costs when all is well, and what it is spared when nothing is."""

import asyncio
import contextlib
import time

import anyio
import msgspec
import pytest

from sentinel_gateway.api.eager import run_eagerly
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.stores._redis import LOOK_SECONDS, STOOD_STILL, RedisLimits, RedisLink, open_link
from tests.contract.stores.conftest import UNHURRIED, until
from tests.faults.proxy import Fault, FaultProxy
from tests.servers import REDIS8, RedisCluster, RedisServer
from tests.still import awake, undisturbed

pytestmark = pytest.mark.anyio

RECOVERY = 15.0
FAILURES = RedisLimits().failures
WATCHFUL = RedisLimits(place=0.5, call=0.5, connect=0.5, slow=0.5)
"""Which notices an outage, but not that the machine is busy."""
BRIEF = RedisLimits(connections=50, call=0.15, connect=0.15, slow=0.1)
"""Over while an event loop stands still, and not because the machine is busy."""
LOOKS_OFTEN = msgspec.structs.replace(WATCHFUL, pause=0.1)


@pytest.fixture
async def connect(told, anyio_backend):
    """connect(server or URL) is a link, closed at the end."""
    links = []

    def connect(server, **options):
        url = getattr(server, "url", server)
        links.append(open_link(url, name="test", clock=time.monotonic, events=told, **options))
        return links[-1]

    yield connect
    for link in links:
        await link.close()


@pytest.fixture
def server(tmp_path):
    """One to be broken."""
    with RedisServer(REDIS8, tmp_path) as server:
        yield server


async def echo(link, key="a"):
    """Whatever is under a key is its name. On a busy machine even a sound Redis is late at times: then it is asked again."""

    async def once(work):
        with anyio.fail_after(RECOVERY):
            while True:
                try:
                    return await link.call(work)
                except StoreDown:
                    await asyncio.sleep(0.02)

    await once(lambda client: client.set(key, key))
    return await once(lambda client: client.get(key))


async def fails(link, reason=None) -> float:
    """A call is StoreDown, named so; how long it took. If we stood still ourselves, it is called again."""
    said = STOOD_STILL
    while said == STOOD_STILL:
        begun = time.monotonic()
        with pytest.raises(StoreDown) as failed:
            await link.call(lambda client: client.get("a"))
        said = str(failed.value)
    assert reason is None or reason in said
    return time.monotonic() - begun


async def asks_for_long(link) -> None:
    with pytest.raises(StoreDown, match="TimeoutError"):
        await link.call(lambda client: client.blpop(["nothing"], timeout=1))


async def left_alone(link, told) -> None:
    """Enough calls fail, after which none waits any more."""
    for _ in range(FAILURES):
        with contextlib.suppress(StoreDown):
            await link.call(lambda client: client.get("a"))
    assert not link.works
    await until(lambda: told.names == ["redis_down"])
    assert min([await fails(link, "left alone") for _ in range(20)]) < 0.01


@contextlib.asynccontextmanager
async def no_outage(link, told):
    """Nothing is told of it, except by attempts while the machine, and so Redis, stood still."""
    before = len(told.events)
    try:
        yield
    finally:
        await link.close()
    assert told.events[before:] == []


async def back(link, told, begun) -> None:
    """It works again by itself, in time, and says so once."""
    await until(lambda: link.works)
    assert time.monotonic() - begun < RECOVERY
    assert told.names == ["redis_down", "redis_up"]
    assert await echo(link) == b"a"


@pytest.mark.parametrize("kind", ["redis7", "redis8", "redis_cluster"])
async def test_a_call(request, connect, told, kind):
    link = connect(request.getfixturevalue(kind), limits=UNHURRIED)
    assert await asyncio.gather(*(echo(link, f"k{n}") for n in range(10))) == [f"k{n}".encode() for n in range(10)]
    assert link.works
    assert told.events == []


async def test_nothing_connects_before_it_is_used(connect, server):
    connect(server)
    with server.client() as client:
        assert len(client.client_list()) == 1


@pytest.mark.parametrize("freeze", [True, False])
async def test_a_server_that_goes_and_comes_back(connect, server, told, freeze):
    link = connect(server, limits=LOOKS_OFTEN)
    assert await echo(link) == b"a"
    server.freeze() if freeze else server.stop()
    assert await fails(link, "TimeoutError" if freeze else "ConnectionError") < 5
    await left_alone(link, told)
    assert ("TimeoutError" if freeze else "ConnectionError") in told.fields("redis_down")["reason"]
    await asyncio.sleep(0.5)
    assert told.names == ["redis_down"], "it was looked at again and again, and that is worth no line"
    begun = time.monotonic()
    server.thaw() if freeze else server.start()
    await back(link, told, begun)


async def test_nothing_is_tried_twice(connect):
    """What a library tries again by itself takes all of a call's time, and is a storm where everybody does so."""
    asked = []

    async def hang_up(reader, writer):
        asked.append(await reader.read(1000))
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as listening:
        link = connect(f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
        await fails(link)
        assert asked == [b"*1\r\n$4\r\nPING\r\n"]


async def test_who_has_waited_for_one_link_does_not_wait_for_the_next(connect, server, told):
    """A request asks Redis for several things, each over a link of its own: an outage costs it 50 ms once, and one line."""
    links: list[RedisLink] = []
    for _ in range(4):
        connect(server, limits=WATCHFUL).join(links)
    for link in links:
        assert await echo(link) == b"a"
    server.freeze()
    begun = time.monotonic()
    for link in links:
        await fails(link)
    assert time.monotonic() - begun < 2 * WATCHFUL.call
    await until(lambda: told.names == ["redis_down"])
    server.thaw()
    await until(lambda: all(link.works for link in links))
    for link in links:
        await echo(link)
    assert told.names == ["redis_down", "redis_up"]


async def test_one_late_answer_among_others_is_no_outage(connect, server, told):
    """As of a command that takes long: Redis answers everybody else meanwhile."""
    links: list[RedisLink] = []
    for _ in range(2):
        connect(server, limits=WATCHFUL).join(links)
    for link in links:
        assert await echo(link) == b"a"
    worked: list[bool] = []
    late = asyncio.create_task(asks_for_long(links[0]))
    late.add_done_callback(lambda _: worked.extend(link.works for link in links))
    await asyncio.sleep(0.01)
    while not late.done():
        assert await echo(links[1]) == b"a"
    await late
    await asyncio.sleep(0)  # what was to be told at its end is told a turn later
    assert worked == [True, True]
    assert told.events == []


async def test_whoever_comes_first_does_not_wait_for_each_link(connect, server, told):
    links: list[RedisLink] = []
    for _ in range(4):
        connect(server, limits=WATCHFUL).join(links)
    server.freeze()
    with awake() as clock:
        begun = clock()
        for link in links:
            await fails(link)
        assert clock() - begun < 3 * WATCHFUL.call
    server.thaw()


async def test_a_server_that_is_not_there_yet(connect, told, tmp_path):
    server = RedisServer(REDIS8, tmp_path)
    link = connect(server, limits=LOOKS_OFTEN)
    await left_alone(link, told)
    begun = time.monotonic()
    with server:
        await back(link, told, begun)


async def test_callers_that_come_first_wait_together(connect, server, told):
    """For a connection; none of them is turned away because another came before it."""
    link = connect(server, limits=msgspec.structs.replace(UNHURRIED, connections=20))
    assert set(await asyncio.gather(*(echo(link, f"k{n}") for n in range(20)))) == {f"k{n}".encode() for n in range(20)}


async def test_a_host_that_says_nothing_at_all(connect, server, told):
    async with FaultProxy(server.port) as proxy:
        await proxy.blackhole()
        link = connect(f"redis://127.0.0.1:{proxy.port}", limits=LOOKS_OFTEN)
        assert await fails(link) < 5
        await left_alone(link, told)
        await proxy.accept()
        await back(link, told, time.monotonic())
        assert proxy.did["unanswering"]


@undisturbed
async def test_connecting_has_time_of_its_own(connect, server):
    """With a new connection there are two round trips, more than a call has time for."""
    async with FaultProxy(server.port) as proxy:
        link = connect(f"redis://127.0.0.1:{proxy.port}/3", limits=RedisLimits(call=0.7, connect=5.0))
        assert await echo(link) == b"a"
        await proxy.reset()
        proxy.answers.fault = Fault(delay=0.4)
        begun = time.monotonic()
        assert await link.call(lambda client: client.get("a")) == b"a"
        assert time.monotonic() - begun > 0.7
        assert proxy.did["delayed"] == 2  # SELECT and GET


@undisturbed
async def test_a_server_that_is_slow_to_connect_to_is_not_slow(connect, server, told):
    """As over TLS: many callers at once make many connections."""
    async with FaultProxy(server.port) as proxy:
        limits = RedisLimits(call=5.0, connect=5.0, slow=0.15)
        link = connect(f"redis://127.0.0.1:{proxy.port}/1", limits=limits)  # connecting asks for the database
        async with no_outage(link, told):
            await link.check()
            proxy.answers.fault = Fault(delay=0.08)
            for _ in range(25):
                await proxy.reset()
                await link.call(lambda client: client.get("a"))
                assert link.works
            assert proxy.did["delayed"] >= 50


async def test_a_slow_server_is_left_alone_until_it_is_quick(connect, server, told):
    async with FaultProxy(server.port) as proxy:
        link = connect(f"redis://127.0.0.1:{proxy.port}", limits=RedisLimits(call=5.0, pause=0.1))  # late is not what it is about
        assert await echo(link) == b"a"
        proxy.answers.fault = Fault(delay=0.03)
        for _ in range(100):
            with contextlib.suppress(StoreDown):
                await link.call(lambda client: client.get("a"))
        assert not link.works
        await until(lambda: told.names == ["redis_down"])
        assert told.fields("redis_down")["reason"] == "slow, slow"
        assert 10 < proxy.did["delayed"] < 60
        await asyncio.sleep(0.5)
        assert told.names == ["redis_down"]
        proxy.heal()
        await back(link, told, time.monotonic())


@undisturbed
async def test_an_event_loop_that_stands_still_is_not_an_outage(connect, server, told):
    link = connect(server, limits=BRIEF)
    async with no_outage(link, told):
        assert await echo(link) == b"a"
        failed = 0
        for _ in range(2):
            calls = [asyncio.create_task(link.call(lambda client: client.get("a"))) for _ in range(50)]
            await asyncio.sleep(0)
            time.sleep(0.4)  # noqa: ASYNC251 - that is the test
            failed += sum(isinstance(result, StoreDown) for result in await asyncio.gather(*calls, return_exceptions=True))
            await until(lambda: link.works)
        assert failed > FAILURES


@pytest.mark.parametrize("seconds", [0.4, LOOK_SECONDS + 0.2])
@undisturbed
async def test_an_event_loop_that_stands_still_while_it_connects_is_not_an_outage(connect, server, told, seconds):
    link = connect(f"redis://localhost:{server.port}", limits=BRIEF)  # looking a name up can't have ended after two turns
    async with no_outage(link, told):
        call = asyncio.create_task(link.call(lambda client: client.get("a")))
        for _ in range(2):
            await asyncio.sleep(0)
        time.sleep(seconds)  # noqa: ASYNC251 - that is the test
        with pytest.raises(StoreDown, match="left alone"):
            await call
        assert await echo(link) == b"a"


async def test_an_answer_that_came_while_the_event_loop_stood_still_is_an_answer(connect, server, told):
    link = connect(server)
    assert await echo(link) == b"a"
    with server.client() as client:
        for _ in range(5):
            answered = gets(client)
            asking = asyncio.create_task(link.call(lambda client: client.get("a")))
            await asyncio.sleep(0.0001)
            end = time.monotonic() + RECOVERY
            while gets(client) == answered:
                assert time.monotonic() < end, "it was not asked"
            time.sleep(0.1)  # noqa: ASYNC251 - that is what it is about
            assert await asking == b"a"
    assert link.works
    assert told.events == []


def gets(client):
    """How many of them Redis has answered."""
    return client.info("commandstats")["cmdstat_get"]["calls"]


async def test_a_caller_without_a_task_of_its_own(connect, server):
    """As requests are, until they first wait."""
    link = connect(server, limits=UNHURRIED)
    task = run_eagerly(link.call(lambda client: client.echo("a")), asyncio.get_running_loop())
    assert await task == b"a"


async def test_many_callers_are_not_an_outage(connect, server, told):
    link = connect(server, limits=msgspec.structs.replace(UNHURRIED, connections=1, place=0.02))
    assert await echo(link) == b"a"
    release = asyncio.Event()
    longest = asyncio.create_task(link.call(lambda _: release.wait()))
    await asyncio.sleep(0)
    assert await fails(link, "busy") > 0.01
    assert link.works, "who found no place has found out nothing of the server"
    release.set()
    await longest
    assert await echo(link) == b"a"
    assert told.events == []


async def test_what_redis_itself_refuses_is_not_an_outage(connect, server, told):
    link = connect(server, limits=UNHURRIED)
    await link.call(lambda client: client.set("a", "no list"))
    for _ in range(2 * FAILURES):
        with pytest.raises(StoreDown, match="ResponseError"):
            await link.call(lambda client: client.lpush("a", "b"))
    assert link.works
    assert told.events == []


async def test_refusals_that_take_their_time_are_as_bad_as_answers_that_do(connect, server, told):
    """As those of a Redis that is busy with somebody's script."""
    async with FaultProxy(server.port) as proxy:
        link = connect(f"redis://127.0.0.1:{proxy.port}", limits=RedisLimits(call=0.5))
        await echo(link)
        with server.client() as client:
            client.config_set("maxmemory", 1)
        proxy.answers.fault = Fault(delay=0.03)
        refusals = set()
        while link.works:
            with pytest.raises(StoreDown) as refused:
                await link.call(lambda client: client.set("a", "a"))
            refusals.add(str(refused.value))
        assert "OutOfMemoryError" in refusals
        assert 0 < proxy.did["delayed"] < 60


async def test_a_server_that_talks_nonsense(connect, told, server):
    """No value of it is used, its connections are closed, and it is left alone."""
    async with FaultProxy(server.port) as proxy:
        link = connect(f"redis://127.0.0.1:{proxy.port}")
        assert await echo(link) == b"a"
        proxy.answers.fault = Fault(garbage=1.0)
        for _ in range(50):
            with contextlib.suppress(StoreDown):
                assert await link.call(lambda client: client.get("a")) == b"a"
        assert proxy.did["garbled"] >= 1
        await until(lambda: not link.works)
        begun = time.monotonic()
        proxy.heal()
        await until(lambda: link.works)
        assert time.monotonic() - begun < RECOVERY
        for key in "abc" * 20:
            assert await echo(link, key) == key.encode()


@pytest.mark.parametrize(
    ("refuse", "reason"),
    [("CONFIG SET requirepass secret-of-redis", "Authentication|NoPermission"), ("ACL SETUSER default off", "Authentication")],
)
async def test_a_password_that_is_wrong(connect, server, told, refuse, reason):
    """What went wrong is told, and neither the password nor what Redis said."""
    link = connect(f"redis://:wrong-canary@127.0.0.1:{server.port}")
    with server.client() as client:
        client.execute_command(*refuse.split())
    for _ in range(FAILURES):
        assert await fails(link) < 5
    await until(lambda: told.names == ["redis_down"])
    assert "Authentication" in told.fields("redis_down")["reason"]
    assert told.fields("redis_down")["at"] == f"redis://127.0.0.1:{server.port}"
    assert "canary" not in f"{told.events} {link!r}"


async def test_look_again_now(connect, server, told):
    link = connect(server, limits=msgspec.structs.replace(WATCHFUL, pause=60.0))
    await link.check()
    server.freeze()
    with pytest.raises(StoreDown, match="TimeoutError"):
        await link.check()
    assert not link.works
    server.thaw()
    begun = time.monotonic()
    await link.check()
    await until(lambda: link.works)
    assert time.monotonic() - begun < 20
    assert await echo(link) == b"a"
    assert told.names in ([], ["redis_down", "redis_up"])


async def test_waiting_for_redis(connect, server):
    """A command that waits longer than a call may has a connection of its own."""
    link = connect(server, limits=WATCHFUL)
    async with link.blocking(30.0) as client:
        waiting = asyncio.create_task(client.xread({"stream": "$"}, block=20_000))
        await asyncio.sleep(0.7)  # longer than a call may take
        while not (await asyncio.wait({waiting}, timeout=0.1))[0]:
            with contextlib.suppress(StoreDown):
                await link.call(lambda client: client.xadd("stream", {"a": "b"}))
        [(name, [(_, fields)])] = await waiting
        assert (name, fields) == (b"stream", {b"a": b"b"})
    with pytest.raises(StoreDown, match="TimeoutError"):
        async with link.blocking(0.1) as client:
            await client.xread({"stream": "$"}, block=1000)
    server.stop()
    with pytest.raises(StoreDown, match="ConnectionError"):
        async with link.blocking(0.1) as client:
            await client.ping()
    assert link.works  # it says nothing about calls


async def test_closed(connect, server):
    link = connect(server)
    assert await echo(link) == b"a"
    await link.close()
    await link.close()
    await fails(link, "closed")
    with pytest.raises(StoreDown, match="closed"):
        await link.check()
    with server.client() as client:
        await until(lambda: len(client.client_list()) == 1)


async def test_closed_while_it_is_left_alone(connect, told, tmp_path):
    before = asyncio.all_tasks()
    link = connect(RedisServer(REDIS8, tmp_path))
    await left_alone(link, told)
    assert asyncio.all_tasks() > before
    await link.close()
    assert asyncio.all_tasks() == before


async def test_a_node_of_a_cluster_goes_and_comes_back(connect, told, tmp_path):
    with RedisCluster(REDIS8, tmp_path, patience=2.0) as cluster:
        link = connect(cluster)
        keys = [f"k{n}" for n in range(30)]
        for key in keys:
            assert await echo(link, key) == key.encode()
        cluster.nodes[1].freeze()
        for key in keys:
            with contextlib.suppress(StoreDown):
                await link.call(lambda client, key=key: client.get(key))
        assert not link.works
        await until(lambda: told.names == ["redis_down"])
        begun = time.monotonic()
        cluster.nodes[1].thaw()
        await back(link, told, begun)
        for key in keys:
            assert await echo(link, key) == key.encode()
