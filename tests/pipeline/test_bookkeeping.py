"""What the path has the ledger write: before a provider is asked, after it, and once a request."""

import pytest
from msgspec.structs import replace

from sentinel_gateway.core.chat import Usage
from sentinel_gateway.core.pricing import Price, Rates
from sentinel_gateway.core.record import Record
from sentinel_gateway.errors import UpstreamBroken, UpstreamError
from sentinel_gateway.pipeline.admit import Admission, Capacity
from sentinel_gateway.pipeline.attempt import Try
from sentinel_gateway.pipeline.bookkeeping import Booked
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.ports.ledger import Enrolled, Handled, Intent, Row, Settled, Spent
from tests.fakes import START, FakeEvents, FakeStream, completion, spoken
from tests.pipeline.conftest import Path, question

pytestmark = pytest.mark.anyio


class FakeLedger:
    """What was written, in order."""

    is_full = False

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def intend(self, intent: Intent) -> None:
        self.rows.append(intent)

    def settle(self, settled: Settled) -> None:
        self.rows.append(settled)

    def handled(self, request: Handled | Enrolled) -> None:
        self.rows.append(request)


@pytest.fixture
async def booked():
    """A path that is written down."""
    path = Path()
    path.ledger = FakeLedger()
    path.circuits.world = replace(path.circuits.world, ledger=path.ledger)
    yield path
    await path.circuits.close()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_is_intended_and_then_settled(booked, stream):
    booked.first.replies += [FakeStream(*spoken("Paris.")) if stream else completion()]
    _, journey = await booked.ask(question(stream=stream))
    intent, settled = booked.ledger.rows
    assert (intent.request, intent.number, intent.route) == (journey.sentinel_id, 1, journey.route)
    assert (intent.provider, intent.target, intent.stream) == ("first", "m", stream)
    assert (intent.tenant, intent.key, intent.started) == ("", "anybody", int(START * 1_000_000))
    (attempt,) = booked.events.attempts
    assert settled == Settled(intent, "answered", Spent(attempt.prompt_tokens, 0, 0, attempt.completion_tokens))


async def test_each_attempt_is_a_row_and_a_failed_one_says_why(booked):
    booked.first.replies += [UpstreamBroken("x")] * 3
    with pytest.raises(UpstreamError):
        await booked.ask(question())
    settled = [row for row in booked.ledger.rows if isinstance(row, Settled)]
    assert [row.intent for row in settled] == [row for row in booked.ledger.rows if isinstance(row, Intent)]
    assert [row.intent.number for row in settled] == list(range(1, len(booked.events.attempts) + 1))
    assert {(row.ending, row.error) for row in settled} == {("broken", "upstream_error")}


def record(**fields) -> Record:
    usual = {"at": START, "request_id": "req_abc", "sentinel_id": "abc", "route": "/v1/chat/completions", "method": "POST"}
    return Record(**(usual | {"model": "large", "target": "first/models/large", "status": 200} | fields))


def test_a_request_is_a_row():
    events, ledger = FakeEvents(), FakeLedger()
    told = record(outcome="exact", tier="memory", account="acme", key="key_1", seconds=0.25, prompt_tokens=2**60)
    Booked(events, ledger).finished(told)
    assert events.records == [told]
    (row,) = ledger.rows
    assert (row.id, row.request_id, row.at) == ("abc", "", int(START * 1_000_000))
    assert (row.tenant, row.key, row.provider, row.target) == ("acme", "key_1", "first", "models/large")
    assert (row.duration, row.prompt_tokens) == (250_000, 2**40)


async def test_a_call_is_booked_at_its_price_with_all_its_tokens(booked):
    usage = Usage(100, 20, 120, cached_tokens=40, reasoning_tokens=5, has_details=True)
    rates = Rates.of({"input": 2 * 10**15, "cached_input": 10**15, "output": 3 * 10**15})
    price = Price(rates, as_of="2026-01-31")
    tried = Try(booked.circuits, journey_of("first/m"), price, START, again=False, stream=False)
    tried.answered(usage)
    settled = booked.ledger.rows[-1]
    assert settled.spent == Spent(100, 40, 0, 20, 5, 60 * 2 + 40 + 20 * 3, "2026-01-31", "price")


async def test_a_call_that_came_to_nothing_has_the_day_of_its_price_as_well(booked):
    price = Price(Rates.of({"input": 10**15, "output": 10**15}), as_of="2026-01-31")
    Try(booked.circuits, journey_of("first/m"), price, START, again=False, stream=False).failed(UpstreamBroken("first failed."))
    assert booked.ledger.rows[-1].spent == Spent(priced="2026-01-31")


def journey_of(target: str) -> Journey:
    journey = Journey(route="/v1/chat/completions", method="POST", request_id="", sentinel_id="0" * 32, at=START)
    journey.target, journey.attempts = target, 1
    return journey


def test_the_callers_own_name_for_it_is_kept():
    ledger = FakeLedger()
    Booked(FakeEvents(), ledger).finished(record(request_id="order 7"))
    assert ledger.rows[0].request_id == "order 7"


def test_a_request_in_an_experiment_leaves_a_row_of_that_too():
    ledger = FakeLedger()
    Booked(FakeEvents(), ledger).finished(record(experiment="cheaper=small", unit=7))
    handled, enrolled = ledger.rows
    assert (enrolled.id, enrolled.experiment, enrolled.arm, enrolled.unit) == (handled.id, "cheaper", "small", 7)


def test_who_did_not_get_in_leaves_no_row():
    events, ledger = FakeEvents(), FakeLedger()
    booked = Booked(events, ledger)
    assert "FakeLedger" in repr(booked)
    booked.finished(record(model="", status=401))
    assert (len(events.records), ledger.rows) == (1, [])


async def test_while_nothing_can_be_written_down_nobody_gets_in():
    admission = Admission(Capacity(8, 8, 1.0), lambda: 0.0)
    async with admission:
        admission.shut("The ledger is full.")
        assert admission.is_full
        with pytest.raises(Exception, match="The ledger is full") as refused:
            admission.check()
        assert (refused.value.http_status, refused.value.retry_after) == (503, 1.0)
        with pytest.raises(Exception, match="The ledger is full"):
            async with admission:
                pass
    assert admission.running == 0
    admission.shut("")
    admission.check()
    async with admission:
        assert not admission.is_full
