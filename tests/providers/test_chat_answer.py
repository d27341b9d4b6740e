"""Chunks as they are written: more text is written into the frame of the chunk before, and means what a whole one would."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.core.streaming import Fold
from sentinel_gateway.providers._chat_answer import Tokens, Writer

SAYING = st.one_of(
    st.text(),
    st.sampled_from([("thought", "hm"), ("calls", 0), ("name", "a", "m"), ("name", "b", "m"), ("name", None, None)]),
)


def written(sayings):
    """The chunks of these, and the same from a writer that is new for each."""
    writer, frames, said, names = Writer(created=7, model="asked"), [], set(), []
    for index, saying in sayings:
        alone = Writer(created=7, model="asked")
        for name in names:
            alone.name(*name)
        if index in said:
            alone.delta({"refusal": "x"}, index)
        match saying:
            case str(text):
                frames.append((writer.delta({"content": text}, index), alone.delta({"content": text}, index)))
            case ("thought", text):
                frames.append(tuple(one.delta({"reasoning_content": text}, index) for one in (writer, alone)))
            case ("calls", number):
                frames.append(tuple(one.delta({"tool_calls": [{"index": number}]}, index) for one in (writer, alone)))
            case ("name", *name):
                writer.name(*name)
                names.append(name)
                continue
        said.add(index)
    return frames


@given(st.lists(st.tuples(st.integers(0, 2), SAYING), max_size=12))
def test_a_framed_chunk_is_the_bytes_of_a_whole_one(sayings):
    for framed, whole in written(sayings):
        assert framed.raw == whole.raw
        assert framed.fields == msgspec.json.decode(whole.raw)


@given(st.lists(st.tuples(st.integers(0, 2), SAYING), max_size=12))
def test_it_is_folded_as_a_whole_one(sayings):
    folds = [Fold(expected=3, max_bytes=1_000_000) for _ in range(2)]
    for framed, whole in written(sayings):
        if framed.more is None:
            folds[0].add(framed.fields, len(framed.raw))
        else:
            folds[0].add_text(framed.more, len(framed.raw))
        folds[1].add(whole.fields, len(whole.raw))
    assert folds[0].answer() == folds[1].answer()


@pytest.mark.parametrize("between", ["nothing", "another choice", "a thought", "a name", "the end", "the usage"])
def test_only_the_same_again_is_framed(between):
    writer = Writer(created=7, model="asked")
    writer.delta({"content": "a"})
    match between:
        case "another choice":
            writer.delta({"content": "b"}, 1)
        case "a thought":
            writer.delta({"reasoning_content": "b"})
        case "a name":
            writer.name("another", "asked")
        case "the end":
            writer.end("stop")
        case "the usage":
            writer.usage(Tokens())
    assert (writer.delta({"content": "c"}).more == "c") is (between == "nothing")
