"""Where there is no room, a request that came whole is refused before it is read.

It is answered as the whole path would, only sooner; but there strangers are told that they have no key, and here nobody asks.
"""

import asyncio
import re
import time

import pytest

from sentinel_gateway.api.refusals import HEAD_BYTES, HEADS, TOLD_EVERY
from sentinel_gateway.pipeline.admit import Capacity
from tests.gateway import chat, one_provider, post, running_gateway, until

pytestmark = pytest.mark.anyio

OWN = re.compile(r"[0-9a-f]{32}|(?<=retry-after: )\d+|(?<=retry-after-ms: )\d+")
NO_ROOM = Capacity(0, 0, 0.1)
PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/messages", "/v1/query", "/v1/predict")
ODD = {
    "a path without /v1": (b"/v1/chat/completions", b"/chat/completions"),
    "another path": (b"/v1/chat/completions", b"/v1/models"),
    "a question mark": (b"/v1/chat/completions", b"/v1/chat/completions?a=b"),
    "another method": (b"POST", b"PUT"),
    "HTTP/1.0": (b"HTTP/1.1", b"HTTP/1.0"),
    "the last of its connection": (b"Host:", b"Connection: close\r\nHost:"),
    "chunks": (b"Host:", b"Transfer-Encoding: chunked\r\nHost:"),
    "who waits to be told to go on": (b"Host:", b"Expect: 100-continue\r\nHost:"),
    "a page of somebody": (b"Host:", b"Origin: https://example.com\r\nHost:"),
    "an id that is not sane": (b"Host:", b"X-Request-Id: my own\r\nHost:"),
    "an empty id": (b"Host:", b"X-Request-Id:\r\nHost:"),
    "an id that is too long": (b"Host:", b"X-Request-Id: %b\r\nHost:" % (b"a" * 129)),
    "two ids": (b"Host:", b"X-Request-Id: mine\r\nx-request-id: yours\r\nHost:"),
    "two ids, one of them sane": (b"Host:", b"X-Request-Id: mine\r\nX-Request-Id: my own\r\nHost:"),
    "a header that goes on": (b"Host:", b"X-Some: a\r\n b\r\nHost:"),
    "a line break of its own": (b"Host:", b"X-Some: a\nHost:"),
    "no host": (b"Host: localhost\r\n", b""),
    "two hosts": (b"Host:", b"Host: other\r\nHost:"),
    "two lengths": (b"Host:", b"Content-Length: 5\r\nHost:"),
    "a length with a blank": (b"Content-Length: ", b"Content-Length:\t"),
    "more than one request": (b"}]}", b"}]}GET / HTTP/1.1\r\n\r\n"),
}


@pytest.fixture(scope="module")
async def gateway(chaos, tmp_path_factory):
    async with running_gateway(tmp_path_factory.mktemp("full"), config=one_provider(chaos.base_url)) as gateway:
        yield gateway


@pytest.fixture
def full(gateway):
    """No room for anybody."""
    admission = gateway.process.admission
    before = admission._capacity  # noqa: SLF001 - as a reload would change it
    admission.resize(NO_ROOM)
    yield
    admission.resize(before)


def at_once(gateway, request: bytes) -> tuple[int, bytes] | None:
    return gateway.process.answer_again(request, "127.0.0.1")


def shown(answer) -> tuple:
    lines = sorted(f"{name}: {value}" for name, value in answer.headers.items() if name != "date")
    return answer.status, OWN.sub("OWN", "\n".join(lines)), OWN.sub("OWN", answer.body.decode())


async def both(gateway, request: bytes):
    """Its answer where it came whole, and the one before its body is there, on the whole path."""
    assert at_once(gateway, request) is not None
    wire = await gateway.connect()
    wire.send(request)
    sooner = await wire.answer()
    wire.send(request[:-5])
    whole = await wire.answer()
    await wire.close()
    return sooner, whole


@pytest.mark.parametrize("path", PATHS)
async def test_it_is_refused_as_on_the_whole_path(gateway, full, text, path):
    """Where the key is good, or none is needed."""
    sooner, whole = await both(gateway, post(chat(text), path))
    assert shown(sooner) == shown(whole)
    assert sooner.status in {503, 529}


@pytest.mark.parametrize(
    "own_id", ["a", "0" * 32, "1" * 32, "req_" + "1" * 32, "Root=1-67891233-abc:d/e+f@g_h.i", "a" * 36, "z" * 128]
)
@pytest.mark.parametrize("path", PATHS)
async def test_a_caller_has_its_own_id_back(gateway, full, text, path, own_id):
    """Proxies give each request one."""
    sooner, whole = await both(gateway, post(chat(text), path, headers=f"X-Request-ID: {own_id}\r\n"))
    assert sooner.headers["x-request-id"] == own_id
    assert shown(sooner) == shown(whole)
    assert len(sooner.headers["x-sentinel-id"]) == 32
    assert sooner.headers["x-sentinel-id"] != own_id


async def test_a_stranger_is_refused_before_anybody_asks_for_a_key(gateway, chaos, text):
    """503 says that the gateway is busy, and nothing else; with room, or where it is not sure what was sent, it is 401."""
    try:
        assert (await gateway.reload(f"{one_provider(chaos.base_url)}keys: {{required: true}}\n")).status == 200
        before = gateway.process.admission._capacity  # noqa: SLF001 - as a reload would change it
        assert (await gateway.ask(chat(text))).status == 401
        gateway.process.admission.resize(NO_ROOM)
        sooner, whole = await both(gateway, post(chat(text)))
        gateway.process.admission.resize(before)
        assert (sooner.status, whole.status) == (503, 401)
        assert sooner.error["code"] == "server_is_overloaded"
        assert whole.error["code"] == "invalid_api_key"
    finally:
        await gateway.reload(one_provider(chaos.base_url))


@pytest.mark.parametrize("odd", ODD)
async def test_what_is_not_plain_goes_the_whole_way(gateway, full, text, odd):
    plain = post(chat(text))
    assert at_once(gateway, plain) is not None
    request = plain.replace(*ODD[odd])
    assert request != plain
    assert at_once(gateway, request) is None


async def test_a_part_of_a_request_is_none(gateway, full, text):
    request = post(chat(text))
    for end in range(len(request)):
        assert at_once(gateway, request[:end]) is None


async def test_waits_are_drawn_anew_and_connections_stay(gateway, full, text):
    wire, waits = await gateway.connect(), set()
    for _ in range(50):
        wire.send(post(chat(text)))
        answer = await wire.answer()
        waits.add(int(answer.headers["retry-after-ms"]))
        assert int(answer.headers["retry-after"]) == -(-int(answer.headers["retry-after-ms"]) // 1000)
    assert len(waits) > 10
    assert 1000 <= min(waits) < 1500
    assert 2500 < max(waits) <= 3000
    await wire.close()


class Told:
    """Takes the place of the events of the refusals in force."""

    def __init__(self, gateway) -> None:
        self.refusals = gateway.process._wiring.refusals  # noqa: SLF001 - there is no other way to them
        self.refusals.close()
        self.counts: list[int] = []
        self.refusals._events = self  # noqa: SLF001

    def note(self, event: str, *, count: int, reason: str) -> None:
        assert (event, reason[:13]) == ("requests_refused", "More requests")
        self.counts.append(count)


async def test_they_are_counted_and_told_of_once_a_second(gateway, full, text):
    counted = 'requests_total{method="POST",route="/v1/chat/completions",status="503"}'
    told, before, loop = Told(gateway), gateway.metric(counted), asyncio.get_running_loop()
    start = loop.time()
    for _ in range(31):
        assert at_once(gateway, post(chat(text))) is not None
    assert gateway.metric(counted) == before + 31
    assert told.counts == []
    await until(lambda: told.counts)
    assert loop.time() >= start + TOLD_EVERY
    assert told.counts == [31], "all of them, though no other came"
    at_once(gateway, post(chat(text)))
    await until(lambda: len(told.counts) == 2)
    assert told.counts == [31, 1]


async def test_a_reload_leaves_none_untold(gateway, full, chaos, text):
    told = Told(gateway)
    for _ in range(3):
        at_once(gateway, post(chat(text)))
    await gateway.reload(one_provider(chaos.base_url))
    assert told.counts == [3]
    assert told.refusals is not gateway.process._wiring.refusals  # noqa: SLF001


async def test_few_heads_are_remembered_and_for_a_second_only(gateway, full, text):
    told = Told(gateway)
    heads = told.refusals._heads  # noqa: SLF001 - what is kept there shows nowhere
    for headers in ("X-Request-Id: mine\r\n", f"X-Long: {'a' * HEAD_BYTES}\r\n"):
        assert at_once(gateway, post(chat(text), headers=headers)) is not None
        assert not heads
    for number in range(HEADS + 10):
        assert at_once(gateway, post(chat(text), headers=f"Authorization: Bearer {number}\r\n")) is not None
    assert 0 < len(heads) <= HEADS
    await until(lambda: told.counts and told.refusals._telling is None)  # noqa: SLF001
    assert not heads


async def test_with_room_nobody_is_refused(gateway, text):
    assert at_once(gateway, post(chat(text))) is None
    assert (await gateway.ask(chat(text))).status == 200


async def test_under_strain_as_well(gateway, text):
    strain = gateway.process.strain
    assert strain._work is time.thread_time, "not the wall's, in which the machine may let others run"  # noqa: SLF001
    strain.is_strained, strain._took, strain._refused_at = True, 1.0, 0.0  # noqa: SLF001 - as if turns had taken long
    refused = await gateway.ask(chat(text))
    at, strain._refused_at = strain._refused_at, 0.0  # noqa: SLF001
    probed = await gateway.get("/livez")
    untouched = strain._refused_at  # noqa: SLF001
    wire = await gateway.connect()
    wire.send(post(chat(text))[:-5])
    whole = await wire.answer()
    at_last = strain._refused_at  # noqa: SLF001
    strain.is_strained = False
    await wire.close()
    assert (refused.status, probed.status, whole.status) == (503, 200, 503)
    assert at > 0.0
    assert at_last > 0.0
    assert untouched == 0.0, "who was answered does not prolong it"
    assert (await gateway.ask(chat(text))).status == 200


async def test_the_end_leaves_none_untold(chaos, tmp_path, text):
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url), alone=False) as gateway:
        gateway.process.admission.resize(NO_ROOM)
        told = Told(gateway)
        at_once(gateway, post(chat(text)))
        at_once(gateway, post(chat(text)))
        process = gateway.process
    assert told.counts == [2]
    assert process._wiring.refusals._telling is None  # noqa: SLF001 - no timer is left
