"""Frames: what was written is read again, and of what was cut or changed nothing but what stood before it."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.ledger.frames import ALL, HEAD, OUTCOMES, Begun, framed, read
from sentinel_gateway.ports.ledger import Intent
from tests.ledger.rows import asked, handled, spent

ROWS = [asked(1), spent(1), handled(1), handled(2), asked(3), spent(3)]
FRAMES = [bytes(framed(ROWS[:1])), bytes(framed(ROWS[1:4])), bytes(framed(ROWS[4:]))]
WHOLE = b"".join(FRAMES)


def test_rows_come_back_as_they_were():
    found = read(WHOLE, ALL)
    assert found.rows == ROWS
    assert (found.end, found.rest, found.damaged) == (len(WHOLE), 0, False)


def test_who_looks_for_outcomes_finds_of_an_intent_that_there_is_one():
    found = read(WHOLE, OUTCOMES)
    assert found.rows == [Begun() if isinstance(row, Intent) else row for row in ROWS]
    assert (found.end, found.rest, found.damaged) == (len(WHOLE), 0, False)


@given(st.integers(0, len(WHOLE)))
def test_cut_anywhere_all_whole_frames_are_read(cut):
    found = read(WHOLE[:cut], ALL)
    ends = [len(b"".join(FRAMES[:count])) for count in range(4)]
    assert found.end == max(end for end in ends if end <= cut)
    assert found.rows == ROWS[: {ends[0]: 0, ends[1]: 1, ends[2]: 4, ends[3]: 6}[found.end]]
    assert found.rest == cut - found.end
    assert not found.damaged


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_a_changed_byte_costs_its_frame_and_what_follows(at, change):
    changed = bytearray(WHOLE)
    changed[at] ^= change
    found = read(bytes(changed), ALL)
    assert found.rows == ROWS[: len(found.rows)]
    assert found.end <= at
    assert found.rest


def test_zeros_after_a_power_cut_are_a_torn_tail_and_no_damage():
    found = read(FRAMES[0] + bytes(4096), ALL)
    assert (found.rows, found.rest, found.damaged) == (ROWS[:1], 4096, False)


def test_a_whole_frame_of_something_else_is_damage():
    other = bytearray(framed(ROWS[:1]))
    other[HEAD.size + 2 :] = random.Random(0).randbytes(len(other) - HEAD.size - 2)
    assert read(FRAMES[0] + bytes(other), ALL).damaged


@pytest.mark.parametrize("limit", [1, 2, 4, 5])
def test_it_is_read_in_pieces(limit):
    rows, at = [], 0
    while (found := read(WHOLE, ALL, at, limit=limit)).rows:
        rows += found.rows
        at = found.end
    assert rows == ROWS
