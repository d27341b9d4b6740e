"""A fault and its text are the same thing."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.chaos import Fault, FaultError
from bench.chaos.fault import DEFAULTS, table

BREAKS = ("stall_after", "cut_after", "rst_after", "sse_error_after")
CHOICES = {"err_body": ["openai", "text", "empty", "html"], "usage": ["normal", "absent", "zero", "wrong", "late", "content"]}
NUMBERS = {"err": st.integers(400, 599), "err_rate": st.floats(0, 1), "retry_after": st.floats(0, 1e15)}


def values(name: str) -> st.SearchStrategy:
    if name in CHOICES:
        return st.sampled_from(CHOICES[name])
    if name in NUMBERS:
        return NUMBERS[name]
    if name in {"finish", "service_tier"}:
        return st.from_regex(r"\A[A-Za-z_-]+\Z")
    if name in BREAKS:
        return st.integers(0 if name == "sse_error_after" else -1, 2**40)
    if DEFAULTS[name] is False:
        return st.booleans()
    return st.floats(0, 86_400_000) if name.endswith("_ms") else st.integers(1, 2**40)


@st.composite
def faults(draw) -> Fault:
    names = draw(st.sets(st.sampled_from(sorted(DEFAULTS.keys() - set(BREAKS)))))
    names |= draw(st.sets(st.sampled_from(BREAKS), max_size=1))
    if names & {"err_rate", "retry_after"}:
        names.add("err")
    return Fault(**{name: draw(values(name)) for name in sorted(names)})


@given(faults())
def test_a_fault_and_its_text_are_the_same(fault):
    text = str(fault)
    assert Fault.parse(text) == fault
    assert str(Fault.parse(text)) == text


@given(faults())
def test_the_text_fits_in_a_path_and_a_header(fault):
    assert not set(str(fault)) & set(" /?#%,\r\n\"'")


def test_the_default_has_no_text():
    assert str(Fault()) == ""
    assert Fault.parse("") == Fault()


def test_a_switch_may_stand_alone():
    assert Fault.parse("no_done;chunks=3;no_finish=true") == Fault(no_done=True, chunks=3, no_finish=True)


@pytest.mark.parametrize(
    "text",
    [
        "err_rat=1",
        "err=200",
        "err=many",
        "err=503;err=500",
        "latency_ms=-1",
        "latency_ms=nan",
        "retry_after=inf;err=503",
        "usage=often",
        "finish=a/b",
        "no_done=perhaps",
        "err_rate=0.5",
        "retry_after=1",
        "cut_after=1;rst_after=2",
        "chunks=0",
        "=1",
    ],
)
def test_a_wrong_text_is_refused(text):
    with pytest.raises(FaultError):
        Fault.parse(text)


def test_the_readme_has_the_table_of_the_code():
    readme = Path(__file__).parents[2] / "bench" / "README.md"
    assert table() in readme.read_text(), "run `python -m bench.chaos --faults` and paste its output"
