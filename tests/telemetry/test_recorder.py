"""Calls of providers are recorded beside everything else: in what words, how many at once, and what is lost."""

import asyncio

import pytest

from sentinel_gateway.core.circuit import CircuitRules
from sentinel_gateway.core.record import Attempt, Record
from sentinel_gateway.core.standing import StandingRules, Standings
from sentinel_gateway.errors import UpstreamBroken
from sentinel_gateway.telemetry.recent.memory import MemoryMetrics
from sentinel_gateway.telemetry.recent.mirror import CircuitMirror
from sentinel_gateway.telemetry.recent.recorder import BATCH, MOST_MODELS, QUEUE, Recorder
from tests.fakes import START, FakeClock

pytestmark = pytest.mark.anyio


class Heard:
    """`Events` that remembers."""

    def __init__(self):
        self.attempts, self.finished_, self.notes = [], [], []

    def finished(self, record):
        self.finished_.append(record)

    def attempted(self, attempt):
        self.attempts.append(attempt)

    def note(self, event, **fields):
        self.notes.append((event, fields))


class Slow:
    """Takes batches when it is let, or refuses them."""

    def __init__(self):
        self.batches, self.refuses, self.go = [], False, asyncio.Event()

    async def record_requests(self, requests):
        await self.go.wait()
        if not self.refuses:
            self.batches.append(list(requests))
        return not self.refuses

    @property
    def calls(self):
        return [call for batch in self.batches for call in batch]


def attempt(number=1, target="mock/meta/llama", ending="answered", **fields):
    return Attempt("0af7651916cd43dd8448eb211c80319c", target, number, START, stream=False, ending=ending, **fields)


async def recorded(*attempts):
    recent = Slow()
    recent.go.set()
    recorder = Recorder(Heard(), recent)
    for one in attempts:
        recorder.attempted(one)
    await recorder.close()
    return recent.calls


async def test_a_call_in_the_words_of_seed_004():
    fields = {"seconds": 2.5, "first_token_seconds": 0.5, "prompt_tokens": 9, "completion_tokens": 40, "cost": 17_500}
    (call,) = await recorded(attempt(**fields))
    assert (call.provider, call.model, call.latency_ms, call.success) == ("mock", "meta/llama", 2500.0, True)
    assert (call.cost, call.tokens_input, call.tokens_output, call.timestamp) == (17_500, 9, 40, START + 2.5)
    assert (call.first_token_ms, call.tokens_per_second, call.id) == (500.0, 20.0, "eb211c80319c.1")


@pytest.mark.parametrize(
    ("ending", "success"),
    [
        *((ending, False) for ending in ("unauthorized", "limited", "timeout", "unreachable", "broken")),
        *((ending, None) for ending in ("refused", "left", "lost")),
    ],
)
async def test_what_counts_against_a_provider(ending, success):
    (call,) = await recorded(attempt(ending=ending, error="upstream_error", message="mock failed (500)."))
    assert (call.success, call.error_message) == (success, "mock failed (500).")


async def test_all_that_is_heard_is_passed_on():
    heard, record = Heard(), Record(at=START, request_id="r", sentinel_id="s", route="/", method="GET")
    recorder = Recorder(heard, MemoryMetrics(FakeClock()))
    one = attempt()
    recorder.attempted(one)
    recorder.finished(record)
    recorder.note("draining", reason="x")
    await recorder.close()
    assert (heard.attempts, heard.finished_, heard.notes) == ([one], [record], [("draining", {"reason": "x"})])


async def test_many_are_written_at_once_and_in_their_order():
    recent = Slow()
    recorder = Recorder(Heard(), recent)
    for number in range(BATCH + 44):
        recorder.attempted(attempt(number))
    recent.go.set()
    await recorder.close()
    assert [len(batch) for batch in recent.batches] == [BATCH, 44]
    assert [call.id.partition(".")[2] for call in recent.calls] == [str(number) for number in range(BATCH + 44)]


async def test_what_finds_no_room_is_lost_and_that_is_told_once():
    heard, recent = Heard(), Slow()
    recorder = Recorder(heard, recent)
    for number in range(QUEUE + 500):
        recorder.attempted(attempt(number))
    assert heard.notes == [("monitoring_dropped", {"reason": "the queue is full"})]
    recent.go.set()
    await recorder.close()
    assert len(recent.calls) == QUEUE
    assert recorder.dropped == 500
    assert heard.notes[1:] == [("monitoring_resumed", {"lost": 500.0})]
    assert len(heard.attempts) == QUEUE + 500


async def test_what_is_refused_is_lost_and_that_is_told_once():
    heard, recent = Heard(), Slow()
    recent.refuses = True
    recent.go.set()
    recorder = Recorder(heard, recent)
    for number in range(2 * BATCH):
        recorder.attempted(attempt(number))
    await recorder.close()
    assert [event for event, _ in heard.notes] == ["monitoring_dropped"]
    recent.refuses = False
    recorder.attempted(attempt())
    await recorder.close()
    assert heard.notes[1:] == [("monitoring_resumed", {"lost": 2.0 * BATCH})]


async def test_nothing_is_left_when_there_is_nothing_to_do():
    recorder = Recorder(Heard(), MemoryMetrics(FakeClock()))
    recorder.attempted(attempt())
    before = asyncio.all_tasks()
    await recorder.close()
    assert len(asyncio.all_tasks()) == len(before) - 1


async def test_made_up_names_are_bounded():
    made_up = [attempt(number, f"mock/{number}") for number in range(MOST_MODELS + 10)]
    calls = await recorded(*made_up, attempt(0, "mock/1"), attempt(0, "mock/beyond", "broken", error="io_error"))
    assert len({call.model for call in calls[:-1]}) == MOST_MODELS + 1
    assert [call.model for call in calls[-3:]] == ["other", "1", "beyond"]


# --- circuits ---


class Told(MemoryMetrics):
    def __init__(self, clock):
        super().__init__(clock)
        self.told = []

    async def update_circuit_breaker(self, provider, model, state, failure_count):
        self.told.append((provider, model, state, failure_count))


async def test_a_circuit_is_told_when_it_turns_and_each_minute_until_it_is_closed():
    clock = FakeClock()
    standings = Standings(StandingRules(CircuitRules(failures=2, successes=1, pause=100.0)))
    standings.of("mock/fine")
    recent = Told(clock)
    mirror = CircuitMirror(standings, recent, clock)
    standing = standings.of("mock/meta/llama")
    await mirror.look()
    assert recent.told == []
    for _ in range(2):
        standing.failed(standing.circuit.generation, UpstreamBroken("x"), clock.now)
    expected = [("mock", "meta/llama", "open", 2)]
    for _ in range(59):
        await mirror.look()
        clock.now += 1.0
        assert recent.told == expected
    clock.now += 1.0
    await mirror.look()
    assert recent.told == expected * 2
    clock.now += 50.0
    await mirror.look()
    await mirror.look()
    standing.circuit.close()
    await mirror.look()
    await mirror.look()
    assert recent.told[2:] == [("mock", "meta/llama", "half_open", 2), ("mock", "meta/llama", "closed", 0)]
