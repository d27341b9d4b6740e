"""May it be read, may it be stored, for how long?"""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.core.caching import (
    DAY,
    HOUR,
    Entry,
    Hit,
    NotStorable,
    Selector,
    Step,
    TtlRules,
    Wish,
    judge,
    lifetime,
    rejection,
)
from sentinel_gateway.core.chat import Answer, ChatRequest

NOW = 1_800_000_000.0
ENTRY = Entry(
    key="k",
    body=b"}",
    model="groq/llama",
    created=NOW - 100,
    expires=NOW + 50,
    tenant="t",
    namespace="ns",
    writer="w",
    tags=("a", "b"),
)


def request(**members) -> ChatRequest:
    return ChatRequest(**{"fields": {}, "model": "m", **members})


def answer(*reasons: str | None, message: object = None) -> Answer:
    reasons = reasons or ("stop",)
    said = {"content": "x"} if message is None else message
    return Answer({"choices": [{"message": said} for _ in reasons]}, reasons, None)


# -- judge


@pytest.mark.parametrize(
    ("wish", "verdict"),
    [
        (Wish(), None),
        (Wish(max_age=100), None),
        (Wish(max_age=99.9), "request"),
        (Wish(max_age=0), "request"),
        (Wish(min_fresh=50), None),
        (Wish(min_fresh=50.1), "request"),
        (Wish(max_age=100, min_fresh=50.1), "request"),
        (Wish(max_age=99, min_fresh=50), "request"),
    ],
)
def test_a_fresh_entry_is_judged_by_the_callers_wish(wish, verdict):
    assert judge(ENTRY, wish, "disk", NOW) == (Step("disk", verdict) if verdict else Hit(ENTRY, "disk"))


@pytest.mark.parametrize(("later", "stale"), [(49.999, False), (50, True), (51, True)])
def test_an_entry_ends_when_it_expires(later, stale):
    found = judge(ENTRY, Wish(), "memory", NOW + later)
    assert found == (Step("memory", "stale") if stale else Hit(ENTRY, "memory"))


def test_stale_is_said_before_what_the_caller_wanted():
    assert judge(ENTRY, Wish(max_age=0), "memory", NOW + 50) == Step("memory", "stale")


# -- lifetime


@pytest.mark.parametrize(
    ("temperature", "ttl"), [(None, HOUR), (0.0, DAY), (0.7, DAY), (0.7000001, HOUR), (1, HOUR), (2.0, HOUR), (-1.0, DAY)]
)
def test_ttl_boundary_temperature_0_7_and_absent(temperature, ttl):
    assert lifetime(request(temperature=temperature), Wish(), TtlRules(), jitter=0.0) == ttl


@pytest.mark.parametrize(
    ("wish", "rules", "ttl"),
    [
        (Wish(ttl=5), TtlRules(fixed=6, per_model={"m": 7}), 5),
        (Wish(ttl=0), TtlRules(fixed=6, per_model={"m": 7}), 0),
        (Wish(), TtlRules(fixed=6, per_model={"m": 7}), 7),
        (Wish(), TtlRules(fixed=6, per_model={"m": 0}), 0),
        (Wish(), TtlRules(fixed=6, per_model={"other": 7}), 6),
        (Wish(), TtlRules(fixed=0), 0),
        (Wish(), TtlRules(per_model={"other": 7}), HOUR),
    ],
)
def test_the_header_beats_the_model_beats_the_fixed_one_beats_the_temperature(wish, rules, ttl):
    assert lifetime(request(temperature=None), wish, rules, jitter=0.0) == ttl


@given(
    jitter=st.floats(0, 1),
    ttl=st.none() | st.integers(0, 31_536_000).map(float),
    fixed=st.none() | st.floats(0, 1e9),
    temperature=st.none() | st.floats(0, 2),
)
def test_jitter_only_shortens(jitter, ttl, fixed, temperature):
    asked, wish, rules = request(temperature=temperature), Wish(ttl=ttl), TtlRules(fixed=fixed)
    full = lifetime(asked, wish, rules, jitter=0.0)
    assert full * 0.9 * (1 - 1e-12) <= lifetime(asked, wish, rules, jitter=jitter) <= full
    if ttl is not None:
        assert full == ttl


def test_the_longest_jitter_takes_a_tenth():
    assert lifetime(request(), Wish(ttl=1000.0), TtlRules(), jitter=1.0) == 900.0


# -- rejection


def verdict(asked: ChatRequest, given: Answer, wish: Wish | None = None, *, ttl: float = 60.0):
    return rejection(asked, given, wish or Wish(), ttl=ttl)


@pytest.mark.parametrize("reason", ["stop", "tool_calls", "function_call"])
def test_a_proper_ending_is_kept(reason):
    assert verdict(request(), answer(reason), ttl=7.5) is None


def test_length_answer_exact_only_where_the_request_set_the_limit():
    assert verdict(request(token_limit=5), answer("length")) is None
    assert verdict(request(), answer("length")) == NotStorable("length")


@pytest.mark.parametrize(
    ("reasons", "why"),
    [
        (("content_filter",), "content-filter"),
        ((None,), "unfinished"),
        (("eos",), "unknown-finish"),
        (("",), "unknown-finish"),
        (("STOP",), "unknown-finish"),
        (("stop", "content_filter"), "content-filter"),
        (("stop", None, "content_filter"), "unfinished"),
        (("length", "stop"), "length"),
    ],
)
def test_one_unfit_ending_is_enough(reasons, why):
    assert verdict(request(), answer(*reasons)) == NotStorable(why)


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        ({}, False),
        ({"content": None}, False),
        ({"content": ""}, False),
        ({"content": []}, False),
        ({"content": "", "tool_calls": [], "refusal": None, "function_call": {}, "audio": None}, False),
        ({"content": "", "reasoning_content": "long thoughts"}, False),
        ({"content": " "}, True),
        ({"content": [{"type": "text", "text": "x"}]}, True),
        ({"content": None, "tool_calls": [{"id": "1"}]}, True),
        ({"content": None, "refusal": "No."}, True),
        ({"content": None, "function_call": {"name": "f"}}, True),
        ({"content": None, "audio": {"id": "a"}}, True),
    ],
)
def test_an_empty_answer_is_not_kept(message, kept):
    assert verdict(request(), answer(message=message)) == (None if kept else NotStorable("empty"))


def test_every_choice_must_say_something():
    given = answer("stop", "stop")
    given.fields["choices"][1]["message"] = {"content": ""}
    assert verdict(request(), given) == NotStorable("empty")


@pytest.mark.parametrize(
    ("wish", "options", "why"),
    [
        (Wish(write=False), {}, "no-store"),
        (Wish(read=False, write=False, bypass=True), {}, "bypass"),
        (Wish(), {"ttl": 0.0}, "ttl-0"),
        (Wish(), {"ttl": -1.0}, "ttl-0"),
        (Wish(write=False), {"ttl": 0.0}, "no-store"),
    ],
)
def test_what_is_not_kept_whatever_it_says(wish, options, why):
    assert verdict(request(), answer(), wish, **options) == NotStorable(why)
    assert verdict(request(choices=2), answer("eos"), wish, **options) == NotStorable(why)


@pytest.mark.parametrize(("given", "kept"), [(1, False), (2, False), (3, True), (4, True)])
def test_fewer_choices_than_were_asked_for_are_not_kept(given, kept):
    """Whoever asks the same again would get as few, for as long as it is kept."""
    expected = None if kept else NotStorable("too-few-choices")
    assert verdict(request(choices=3), answer(*["stop"] * given)) == expected


# -- Selector


SELECTED = {
    "tenant": "t",
    "namespace": "ns",
    "model": "groq/llama",
    "tag": "b",
    "writer": "w",
    "older_than": 99.0,
    "keys": frozenset("jk"),
}
OTHERS = {"tenant": "", "namespace": "", "model": "llama", "tag": "c", "writer": "", "older_than": 100.0, "keys": frozenset()}


def test_a_selector_without_members_selects_all():
    assert Selector().everything
    assert Selector().matches(ENTRY, NOW)
    assert Selector().matches(msgspec.structs.replace(ENTRY, created=NOW + 5), NOW)


@pytest.mark.parametrize("name", SELECTED)
def test_each_member_selects_and_leaves_out(name):
    assert Selector(**{name: SELECTED[name]}).matches(ENTRY, NOW)
    assert not Selector(**{name: OTHERS[name]}).matches(ENTRY, NOW)
    assert not Selector(**{name: OTHERS[name]}).everything


@given(st.sets(st.sampled_from(sorted(SELECTED))), st.sets(st.sampled_from(sorted(SELECTED))))
def test_all_members_must_agree(met, unmet):
    unmet -= met
    selector = Selector(**{name: SELECTED[name] for name in met}, **{name: OTHERS[name] for name in unmet})
    assert selector.matches(ENTRY, NOW) is not bool(unmet)
    assert selector.everything is not bool(met | unmet)


def test_the_empty_word_selects_what_has_none():
    bare = msgspec.structs.replace(ENTRY, namespace="", writer="", tags=())
    assert Selector(namespace="", writer="").matches(bare, NOW)
    assert not Selector(tag="").matches(bare, NOW)


@pytest.mark.parametrize(
    ("wish", "late", "serves"),
    [
        (Wish(), 0.0, False),
        (Wish(max_stale=10.0), 0.0, True),
        (Wish(max_stale=10.0), 10.0, True),
        (Wish(max_stale=10.0), 10.1, False),
        (Wish(max_stale=float("inf")), 1e9, True),
        (Wish(max_stale=10.0, max_age=5.0), 1.0, False),
        (Wish(max_stale=10.0, min_fresh=0.0), 1.0, False),
    ],
)
def test_who_takes_an_expired_answer_says_how_old(wish, late, serves):
    entry = Entry(key="k", model="a/b", created=0.0, expires=100.0, body=b"")
    found = judge(entry, wish, "disk", 100.0 + late, last=True)
    assert found == Hit(entry, "disk", stale=True) if serves else isinstance(found, Step)
    assert isinstance(judge(entry, wish, "memory", 100.0 + late), Step), "a farther tier may have a fresh one"


@pytest.mark.parametrize(
    ("wish", "stalest"),
    [
        (Wish(), float("inf")),
        (Wish(max_stale=5.0), 5.0),
        (Wish(stale_if_error=0.0), 0.0),
        (Wish(max_stale=5.0, stale_if_error=60.0), 60.0),
    ],
)
def test_how_stale_an_answer_may_be_where_there_is_no_other(wish, stalest):
    assert wish.stalest == stalest
