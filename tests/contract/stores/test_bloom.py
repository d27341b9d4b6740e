"""The filter never denies what was added, and seldom takes a stranger for a member."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.stores._bloom import BloomFilter

HASHES = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(HASHES), st.sampled_from([1, 64, 1 << 22]))
def test_what_was_added_is_never_denied(hashes, size):
    bloom = BloomFilter(size)
    bloom.add(hashes)
    assert all(hashed in bloom for hashed in hashes)
    assert bloom.added == len(hashes)


@given(HASHES)
def test_nothing_is_in_an_empty_one(hashed):
    assert hashed not in BloomFilter(64)


@pytest.mark.parametrize(("bits", "share"), [(168, 0.00014), (33.5, 0.0034), (16.8, 0.0126)])
def test_strangers_are_taken_for_members_as_seldom_as_said(bits, share):
    chance = random.Random(0)
    size = 1 << 17
    bloom = BloomFilter(size)
    bloom.add([chance.getrandbits(64) - 2**63 for _ in range(int(size * 8 / bits))])
    wrong = sum(chance.getrandbits(64) - 2**63 in bloom for _ in range(100_000))
    assert wrong == pytest.approx(share * 100_000, rel=0.1, abs=12)
