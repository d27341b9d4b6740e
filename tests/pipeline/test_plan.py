"""From bytes to a plan, once."""

import json

import msgspec
import pytest

from sentinel_gateway.api.wire.openai import read_request
from sentinel_gateway.core.chat import ChatRequest, Native
from sentinel_gateway.core.identity import exact_key
from sentinel_gateway.core.routing import Directory, Route, Target
from sentinel_gateway.errors import InvalidBody, ModelNotFound
from sentinel_gateway.pipeline.plan import MEMO_BODY_BYTES, MEMO_BYTES, PLAN_OVERHEAD, Plan, Planner
from tests.pipeline.conftest import question


class Decoder:
    """Counts what it decodes."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, raw: bytes) -> ChatRequest:
        self.count += 1
        return read_request(raw, max_depth=64)


class Switchboard:
    """A directory that changes."""

    def __init__(self) -> None:
        self.to("one")

    def to(self, *providers: str) -> None:
        self.directory = Directory(aliases={}, providers=providers, catalogues={}, known={})

    def __call__(self) -> Directory:
        return self.directory


@pytest.fixture
def decode() -> Decoder:
    return Decoder()


@pytest.fixture
def switchboard() -> Switchboard:
    return Switchboard()


@pytest.fixture
def planner(decode, switchboard) -> Planner:
    return Planner("chat", decode, switchboard)


RAW = json.dumps(question(model="m")).encode()


def hit(planner: Planner, raw: bytes, *, tenant: str = "", namespace: str = "") -> Plan:
    """The plan for a body whose answer was found, and not for the first time."""
    plan = planner.plan(raw, tenant=tenant, namespace=namespace)
    planner.remember(raw, plan, tenant=tenant, namespace=namespace)
    planner.remember(raw, plan, tenant=tenant, namespace=namespace)
    return plan


def test_a_plan_says_what_is_asked_of_whom_under_what_key(planner):
    plan = planner.plan(RAW, tenant="t", namespace="n")
    assert plan.request.fields == question(model="m")
    assert plan.route == Route((Target("one", "m"),))
    assert plan.key == exact_key(plan.request.fields, face="chat", targets=("one/m",), tenant="t", namespace="n")


def test_what_no_answer_is_kept_for_has_no_key(decode, switchboard, planner):
    plan = Planner("chat", decode, switchboard, keyed=False).plan(RAW, tenant="t", namespace="n")
    assert plan == msgspec.structs.replace(planner.plan(RAW, tenant="t", namespace="n"), key="")


def test_bytes_that_hit_are_understood_only_once_more(planner, decode):
    missed = planner.plan(RAW, tenant="", namespace="")
    planner.remember(RAW, missed, tenant="", namespace="")
    assert repr(planner) == "<Planner chat 0 plans, 0 bytes>", "most spellings come once"
    plan = hit(planner, RAW)
    assert (plan, decode.count) == (missed, 2)
    assert hit(planner, bytes(bytearray(RAW))) is plan
    assert planner.plan(bytes(bytearray(RAW)), tenant="", namespace="") is plan
    assert decode.count == 2
    assert repr(planner) == f"<Planner chat 1 plans, {len(RAW) * 5 + PLAN_OVERHEAD} bytes>"


def test_what_was_understood_is_not_shared_between_policies(planner, decode):
    policies = [("", ""), ("t", ""), ("", "t"), ("t", "n"), ("tn", "")]
    keys = {hit(planner, RAW, tenant=tenant, namespace=namespace).key for tenant, namespace in policies}
    assert len(keys) == decode.count == len(policies)
    keys |= {planner.plan(RAW + b" ", tenant="", namespace="").key}
    assert len(keys) == len(policies)
    assert decode.count == len(policies) + 1


def test_faces_have_keys_of_their_own(planner, decode, switchboard):
    other = Planner("query", decode, switchboard)
    assert planner.plan(RAW, tenant="", namespace="").key != other.plan(RAW, tenant="", namespace="").key


def test_a_changed_directory_is_resolved_anew(planner, switchboard, decode):
    first = hit(planner, RAW)
    switchboard.to("two")
    assert planner.plan(RAW, tenant="", namespace="") is first
    planner.forget()
    again = planner.plan(RAW, tenant="", namespace="")
    assert (again.route.names, decode.count) == (("two/m",), 2)
    assert again.key != first.key


def test_what_was_resolved_in_an_old_directory_is_not_remembered(planner, switchboard):
    """The look-up takes its time; meanwhile the directory changes."""
    old = planner.plan(RAW, tenant="", namespace="")
    switchboard.to("two")
    planner.forget()
    planner.remember(RAW, old, tenant="", namespace="")
    assert planner.plan(RAW, tenant="", namespace="").route.names == ("two/m",)


def test_a_name_is_resolved_once_in_a_directory(planner, switchboard):
    first, second = (json.dumps(question(text, model="m")).encode() for text in ("One?", "Two?"))
    route = planner.plan(first, tenant="", namespace="").route
    assert planner.plan(second, tenant="", namespace="").route is route
    switchboard.to("two")
    planner.forget()
    assert planner.plan(second, tenant="", namespace="").route == Route((Target("two", "m"),))


@pytest.mark.parametrize(("more", "times"), [(0, 1), (1, 2)])
def test_long_bodies_are_understood_each_time(planner, decode, more, times):
    raw = RAW.ljust(MEMO_BODY_BYTES + more)
    assert hit(planner, raw) == hit(planner, raw)
    assert decode.count == times


def test_the_memory_for_plans_is_bounded(planner):
    for number in range(200):
        hit(planner, RAW.ljust(MEMO_BODY_BYTES - number))
    plans, size = (int(word) for word in repr(planner).replace(">", "").split() if word.isdigit())
    assert MEMO_BYTES - MEMO_BODY_BYTES * 6 < size <= MEMO_BYTES
    assert 0 < plans < 200


def test_what_cannot_be_understood_is_not_remembered(planner, decode):
    for _ in range(2):
        with pytest.raises(InvalidBody):
            planner.plan(b"{", tenant="", namespace="")
    assert decode.count == 2


def test_a_model_that_nobody_serves_is_told_with_what_would_work(planner, switchboard):
    switchboard.directory = Directory(
        aliases={"fast": Route((Target("one", "m"),)), "fest": Route((Target("one", "m"),))},
        providers=("one", "two"),
        catalogues={},
        known={},
    )
    with pytest.raises(ModelNotFound) as caught:
        planner.plan(json.dumps(question(model="fasst")).encode(), tenant="", namespace="")
    assert caught.value.param == "model"
    assert caught.value.message == (
        "The model 'fasst' can't be served: no enabled provider lists it: write provider/model with one of one, two, "
        "or add it under models:. Did you mean 'fast' or 'fest'? GET /v1/models lists what can."
    )

    with pytest.raises(ModelNotFound) as caught:
        planner.plan(json.dumps(question(model="q" * 250)).encode(), tenant="", namespace="")
    assert "Did you mean" not in caught.value.message
    assert f"'{'q' * 200}'" in caught.value.message


CACHED = {"cache_control": {"type": "ephemeral"}}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "a", "is_error": True}
HINTS = [
    {"thinking": {"type": "enabled", "budget_tokens": 1024}},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "a", **CACHED}]}]},
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": None, "tool_calls": [CALL]}, RESULT]},
    {"tools": [{"type": "function", "function": {"name": "f"}, **CACHED}]},
]


def planned(switchboard, fields, dialect):
    """The key, and what is compared by meaning."""
    planner = Planner("chat", lambda _: ChatRequest(fields, "m", dialect=dialect), lambda: switchboard.directory)
    plan = planner.plan(b"", tenant="", namespace="")
    return plan.key, planner.question(plan, tenant="", namespace="")


@pytest.mark.parametrize("hint", HINTS)
def test_hints_that_one_dialect_keeps_from_a_provider_are_another_request(switchboard, hint):
    """To a provider of OpenAI's dialect `thinking` goes from a chat, and does not from Messages."""
    (ours, asked), (theirs, said) = (planned(switchboard, {**question(model="m"), **hint}, of) for of in ("openai", "anthropic"))
    assert ours != theirs
    assert isinstance(asked, str) or asked.scope != said.scope


@pytest.mark.parametrize("fields", [{}, {"top_k": 5}, {"tools": []}, {"tools": None}])
def test_without_hints_the_dialects_share(switchboard, fields):
    asked = question(model="m", **fields)
    assert planned(switchboard, asked, "openai") == planned(switchboard, asked, "anthropic")


def native(switchboard, dated=True, dialect="anthropic"):
    """A planner of requests that came in Anthropic's dialect, and the plan of one without a word in its headers."""
    asked = question(model="m")
    decode = lambda _: ChatRequest(asked, "m", dialect=dialect, native=Native(asked, dated=dated))  # noqa: E731 - as short as that
    planner = Planner("chat", decode, switchboard)
    return planner, planner.plan(b"", tenant="", namespace="")


def switched(planner, plan, *, betas="", version="") -> Plan:
    return planner.switched(plan, betas, version, tenant="", namespace="")


def test_what_headers_switch_on_is_another_request(switchboard):
    planner, plan = native(switchboard)
    said = [switched(planner, plan, **headers) for headers in ({"betas": "long"}, {"betas": "short"}, {"version": "2030-01-01"})]
    assert len({plan.key, *(one.key for one in said)}) == 4
    assert (said[0].request.native.betas, said[2].request.native.version) == ("long", "2030-01-01")
    assert said[0].request.fields is plan.request.fields


def test_a_version_of_which_nothing_hangs_is_the_same_request(switchboard):
    planner, plan = native(switchboard, dated=False)
    assert switched(planner, plan, version="2030-01-01") is plan
    betas = switched(planner, plan, betas="long", version="2030-01-01")
    assert (betas.request.native.betas, betas.request.native.version) == ("long", "")


def test_a_chat_that_came_in_no_other_words_has_its_own(switchboard):
    planner, plan = native(switchboard)
    bare = msgspec.structs.replace(plan, request=msgspec.structs.replace(plan.request, native=None))
    assert switched(planner, bare, betas="long").request.native == Native(plan.request.fields, betas="long")


def test_what_headers_have_switched_on_is_not_remembered_by_the_bytes(switchboard):
    planner, plan = native(switchboard)
    for _ in range(2):
        planner.remember(b"{}", switched(planner, plan, betas="long"), tenant="", namespace="")
    assert repr(planner) == "<Planner chat 0 plans, 0 bytes>"


def test_a_plan_apart_has_a_key_and_a_question_of_its_own(planner):
    plan = planner.plan(RAW, tenant="", namespace="")
    same = planner.apart(plan, None, "part", tenant="", namespace="")
    other = planner.apart(plan, "one/other", "part", tenant="", namespace="")
    assert (same.route, other.route.names) == (plan.route, ("one/other",))
    assert len({plan.key, same.key, other.key}) == 3
    assert planner.question(same, tenant="", namespace="").scope != planner.question(plan, tenant="", namespace="").scope
    for _ in range(2):
        planner.remember(RAW, same, tenant="", namespace="")
    assert repr(planner) == "<Planner chat 0 plans, 0 bytes>", "who asks is no part of the bytes"
