"""What is kept of a request once it has ended."""

from sentinel_gateway.core.record import Record, bare
from sentinel_gateway.pipeline.journey import Journey

BEGUN = (1.0, "req-1", "sn-1", "/v1/chat/completions", "POST")


class Traced:
    """A trace, of which only its ids outlive the request."""

    trace_id, span_id, sampled = "a" * 32, "b" * 16, True


class Under(Record):
    """A request under way: it holds more than is told of it."""

    body: bytes = b""


def test_what_waits_to_be_written_holds_nothing_of_the_request():
    under = Under(*BEGUN)
    under.model = "fast"
    alone = bare(under)
    assert alone.__class__ is Record
    assert (alone.sentinel_id, alone.model, alone.trace) == ("sn-1", "fast", None)
    assert bare(alone) is alone, "it is not copied twice"


def test_each_member_of_a_record_outlives_its_request():
    journey = Journey(*BEGUN)
    told = [name for name in Record.__struct_fields__ if name != "trace"]
    for number, name in enumerate(told):
        setattr(journey, name, number)
    alone = bare(journey)
    assert [getattr(alone, name) for name in told] == [*range(len(told))]


def test_of_a_trace_its_ids_are_kept():
    record = Record(*BEGUN)
    record.trace = Traced()
    alone = bare(record)
    assert (alone.trace, alone.trace_id, alone.span_id, alone.sampled) == (None, Traced.trace_id, Traced.span_id, True)
    assert record.trace is not None, "the request's own stays as it is"
