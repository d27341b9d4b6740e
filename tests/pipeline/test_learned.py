"""What was learned comes back from its bytes as it was, and bytes that are not its own are no reason to fail."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sentinel_gateway.core.confidence.curve import Point
from sentinel_gateway.core.confidence.learner import Fit, Learner, Observation, Prior
from sentinel_gateway.core.confidence.window import BLOCK
from sentinel_gateway.pipeline.learned import BEGINNING, PIECE, fitted, read, written
from tests.core.confidence.test_learner import drawn, pair, same, taught


def test_more_than_a_piece_of_everything_comes_back():
    learner = taught(drawn(40))
    for number in range(2 * PIECE + 1):
        near = {f"n{number}": True, "hub": False}
        learner.learn(Observation(f"e{number}", pair(0.9), 0.5, right=True, asked=f"a{number}", around=0.5, compared=near))
        learner.rarity.count([f"w{number}"])
    back = Learner.restore(read(written(learner.state())))
    assert same(back.state(), learner.state())
    assert back.kinship.around("n7", ["a7"]) == learner.kinship.around("n7", ["a7"]) != (0.0, 0.0)
    assert (back.around("a7"), back.rarity.of("w7")) == (0.5, learner.rarity.of("w7"))


def test_the_fit_is_read_alone():
    fit = Fit(Prior().weights, (Point(0.5, 0.1, 0.2),), 400)
    kept = written(replace(Learner().state(), fit=fit))
    assert fitted(kept) == fit
    large = written(replace(taught(drawn(3 * BLOCK)).state(), fit=fit))
    assert len(large) > BEGINNING
    assert fitted(large[:BEGINNING]) == fit, "in its beginning"
    assert fitted(written(replace(Learner().state(), version=0))) is None


@given(st.binary(max_size=40) | st.lists(st.binary(max_size=9)).map(msgspec.msgpack.encode))
def test_bytes_of_anything_else_are_nothing(kept):
    assert read(kept) is None
    assert fitted(kept) is None


@pytest.mark.parametrize("place", [0, 1, -1])
def test_a_piece_that_is_damaged_spoils_the_whole(place):
    pieces = msgspec.msgpack.decode(written(taught(drawn(40)).state()))
    pieces[place] = pieces[place][:-3]
    assert read(msgspec.msgpack.encode(pieces)) is None
