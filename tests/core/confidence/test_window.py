"""The last requests, in blocks: bounded, and what was handed out never changes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.core.confidence.window import BLOCK, WIDTH, Row, Window


def row(number: int, right: float = 1.0, mark: int = 0) -> Row:
    return Row((float(number),) * WIDTH, 0.5, right, 1.0, float(number), mark)


def filled(count: int, most: int) -> Window:
    window = Window(most)
    for number in range(count):
        window.append(row(number, mark=number))
    return window


def times(blocks) -> list[float]:
    return [at for block in blocks for at in block["at"].tolist()]


@given(st.integers(0, 3 * BLOCK + 7), st.integers(1, 2 * BLOCK + 5))
def test_the_last_rows_are_held_in_order(count, most):
    window = filled(count, most)
    assert times(window.blocks()) == [float(number) for number in range(max(0, count - most), count)]
    assert len(window) == min(count, most)
    assert repr(window) == f"<Window of {min(count, most)} rows>"


@given(st.integers(0, 2 * BLOCK + 7), st.integers(0, 2 * BLOCK), st.integers(1, BLOCK + 5))
def test_it_goes_on_from_blocks_that_were_kept(before, after, most):
    window = Window(most, filled(before, most).blocks())
    for number in range(before, before + after):
        window.append(row(number))
    whole = before + after
    assert times(window.blocks()) == [float(number) for number in range(max(0, whole - most), whole)]


def test_what_was_handed_out_does_not_change():
    window = filled(BLOCK + 3, 2 * BLOCK)
    blocks = window.blocks()
    before = [block.copy() for block in blocks]
    for mark in (5, BLOCK + 1):
        window.tell(mark, 1.0, 0.0)
    for number in range(2 * BLOCK):
        window.append(row(number))
    assert all(np.array_equal(one, other) for one, other in zip(blocks, before, strict=True))


def test_a_row_is_found_by_its_mark_and_told_anew():
    window = filled(BLOCK + 3, 2 * BLOCK)
    window.append(row(0, math.nan, mark=5))
    newest, oldest = window.find(5)
    assert (math.isnan(newest.right), oldest.right, oldest.features[0]) == (True, 1.0, 5.0)
    window.tell(5, 1.0, 0.0)
    assert [found.right for found in window.find(5)] == [pytest.approx(math.nan, nan_ok=True), 0.0]
    window.tell(5, math.nan, 1.0)
    assert [found.right for found in window.find(5)] == [1.0, 0.0]
    assert [found.right for found in window.find(6)] == [1.0]
    assert window.find(9 * BLOCK) == []


def test_a_window_without_rows_takes_no_memory():
    assert Window(10_000).nbytes == 0
    assert filled(1, 10_000).nbytes == filled(BLOCK, 10_000).nbytes


def test_a_name_that_no_row_has_voids_nothing():
    window = filled(BLOCK + 3, 2 * BLOCK)
    before = window.blocks()
    window.void(10 * BLOCK)
    assert [block.tobytes() for block in window.blocks()] == [block.tobytes() for block in before]
