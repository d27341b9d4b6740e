"""One item, one line, whatever a caller wrote into it."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sentinel_gateway.core.record import Record, bare
from sentinel_gateway.telemetry.lines import MAX_TEXT, MAX_TRACE, Event, Item, clean, json_line, level_of, text_line

Make = Callable[..., Record]
NASTY = 'a\r\nb\x1b[31m\x00\x7f\x9b\u2028\u2029\u202e\ud800"\\\t{}'


def any_text() -> st.SearchStrategy[str]:
    return st.text(st.characters(codec=None) | st.sampled_from(NASTY), max_size=300)


def any_record() -> st.SearchStrategy[Record]:
    text, seconds, count = any_text(), st.floats(0, 1e6), st.integers(0, 10**400)
    return st.builds(
        Record, at=st.floats(0, 4e9), request_id=text, sentinel_id=text, route=text, method=text, status=st.integers(0, 999),
        seconds=seconds, tier=text, model=text, target=text, stream=st.booleans(), stored=st.booleans(), upstream_seconds=seconds,
        first_byte_seconds=seconds, prompt_tokens=count, completion_tokens=count, error=text, client=text, account=text, key=text,
    )  # fmt: skip


def any_event() -> st.SearchStrategy[Event]:
    fields = st.dictionaries(
        st.sampled_from(["error", "level", "event", "n"]), any_text() | st.floats() | st.booleans() | st.none()
    )
    return st.builds(Event, at=st.floats(0, 4e9), level=st.just("warning"), name=any_text(), fields=fields, trace=any_text())


def nasty(make: Make) -> Record:
    return make(model=NASTY, method=NASTY, route=NASTY, request_id=NASTY, client=NASTY, error=NASTY, account=NASTY, key=NASTY)


@given(any_record() | any_event())
@example(Event(0.0, "error", NASTY, {"error": NASTY, "level": "fake", "event": "request"}, NASTY * 1000))
def test_any_text_is_one_json_line(item: Item) -> None:
    line = json_line(item)
    assert line.decode().isprintable()  # so no end of line, no control, no direction mark
    fields = msgspec.json.decode(line)
    assert fields["event"] == ("request" if isinstance(item, Record) else clean(item.name))
    assert fields["level"] == level_of(item)
    values = [value for name, value in fields.items() if name != "trace" and isinstance(value, str)]
    assert all(len(value) <= MAX_TEXT and value.isprintable() for value in values)


@given(any_record() | any_event())
def test_any_text_is_one_text_line(item: Item) -> None:
    assert text_line(item).decode().isprintable()


def test_golden_json(make_record: Make) -> None:
    record = make_record(
        at=1_800_000_000.25, seconds=0.5, upstream_seconds=0.1234567, first_byte_seconds=0.2, stored=True, stream=True,
        cost=12_500, saved=250_000_000,
    )  # fmt: skip
    assert json_line(record).decode() == (
        '{"timestamp":"2027-01-15T08:00:00.750000Z","level":"info","event":"request","request_id":"req_7","sentinel_id":"0af7",'
        '"route":"/v1/chat/completions","method":"POST","status":200,"outcome":"exact","tier":"memory","model":"fast",'
        '"target":"groq/llama","attempts":0,"stream":true,"seconds":0.5,"upstream_seconds":0.123457,"first_byte_seconds":0.2,'
        '"prompt_tokens":9,"completion_tokens":12,"cost_usd":0.0000125,"saved_usd":0.25,"cost_basis":"price","similarity":0.0,"stored":true,"error":"","client":"127.0.0.1","tenant":"acme","key":"key_1"}'
    )


class Followed:
    """A `Trace` of which lines tell."""

    trace_id, span_id, sampled = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", True


def test_the_line_of_a_request_that_is_traced_names_its_trace(make_record: Make) -> None:
    plain, traced = json_line(make_record()), json_line(bare(make_record(trace=Followed())))
    assert traced == plain[:-1] + b',"trace_id":"0af7651916cd43dd8448eb211c80319c","span_id":"b7ad6b7169203331"}'


def test_golden_text(make_record: Make) -> None:
    assert text_line(make_record(sentinel_id="7", stored=True)).decode() == (
        "2027-01-15 08:00:00.003 INFO    200 POST /v1/chat/completions   exact/memory       3.0 ms  "
        "target=groq/llama tokens=21 stored=yes id=7"
    )
    failed = make_record(
        status=404, outcome="none", tier="", method="GET", route="unmatched", target="", prompt_tokens=0, completion_tokens=0,
        error="unknown_url",
    )  # fmt: skip
    assert text_line(failed).decode() == (
        "2027-01-15 08:00:00.003 INFO    404 GET  unmatched              none               3.0 ms  "
        "error=unknown_url id=0af7 request=req_7"
    )
    event = Event(1.0, "warning", "store_down", {"tier": "disk", "error": 'said "no"', "since": 2.5, "note": None, "ok": False})
    assert text_line(event).decode() == (
        '1970-01-01 00:00:01.000 WARNING store_down  tier=disk error="said \\"no\\"" since=2.5 ok=False'
    )


def test_a_providers_answer_has_its_cost_in_the_text(make_record: Make) -> None:
    called = make_record(outcome="miss", tier="", upstream_seconds=1.2345, cost=123_450)
    line = text_line(called).decode()
    assert " tokens=21 cost=$0.00012345 id=0af7 " in line
    assert line.endswith("request=req_7  LLM CALL (Groq): latency=1234.5ms | cost=$0.000123 | tokens=21")
    about = text_line(msgspec.structs.replace(called, basis="estimated")).decode()
    assert " cost=~$0.00012345 " in about
    assert about.endswith("cost=$0.000123 (estimated) | tokens=21")
    unknown = text_line(msgspec.structs.replace(called, basis="unknown", cost=0)).decode()
    assert unknown.endswith("cost=unknown | tokens=21")


def test_what_a_hit_saves_is_in_the_text(make_record: Make) -> None:
    assert " tokens=21 saved=$0.0000175 id=0af7 " in text_line(make_record(saved=17_500)).decode()


@pytest.mark.parametrize(
    "changes",
    [{}, {"outcome": "coalesced", "upstream_seconds": 1.0}, {"outcome": "miss", "upstream_seconds": 1.0, "status": 502}],
)
def test_what_nobody_was_paid_for_has_no_cost(make_record: Make, changes: dict[str, Any]) -> None:
    assert b"LLM CALL" not in text_line(make_record(**changes, cost=1))


def test_every_member_of_a_record_is_in_its_json_line(make_record: Make) -> None:
    fields = msgspec.json.decode(json_line(make_record()))
    told = {"at": "timestamp", "account": "tenant", "cost": "cost_usd", "saved": "saved_usd", "basis": "cost_basis"}
    elsewhere = {
        "region",
        "experiment",
        "unit",
        "trace",
        "trace_id",
        "span_id",
        "sampled",
    }  # by the monitoring API; of an experiment and a trace the line has the names, if there is one
    kept = set(Record.__struct_fields__) - elsewhere
    assert set(fields) == {told.get(name, name) for name in kept} | {"level", "event"}


def test_a_request_of_an_experiment_says_so(make_record: Make) -> None:
    fields = msgspec.json.decode(json_line(make_record(experiment="cheaper=small", unit=7)))
    assert fields["experiment"] == "cheaper=small"
    assert "unit" not in fields


@pytest.mark.parametrize("count", ["prompt_tokens", "completion_tokens"])
def test_more_tokens_than_there_can_be_are_told_as_the_most(make_record: Make, count: str) -> None:
    assert msgspec.json.decode(json_line(make_record(**{count: 2**53 + 1})))[count] == 2**53


def test_nasty_text_is_shown_not_sent(make_record: Make) -> None:
    shown = r'a\r\nb\x1b[31m\x00\x7f\x9b\u2028\u2029\u202e\ud800"\\t{}'
    assert clean(NASTY) == shown
    assert msgspec.json.decode(json_line(nasty(make_record)))["model"] == shown
    assert rb"\x1b[31m" in text_line(nasty(make_record))


def test_long_text_is_cut_where_one_sees_it() -> None:
    assert clean("x" * 200) == "x" * 200
    assert clean("x" * 201) == "x" * 199 + "…"
    assert clean("\n" * 150) == ("\\n" * 150)[:199] + "…"


def test_no_field_can_pass_for_another_event() -> None:
    line = json_line(Event(0.0, "warning", "store_down", {"event": "request", "level": "info", "timestamp": "never"}))
    assert line == b'{"timestamp":"1970-01-01T00:00:00Z","level":"warning","event":"store_down"}'


def test_a_traceback_is_one_field_and_keeps_its_end() -> None:
    trace = "first\n" + "  File x\n" * 2000 + "ValueError: last"
    shown = msgspec.json.decode(json_line(Event(0.0, "error", "library", {}, trace)))["trace"]
    assert len(shown) <= MAX_TRACE
    assert "\n" not in shown


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({}, "info"),
        ({"status": 404, "error": "unknown_url"}, "info"),
        ({"status": 499, "error": "client_left"}, "info"),
        ({"status": 500, "error": "internal_error"}, "error"),
        ({"status": 200, "error": "internal_error"}, "error"),
        ({"status": 200, "error": "upstream_error"}, "warning"),
        ({"status": 200, "error": "client_left"}, "info"),
        ({"status": 502, "error": "upstream_error"}, "warning"),
        ({"status": 503, "error": "server_is_overloaded"}, "warning"),
        ({"route": "/livez"}, "debug"),
        ({"route": "/ready", "status": 503}, "warning"),
    ],
)
def test_level(make_record: Make, changes: dict[str, object], level: str) -> None:
    assert level_of(make_record(**changes)) == level
