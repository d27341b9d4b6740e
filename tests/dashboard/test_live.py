"""What moves: one frame for all who look, sent when it says something new, to nobody who may not look any more."""

import asyncio
import itertools
import json
import time

import pytest

from sentinel_gateway.api.dashboard.live import Frame, Frames, Streams
from sentinel_gateway.api.dashboard.overview import Overview
from sentinel_gateway.api.traffic import Traffic
from sentinel_gateway.core.access import operator
from tests.dashboard.visitor import visiting
from tests.gateway import chat, one_provider, running_gateway, until

pytestmark = pytest.mark.anyio


class Events:
    """A stream of events as a browser reads it."""

    def __init__(self, answer) -> None:
        self.frames = []
        self.lines = []
        self.ended = False
        self._answer = answer

    async def read(self) -> None:
        async for raw in self._answer.content:
            line = raw.decode().rstrip("\n")
            self.lines.append(line)
            if line.startswith("data: {") and line != "data: {}":
                self.frames.append(json.loads(line.removeprefix("data: ")))
        self.ended = True


@pytest.fixture
async def gateway(chaos, tmp_path):
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url)) as gateway:
        yield gateway


async def test_a_request_is_seen_as_it_comes(gateway):
    async with visiting(gateway) as visitor, visitor.session.get("/dashboard/events?page=overview") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert "content-encoding" not in answer.headers
        events = Events(answer)
        reading = asyncio.create_task(events.read())
        await until(lambda: events.frames)
        assert events.frames[0]["shown"] == events.frames[0]["shown"] | {"empty": True, "traffic": False}
        for _ in range(3):
            assert (await gateway.ask(chat("Is it seen?"))).status == 200
        await until(lambda: events.frames[-1]["text"]["total"] == "3")
        assert events.frames[-1]["text"]["hit_rate"] == "66.7%"
        assert events.frames[-1]["shown"]["empty"] is False
        await until(lambda: len(events.frames[-1]["rows"]["feed"]) == 3)
        newest = events.frames[-1]["rows"]["feed"][0]
        assert [cell[1] for cell in newest[1:4]] == ["exact", "mock-model", "200"]
        assert "Is it seen?" not in json.dumps(events.frames)
        reading.cancel()


async def test_nothing_is_sent_while_nothing_is_new(gateway):
    async with visiting(gateway) as visitor, visitor.session.get("/dashboard/events?page=overview") as answer:
        events = Events(answer)
        reading = asyncio.create_task(events.read())
        await until(lambda: events.frames and events.frames[-1]["text"]["rate"] == "0")
        await asyncio.sleep(2.5)
        assert all(earlier != later for earlier, later in itertools.pairwise(events.frames))
        reading.cancel()


async def test_a_gateway_that_ends_ends_its_streams(chaos, tmp_path):
    async with (
        running_gateway(tmp_path, config=one_provider(chaos.base_url), alone=False) as gateway,
        visiting(gateway) as visitor,
        visitor.session.get("/dashboard/events?page=overview") as answer,
    ):
        events = Events(answer)
        reading = asyncio.create_task(events.read())
        await until(lambda: events.frames)
        gateway.process.drain()
        await until(lambda: events.ended)
        await reading


async def test_a_tenant_sees_its_own_requests_alone(closed):
    own, foreign = [await closed.key(tenant=tenant, scopes=["read", "inference"]) for tenant in ("one", "two")]
    for key in (own, foreign):
        await closed.ask(chat(f"by {key[-4:]}"), authorization=f"Bearer {key}")

    async def feed(key):
        frame = await closed.get("/dashboard/frame?page=overview", headers={"authorization": f"Bearer {key}"})
        return frame.json["rows"]["feed"]

    async def seen(key, count):
        for _ in range(600):
            if len(await feed(key)) >= count:
                return len(await feed(key))
            await asyncio.sleep(0.1)
        return len(await feed(key))

    assert await seen(own, 1) == 1
    assert await seen(foreign, 1) == 1


async def test_what_does_not_move_has_no_stream(closed):
    for page in ("providers", "nothing"):
        for path in ("events", "frame"):
            assert (await closed.get(f"/dashboard/{path}?page={page}", headers=closed.admin)).status == 404


async def test_a_frame_is_made_once_for_all_who_ask_at_once():
    now, made = 0.0, []

    async def make():
        made.append(now)
        await asyncio.sleep(0.01)
        return {"at": len(made) // 3}

    frames = Frames(lambda: now)
    first = await asyncio.gather(*(frames.of(("page", None), make) for _ in range(50)))
    assert len(made) == 1
    assert all(one is first[0] for one in first)
    now = 1.0
    second = await frames.of(("page", None), make)
    assert len(made) == 2
    assert second.body is first[0].body, "it says the same: whoever has it need not be sent it"
    now = 2.0
    assert (await frames.of(("page", None), make)).body is not first[0].body
    now = 500.0
    await frames.of(("other", None), make)
    assert frames.last(("page", None)) is None, "what nobody looks at is forgotten"


async def test_what_takes_long_is_made_to_its_end_and_told_then():
    place, made, go = ("feed", None), [], asyncio.Event()

    async def make():
        made.append(1)
        await go.wait()
        return "rows"

    frames = Frames(lambda: 0.0)
    for _ in range(3):
        assert await frames.soon(place, make, 0.5, within=0.01) is None
    assert len(made) == 1, "it is made once, however many ask meanwhile"
    go.set()
    assert await frames.soon(place, make, 0.5, within=10.0) == "rows"


async def test_a_feed_whose_reading_takes_long_is_read_once_and_comes():
    asked, go = [], asyncio.Event()

    class Slow:
        async def requests(self, question):
            asked.append(question)
            await go.wait()
            return []

    traffic = Traffic(Slow(), list, guard=None, clock=lambda: 0.0)
    overview = Overview(None, traffic, [], identity=None, clock=lambda: 0.0)
    for _ in range(2):
        assert await overview._feed(operator("admin-key")) == []  # noqa: SLF001 - the rest of a frame is not about this
    go.set()
    assert await overview._feed(operator("admin-key")) == []  # noqa: SLF001 - as above
    assert len(asked) == 1


async def test_what_fails_while_nobody_waits_is_tried_again_by_the_next():
    place, go = ("feed", None), asyncio.Event()

    async def fails():
        await go.wait()
        raise ValueError("away")

    async def works():
        return "rows"

    frames = Frames(lambda: 0.0)
    assert await frames.soon(place, fails, 0.5, within=0.01) is None
    go.set()
    with pytest.raises(ValueError, match="away"):
        await frames.soon(place, fails, 0.5, within=10.0)
    await asyncio.sleep(0)
    assert await frames.soon(place, works, 0.5, within=10.0) == "rows"


async def test_what_fails_is_tried_again_by_the_next():
    frames = Frames(lambda: 0.0)

    async def fails():
        raise ValueError("away")

    async def works():
        return 1

    with pytest.raises(ValueError, match="away"):
        await frames.of(("page", None), fails)
    assert (await frames.of(("page", None), works)).value == 1


async def test_the_more_look_the_less_often_each_is_sent_a_frame():
    """So that looking costs the path no more than it may, however many look."""

    class Open:
        def still(self, _visit):
            return True

    async def frame():
        return Frame({}, b"%f" % time.monotonic(), 0.0)

    sent = [0] * 40
    streams = Streams(Open(), time.monotonic, lambda: False, every=0.01, most=100.0)

    async def look(number):
        async for piece in streams.stream(None, frame):
            sent[number] += piece.startswith(b"data: ")

    began = time.monotonic()
    looking = [asyncio.create_task(look(number)) for number in range(len(sent))]
    await asyncio.sleep(1.0)
    seconds = time.monotonic() - began
    for task in looking:
        task.cancel()
    await asyncio.gather(*looking, return_exceptions=True)
    assert 40 <= sum(sent) <= 40 + 160 * seconds, "each at once, then a hundred a second: not some thousands"
    assert min(sent) >= 1
