"""A sealed entry is read back whole or not at all."""

import pickle
import random
import sqlite3

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.stores._sealing import VERSION, seal, unseal
from tests.contract.stores.conftest import make_entry, until

FLIPS = 10_000


def flipped(blob: bytes, bit: int) -> bytes:
    damaged = bytearray(blob)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def entry_of(n: int):
    return make_entry(f"{n:064x}", body=random.Random(n).randbytes(n * 7 % 3000), tags=("a", "b"), prompt_tokens=n, writer="w")


@given(st.text(), st.binary(), st.floats(allow_nan=False), st.integers(-(2**63), 2**64 - 1), st.lists(st.text()).map(tuple))
def test_what_is_sealed_is_unsealed(key, body, created, tokens, tags):
    entry = make_entry("k", body=body, created=created, prompt_tokens=tokens, tags=tags)
    entry = msgspec.structs.replace(entry, key=key)
    try:
        sealed = seal(entry)
    except UnicodeEncodeError:
        assert any("\ud800" <= letter <= "\udfff" for text in (key, *tags) for letter in text)
    else:
        assert unseal(sealed, key) == entry


def test_of_ten_thousand_flipped_bits_none_is_served():
    chance = random.Random(0)
    for n in range(100):
        entry = entry_of(n)
        sealed = seal(entry)
        assert unseal(sealed, entry.key) == entry
        for _ in range(FLIPS // 100):
            assert unseal(flipped(sealed, chance.randrange(len(sealed) * 8)), entry.key) is None


def test_every_cut_is_noticed():
    sealed = seal(entry_of(3))
    assert all(unseal(sealed[:length], entry_of(3).key) is None for length in range(len(sealed)))
    assert unseal(sealed + b"\x00", entry_of(3).key) is None


def test_an_entry_under_another_key_is_not_served():
    assert unseal(seal(make_entry("a")), "b") is None


def test_another_version_is_a_miss():
    assert unseal(b"\x01" + seal(make_entry("a"))[len(VERSION) :], "a") is None


@pytest.mark.parametrize("blob", [None, b"", VERSION, b"\x00" * 100, pickle.dumps(make_entry("a"))])
def test_what_was_never_sealed_is_a_miss(blob):
    assert unseal(blob, "a") is None


def test_a_proven_blob_of_another_shape_is_a_miss():
    class Other(msgspec.Struct):
        key: str

    assert unseal(seal(Other("a")), "a") is None


@pytest.mark.anyio
async def test_flipped_bits_in_the_file_are_misses_deleted_counted_and_told_once(sqlite, tmp_path, told):
    entries = [entry_of(n) for n in range(400)]
    for entry in entries:
        sqlite.put(entry)
    await sqlite.flush()
    chance = random.Random(1)
    with sqlite3.connect(tmp_path / "cache.db") as other:
        for row, sealed in other.execute("SELECT id, sealed FROM replies").fetchall():
            other.execute("UPDATE replies SET sealed = ? WHERE id = ?", (flipped(sealed, chance.randrange(len(sealed) * 8)), row))
    other.close()
    assert [await sqlite.get(entry.key) for entry in entries] == [None] * 400
    assert sqlite.corrupt == 400
    assert await sqlite.count() == 0
    await until(lambda: told.names == ["store_entry_corrupt"])
    sqlite.put(entries[0])
    await sqlite.flush()
    assert await sqlite.get(entries[0].key) == entries[0]


@pytest.mark.anyio
@pytest.mark.parametrize("value", ["NULL", "1", "2.5", "x'fffe'", "CAST(x'fffe' AS TEXT)", "'text'"])
async def test_a_row_of_another_type_is_a_miss_and_deleted(sqlite, tmp_path, value):
    sqlite.put(make_entry("k"))
    await sqlite.flush()
    with sqlite3.connect(tmp_path / "cache.db") as other:
        other.execute(f"UPDATE replies SET sealed = {value}")
    other.close()
    assert await sqlite.get("k") is None
    assert await sqlite.count() == 0
    assert sqlite.corrupt == 1


@pytest.mark.anyio
async def test_two_keys_of_one_digest_never_answer_for_each_other(sqlite, tmp_path):
    sqlite.put(make_entry("a"))
    sqlite.put(make_entry("b"))
    await sqlite.flush()
    with sqlite3.connect(tmp_path / "cache.db") as other:
        (first, second) = [row for (row,) in other.execute("SELECT hash FROM replies ORDER BY id")]
        other.execute("DELETE FROM replies WHERE hash = ?", (second,))
        other.execute("UPDATE replies SET hash = ? WHERE hash = ?", (second, first))
    other.close()
    assert await sqlite.get("b") is None
