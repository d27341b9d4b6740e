"""A prediction's body: what it is read as, and what is said of one that can't be read."""

from typing import Any

import msgspec
import pytest

from sentinel_gateway.api.wire.json_body import MAX_PARTS
from sentinel_gateway.api.wire.predict import Glance, glance, read_prediction, timestamp
from sentinel_gateway.core.chat import Fields
from sentinel_gateway.core.identity import exact_key, last_words
from sentinel_gateway.errors import Unprocessable


class Taking:
    """Programs that take anything."""

    names = ("baseline", "cot")

    def __init__(self, version: str = "1") -> None:
        self.version = version

    def find(self, name: str) -> "Program":
        return Program(name, self.version)


class Program:
    semantic = False

    def __init__(self, name: str, version: str) -> None:
        self.name, self.version = name, version

    def read(self, given: str | Fields) -> Fields:
        return {"question": given} if isinstance(given, str) else given


def read(body: dict[str, Any] | bytes, *, version: str = "1", default: str | None = None) -> Any:
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return read_prediction(raw, max_depth=8, programs=Taking(version), default=default)


def key(request: Any) -> str:
    return exact_key(request.fields, face="predict", targets=("a/b",), tenant="", namespace="")


def test_what_may_change_the_answer_is_part_of_the_key_and_nothing_else():
    asked = {"model": "m", "input": "q"}
    first = key(read(asked))
    same = [
        asked | {"variant": None, "parameters": {}, "use_cache": True, "request_id": "7", "more": 1},
        asked | {"variant": "baseline", "parameters": None, "input": {"question": "q"}},
        asked | {"parameters": {"presence_penalty": 0.0, "temperature": None}},
    ]
    assert {key(read(one)) for one in same} == {first}
    others = [
        asked | {"input": "r"},
        asked | {"input": {"question": "q", "context": ""}},
        asked | {"variant": "cot"},
        *(asked | {"parameters": one} for one in ({"temperature": 0}, {"max_tokens": 9}, {"seed": 1}, {"stop": "."})),
    ]
    assert len({first, key(read(asked, version="2")), *(key(read(one)) for one in others)}) == len(others) + 2


def test_it_is_read_as_what_others_ask_of_a_request():
    request = read({"input": "What day is it?", "parameters": {"temperature": 0.5, "max_tokens": 7}}, default="fast")
    assert (request.model, request.temperature, request.token_limit, request.stream) == ("fast", 0.5, 7, False)
    assert last_words(request.fields) == "What day is it?", "by which a question is known that is bound to its moment"
    several = read({"model": "m", "input": {"a": "b", "c": [1]}})
    assert last_words(several.fields) == '{"a":"b","c":[1]}'


@pytest.mark.parametrize(
    ("body", "places"),
    [
        (b'{"input": ', [("body",)]),
        (b"[]", [("body",)]),
        (b'{"input": "a", "input": "b"}', [("body", "input")]),
        ({}, [("body", "input")]),
        ({"input": "a", "model": ""}, [("body", "model")]),
        ({"input": "a"}, [("body", "model")]),
        ({"input": ["a"], "model": "m", "request_id": ""}, [("body", "input"), ("body", "request_id")]),
        ({"input": "a", "model": "m", "variant": "x" * 99}, [("body", "variant")]),
        ({"input": "a", "model": "m", "parameters": {"stop": 7, "n": 2}}, [("body", "parameters", n) for n in ("stop", "n")]),
    ],
)
def test_each_fault_has_its_place_once(body, places):
    with pytest.raises(Unprocessable) as refused:
        read(body)
    assert [place for place, _ in refused.value.faults] == places
    assert "x" * 65 not in refused.value.message


@pytest.mark.parametrize(
    ("raw", "seen"),
    [
        (b'{"variant": "cot", "request_id": "7", "use_cache": false}', Glance("cot", "7", use_cache=False)),
        (b'{"variant": 7, "request_id": 7, "use_cache": "no"}', Glance()),
        (b'{"use_cache": null}', Glance()),
        (b"[]", Glance()),
        (b"{", Glance()),
        (b"\xff", Glance()),
        (b'{"a": ' * 100_000, Glance()),
    ],
)
def test_a_glance_never_fails(raw, seen):
    assert glance(raw) == seen


def test_nor_does_it_read_what_is_refused_for_its_parts():
    """4 MiB of empty lists took it 80 ms, before anybody counted them."""
    assert glance(b'{"variant":"cot","input":[' + b"[]," * MAX_PARTS + b"[]]}") == Glance()


def test_a_moment_is_written_as_the_seed_does():
    assert timestamp(1_761_827_696.789) == "2025-10-30T12:34:56.789Z"
