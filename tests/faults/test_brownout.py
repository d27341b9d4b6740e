"""F7, F8, L3: a provider that fails in one way or another. What callers are told, and how much it is asked while it does.

The gateway runs on the test's own loop, so that the longest time for which it holds that loop can be measured.
"""

import asyncio
import gc
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from bench.chaos import ChaosUpstream
from sentinel_gateway.core.circuit import PROBE_SECONDS
from tests.faults.traffic import Phase, Traffic
from tests.gateway import DEADLINE, chat, provider, running_gateway, until

pytestmark = pytest.mark.anyio

AS_IT_COMES = dict.fromkeys(
    ("SENTINEL_ROUTING__RETRY_BUDGET", "SENTINEL_ROUTING__COOL_DOWN", "CIRCUIT_BREAKER_FAILURE_THRESHOLD")
)
"""Retries and circuits as a gateway has them without any settings."""
PATIENCE = 2.0
"""Seconds to the first byte, and of silence."""
BACK_OFF = 2.0 + 2.0
"""Two pauses of up to 1 and 2 s; where the provider limits our rate, each of a second and up to another."""
HELD_MS = 50.0
"""The longest that anything may hold the loop."""
GOOD = (200, "")
BROKEN = (502, "upstream_error")
LATE = (504, "upstream_timeout")
CUT = (200, "upstream_error")
MATRIX = {
    # A whole answer, and a stream. The error of a stream that has begun stands in its last event.
    "err=429": ((429, "rate_limit_exceeded"),) * 2,
    "err=500": (BROKEN, BROKEN),
    "err=503": (BROKEN, BROKEN),
    "err=401": ((502, "upstream_unauthorized"),) * 2,
    "err=400": ((400, "upstream_refused"),) * 2,
    "latency_ms=60000": (LATE, LATE),
    "stall_after=2": (LATE, (200, "upstream_timeout")),
    "cut_after=2": (BROKEN, CUT),
    "rst_after=2": (BROKEN, CUT),
    "bad_json": (BROKEN, BROKEN),
    "html": (BROKEN, BROKEN),
    "bad_sse": (GOOD, CUT),
}
ASKED_AGAIN = frozenset({"err=429", "err=500", "err=503", "latency_ms=60000", "bad_json", "html"})
"""By both, where anything is asked again; of the others only the whole answer is, or nothing."""


class Held:
    """The longest time in ms for which the loop could run nothing else, and the most work in it: on a busy machine the clock
    goes on while nothing of ours runs.
    """

    def __init__(self) -> None:
        self.most = 0.0
        self.work = 0.0

    async def watch(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            due, worked = clock() + 0.002, time.thread_time()
            await asyncio.sleep(0.002)
            self.most = max(self.most, 1000 * (clock() - due))
            self.work = max(self.work, 1000 * (time.thread_time() - worked))


@asynccontextmanager
async def watched():
    """What is made once is out of the collector's way."""
    gc.collect()
    gc.freeze()
    held = Held()
    watching = asyncio.create_task(held.watch())
    try:
        yield held
    finally:
        watching.cancel()
        gc.unfreeze()


async def brown_out(chaos: ChaosUpstream, folder, *, again: bool) -> Held:
    """Every fault, whole and streamed, all at once; for how long the loop was held."""
    timeouts = f", timeouts: {{first_byte: {PATIENCE}, idle: {PATIENCE}, connect: 5, total: 60}}"
    names = {fault: f"fault{number}" for number, fault in enumerate(MATRIX)}
    config = "providers:\n" + "".join(provider(names[fault], chaos.url_with(fault), more=timeouts) for fault in MATRIX)
    environ = AS_IT_COMES if again else {"SENTINEL_ROUTING__MAX_ATTEMPTS": "1"}
    chaos.reset()
    async with running_gateway(folder, config=config, environ=environ) as gateway:

        async def ask(fault: str, *, stream: bool) -> None:
            start = time.monotonic()
            answer = await gateway.ask(chat(f"{fault} {stream}?", f"{names[fault]}/mock-model", stream=stream))
            seconds = time.monotonic() - start
            status, code = MATRIX[fault][stream]
            assert answer.status == status, (fault, stream, answer.body)
            if status != 200:
                assert answer.error["code"] == code, (fault, stream)
            elif stream:
                events = answer.sse
                assert events.done != bool(code)
                assert (events.error or {}).get("code", "") == code
            late = seconds - (3 * PATIENCE + BACK_OFF if again else PATIENCE)
            assert late <= (1.0 if again else DEADLINE), (fault, stream)

        async with watched() as held:
            await asyncio.gather(*(ask(fault, stream=stream) for fault in MATRIX for stream in (False, True)))
        asked = Counter((str(call.fault), bool(call.body.get("stream"))) for call in chaos.calls)
    for fault in MATRIX:
        for stream in (False, True):
            most = 3 if again and (fault in ASKED_AGAIN or (not stream and fault.endswith("after=2"))) else 1
            assert (asked[fault, stream] > 1) == (most > 1), f"{fault}: asked {asked[fault, stream]} times"
            assert 1 <= asked[fault, stream] <= most
    return held


@pytest.mark.parametrize("again", [False, pytest.param(True, marks=pytest.mark.long)], ids=["once", "again"])
async def test_every_fault_is_told_in_time(upstream, tmp_path, again):
    """F7, but for what it says of the loop."""
    await brown_out(upstream, tmp_path, again=again)


@pytest.mark.long
async def test_no_fault_holds_the_loop(upstream, tmp_path):
    """F7: with the provider, the callers and the gateway on one loop."""
    held = []
    for number in range(3):
        (folder := tmp_path / str(number)).mkdir()
        held.append(await brown_out(upstream, folder, again=bool(number % 2)))
    told = ", ".join(f"{one.most:.0f} ms ({one.work:.0f} ms of work)" for one in held)
    print(f"24 faults at once hold the loop for {told} at most")
    assert sorted(one.most for one in held)[1] <= HELD_MS


RATE = 40.0
SECONDS = [pytest.param(1.2, id="some"), pytest.param(30.0, marks=pytest.mark.long, id="30 s")]
PAUSE = 1.0


@asynccontextmanager
async def two_providers(folder, primary: ChaosUpstream, other: ChaosUpstream | None, **environ: str):
    """A gateway whose one model is the primary's, and the other's where there is one."""
    targets = "[first/mock-model, second/mock-small]" if other else "first/mock-model"
    config = f"""
providers:
{provider("first", primary.base_url)}{provider("second", other.base_url) if other else ""}
models: {{mock-model: {targets}}}
routing: {{breaker: {{pause: {PAUSE}}}}}
"""
    async with running_gateway(folder, config=config, environ=AS_IT_COMES | environ) as gateway:
        yield gateway


async def circuit(gateway) -> str:
    """Of the first provider."""
    told = (await gateway.get("/admin/circuits", headers=gateway.admin)).json["targets"]
    return next((one["state"] for one in told if one["target"] == "first/mock-model"), "closed")


async def is_open(gateway) -> tuple[float, float]:
    """Wait for that; when it was seen (`time.monotonic()`), and how many requests were under way."""
    await becomes(gateway, "open")
    return time.monotonic(), gateway.places()


async def becomes(gateway, state: str) -> float:
    """Seconds until its circuit is in this state."""
    start = time.monotonic()
    while await circuit(gateway) != state:
        assert time.monotonic() < start + DEADLINE, f"it is never {state}"
        await asyncio.sleep(0.01)
    return time.monotonic() - start


def probes(calls, opened: tuple[float, float], end: float) -> int:
    """How many calls came since it was open: no more than one a second, but for what was on its way then."""
    begin, under_way = opened
    later = [call.started - begin for call in calls if call.started > begin]
    assert len(later) <= (end - begin) / PROBE_SECONDS + 2 + under_way, later
    return len(later)


@pytest.mark.parametrize("seconds", SECONDS)
async def test_the_second_answers_for_the_first(upstream, tmp_path, seconds):
    """F8."""
    async with ChaosUpstream() as primary, two_providers(tmp_path, primary, upstream) as gateway:
        async with Traffic(gateway.base_url, rate=RATE) as traffic:
            await asyncio.sleep(0.5)
            assert primary.count > 0
            assert upstream.count == 0
            primary.reset()
            primary.script("err=503", times=100_000)
            opened = await is_open(gateway)
            await asyncio.sleep(seconds)
            await until(lambda: upstream.count > seconds * RATE / 4)  # the second is asked
            failing, healed = primary.calls, time.monotonic()
            primary.reset()
            back = await becomes(gateway, "closed")
            await until(lambda: primary.count > 5)  # it is asked as ever
        assert traffic.between().problems == {}
        assert all(call.status == 503 for call in failing)
        print(f"{traffic.between()}; {len(failing)} calls, {probes(failing, opened, healed)} probes; back after {back:.1f} s")


@pytest.mark.parametrize("seconds", [pytest.param(1.5, id="some"), pytest.param(60.0, marks=pytest.mark.long, id="a minute")])
async def test_the_last_is_tried_once_a_second_and_no_more(upstream, tmp_path, seconds):
    """F8 and L3: nobody else can answer. It is asked little, but it is asked."""
    async with two_providers(tmp_path, upstream, None) as gateway:
        upstream.script("err=503", times=100_000)
        async with Traffic(gateway.base_url, rate=RATE, warm=False) as traffic:
            opened = await is_open(gateway)
            await asyncio.sleep(seconds)
            failing, healed = upstream.calls, time.monotonic()
            upstream.reset()
            back = await becomes(gateway, "closed")
            await asyncio.sleep(0.5)
        failed = Phase([one for one in traffic.asked if one.ended < healed])
        assert failed.problems == {"502": len(failed.asked)}
        assert all(call.status == 503 for call in failing)
        most = max(Counter(call.headers["x-request-id"] for call in failing).values())
        print(f"{failed}; {len(failing)} attempts, {probes(failing, opened, healed)} probes; back after {back:.1f} s")
        assert most <= 3
        assert traffic.between(healed + back).problems == {}


@pytest.mark.parametrize("seconds", [pytest.param(1.5, id="some"), pytest.param(60.0, marks=pytest.mark.long, id="a minute")])
async def test_without_a_circuit_it_is_asked_a_tenth_more(upstream, tmp_path, seconds):
    """L3: the retry budget alone."""
    async with two_providers(tmp_path, upstream, None, CIRCUIT_BREAKER_FAILURE_THRESHOLD="1000000") as gateway:
        upstream.script("err=503", times=100_000)
        async with Traffic(gateway.base_url, rate=RATE, warm=False) as traffic:
            await asyncio.sleep(seconds)
        attempts, requests = upstream.count, len(traffic.asked)
        assert traffic.between().problems == {"502": requests}
        asked = Counter(call.headers["x-request-id"] for call in upstream.calls)
        print(f"{attempts} attempts for {requests} requests: {attempts / requests:.3f}; {max(asked.values())} at most for one")
        assert 0.9 * requests < len(asked) <= requests, "some share a call with the same question before them"
        assert max(asked.values()) <= 3
        assert attempts <= 1.1 * requests + 10
        assert attempts > requests, "something was asked again"
        waits = [*pauses(upstream.calls)]
        if seconds >= 60:
            assert attempts <= 1.15 * requests
            for number, longest in enumerate((1.0, 2.0)):
                found = [wait / longest for again, wait in waits if again == number]
                off = kolmogorov(found)
                print(f"pause {number + 1}: {len(found)} times, {off:.3f} off a uniform one up to {longest:g} s")
                assert off < 1.63 / len(found) ** 0.5 + 0.05  # with 1 % error, and what a busy machine adds to each


def pauses(calls) -> Iterator[tuple[int, float]]:
    """Between two attempts of one request: how many there were before, and the seconds."""
    by_request = defaultdict(list)
    for call in calls:
        by_request[call.headers["x-request-id"]].append(call)
    for made in by_request.values():
        yield from enumerate(later.started - earlier.ended for earlier, later in pairwise(made))


def kolmogorov(values) -> float:
    """How far the share of values up to any x between 0 and 1 is from x, at most."""
    ordered, count = sorted(values), len(values)
    return max(max((at + 1) / count - x, x - at / count) for at, x in enumerate(ordered))
