"""What an archive of questions and vectors promises: all that is stored, each vector under its own question, and nothing else."""

import asyncio
import contextlib
import itertools
import random
import sqlite3
import tempfile
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
import uvloop
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from sentinel_gateway.core.caching import Selector
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.stores.sqlite import SqliteLimits
from tests.contract.stores.conftest import NOW, Told, make_entry, open_sqlite, until

MODEL = "mini"
PAGE = 500


def make_question(key: str, **changes):
    return make_entry(key, **{"scope": "s", "text": f"What is {key!a}?"} | changes)


def vector_of(key: str) -> bytes:
    return random.Random(key).randbytes(1536)


async def listed(store, model=MODEL) -> dict:
    """Key -> head and vector, of all questions; each stands there once."""
    found = [question async for page in store.heads(model=model) for question in page]
    by_key = {head.key: (head, vector) for head, vector in found}
    assert len(by_key) == len(found)
    return by_key


async def put_all(store, *entries, vectors=True) -> None:
    for entry in entries:
        store.put(entry)
    if vectors:
        store.keep_vectors([(entry.key, vector_of(entry.key)) for entry in entries], model=MODEL)
    await store.flush()


@contextlib.contextmanager
def opened(folder):
    """The file, behind the store's back."""
    with contextlib.closing(sqlite3.connect(folder / "cache.db", isolation_level=None)) as database:
        yield database


def rows(folder) -> tuple[int, int]:
    """Replies and questions in the file; no question stands without its reply."""
    with opened(folder) as database:
        assert database.execute("SELECT count(*) FROM questions WHERE id NOT IN (SELECT id FROM replies)").fetchone() == (0,)
        return database.execute("SELECT (SELECT count(*) FROM replies), (SELECT count(*) FROM questions)").fetchone()


@pytest.mark.anyio
async def test_questions_come_back_with_their_vectors_also_after_a_restart(tmp_path, told):
    store = await open_sqlite(tmp_path, told)
    full = make_question("full", prompt_tokens=7, tenant="t", namespace="n", writer="w", tags=("a", "b"), text="日本語 🦔" * 3000)
    bare = make_question("bare")
    await put_all(store, full)
    await put_all(store, bare, make_entry("exact only"), vectors=False)
    expected = {"full": (full.head(), vector_of("full")), "bare": (bare.head(), None)}
    assert await listed(store) == expected
    await store.close()
    store = await open_sqlite(tmp_path, told)
    assert await listed(store) == expected
    assert await store.get("full") == full
    await store.close()
    assert told.events == []


@pytest.mark.anyio
async def test_a_question_does_not_bring_its_answer_along(sqlite, tmp_path):
    await put_all(sqlite, make_question("k", body=bytes(100_000)), vectors=False)
    with opened(tmp_path) as database:
        assert database.execute("SELECT length(head) FROM questions").fetchone()[0] < 500


@pytest.mark.anyio
async def test_an_empty_store_has_no_page(sqlite):
    assert [page async for page in sqlite.heads(model=MODEL)] == []


@pytest.mark.anyio
async def test_a_vector_counts_for_the_model_that_made_it(sqlite):
    await put_all(sqlite, make_question("k"))
    assert (await listed(sqlite, "other"))["k"][1] is None
    sqlite.keep_vectors([("k", b"newer")], model="other")
    await sqlite.flush()
    assert (await listed(sqlite, "other"))["k"][1] == b"newer"
    assert (await listed(sqlite))["k"][1] is None


@pytest.mark.anyio
async def test_a_vector_whose_question_is_not_there_is_nobodys(sqlite, told):
    await put_all(sqlite, make_question("gone"), make_question("replaced"), make_question("exact"))
    assert await sqlite.clear(Selector(), NOW) == 3
    await put_all(sqlite, make_entry("exact"))
    sqlite.keep_vectors([("gone", b"v"), ("never", b"v")], model=MODEL)
    await sqlite.flush()
    assert await listed(sqlite) == {}
    assert sqlite.dropped == 0
    assert told.events == []


@pytest.mark.anyio
async def test_a_new_answer_starts_without_a_vector(sqlite, tmp_path):
    await put_all(sqlite, make_question("k"), make_question("exact"))
    newer = make_question("k", created=NOW + 1)
    await put_all(sqlite, newer, make_entry("exact"), vectors=False)
    assert await listed(sqlite) == {"k": (newer.head(), None)}
    assert rows(tmp_path) == (2, 1)


@pytest.mark.anyio
async def test_what_has_expired_is_left_out(tmp_path, told):
    clock = itertools.count(NOW)
    store = await open_sqlite(tmp_path, told, clock=lambda: next(clock))
    await put_all(store, make_question("short", expires=NOW + 100), make_question("long"))
    assert (await listed(store)).keys() == {"short", "long"}
    clock = itertools.count(NOW + 100)
    assert (await listed(store)).keys() == {"long"}
    await store.close()


@pytest.mark.anyio
async def test_what_cannot_be_encoded_is_dropped_alone(sqlite):
    sqlite.put(make_question("k", text="\ud800"))
    sqlite.keep_vectors([("\ud800", b"v"), ("before", b"v")], model=MODEL)
    sqlite.put(make_question("after"))
    with pytest.raises(StoreDown, match="2 entries or vectors could not be written"):
        await sqlite.flush()
    assert (await listed(sqlite)).keys() == {"after"}


# Pages


@pytest.mark.anyio
async def test_pages_are_bounded_and_hold_everything_once(sqlite):
    keys = [str(n) for n in range(2 * PAGE + 1)]
    await put_all(sqlite, *map(make_question, keys))
    pages = [page async for page in sqlite.heads(model=MODEL)]
    assert [len(page) for page in pages] == [PAGE, PAGE, 1]
    assert [(head.key, vector) for page in pages for head, vector in page] == [(key, vector_of(key)) for key in keys]


@pytest.mark.anyio
async def test_a_look_up_that_waits_goes_first(sqlite):
    keys = [str(n) for n in range(2 * PAGE)]
    await put_all(sqlite, *map(make_question, keys))
    sizes, order = [], []

    async def read():
        async for page in sqlite.heads(model=MODEL):
            sizes.append(len(page))
            order.append("page")

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await anyio.lowlevel.checkpoint()
        for _ in range(20):
            assert await sqlite.get("1") is not None
            order.append("look-up")
    assert sum(sizes) == 2 * PAGE
    assert sizes[0] < PAGE
    assert order.index("look-up") < order.count("page") - 1


@pytest.mark.anyio
async def test_puts_and_clears_go_on_between_the_pages(sqlite, told):
    await put_all(sqlite, *(make_question(f"{n}", namespace="ab"[n % 2]) for n in range(3 * PAGE)))
    seen = []
    async for page in sqlite.heads(model=MODEL):
        if not seen:
            assert await sqlite.clear(Selector(namespace="b"), NOW) == 3 * PAGE // 2
            await put_all(sqlite, make_question("2"), vectors=False)
        seen += [head.key for head, _ in page]
    assert seen[:PAGE] == [f"{n}" for n in range(PAGE)]
    assert seen[PAGE:] == [f"{n}" for n in range(PAGE, 3 * PAGE, 2)] + ["2"]
    assert told.events == []


@pytest.mark.anyio
async def test_clearing_everything_between_the_pages_ends_them(sqlite, told):
    await put_all(sqlite, *(make_question(f"{n}") for n in range(3 * PAGE)))
    pages = 0
    async for _ in sqlite.heads(model=MODEL):
        pages += 1
        assert await sqlite.clear(Selector(), NOW) in {3 * PAGE, 0}
    assert pages == 1
    assert told.events == []


# Questions go with their replies


@pytest.mark.anyio
@pytest.mark.parametrize(
    "selector",
    [
        Selector(),
        Selector(namespace="n"),
        Selector(model="m"),
        Selector(tag="t"),
        Selector(writer="w"),
        Selector(older_than=60.0),
    ],
)
async def test_a_clear_takes_the_questions_along(sqlite, tmp_path, selector):
    hits = [make_question(f"h{n}", namespace="n", model="m", tags=("t",), writer="w", created=NOW - 61) for n in range(700)]
    await put_all(sqlite, *hits, make_question("stays"))
    assert rows(tmp_path) == (701, 701)
    cleared = await sqlite.clear(selector, NOW)
    assert rows(tmp_path) == (701 - cleared, 701 - cleared)
    assert (await listed(sqlite)).keys() == (set() if selector.everything else {"stays"})


@pytest.mark.anyio
async def test_an_eviction_takes_the_questions_along(tmp_path, told):
    store = await open_sqlite(tmp_path, told, limits=SqliteLimits(max_bytes=4 << 20, deadline=5.0))
    for n in range(0, 2500, 250):
        await put_all(store, *(make_question(str(m), created=NOW - 2500 + m) for m in range(n, n + 250)))
    for _ in range(10):
        await store.flush()  # each waits for the upkeep after the one before
    replies, questions = rows(tmp_path)
    assert 0 < replies == questions < 2000
    kept = await listed(store)
    assert kept.keys() == {str(n) for n in range(2500 - replies, 2500)}
    assert all(vector == vector_of(key) for key, (_, vector) in kept.items())
    await store.close()
    assert (tmp_path / "cache.db").stat().st_size < 6 << 20


@pytest.mark.anyio
async def test_expired_ones_leave_the_file(tmp_path, told):
    clock = itertools.count(NOW)
    store = await open_sqlite(tmp_path, told, clock=lambda: next(clock))
    await put_all(
        store, *(make_question(str(n), expires=NOW + 3000) for n in range(1200)), make_question("stays", expires=NOW + 9e9)
    )
    clock = itertools.count(NOW + 3601)
    with anyio.fail_after(10):
        while await store.count() > 1:
            await store.flush()
    assert rows(tmp_path) == (1, 1)
    await store.close()


@pytest.mark.anyio
async def test_a_reply_that_cannot_be_read_takes_its_question_along(sqlite, tmp_path):
    await put_all(sqlite, make_question("k"), make_question("other"))
    with opened(tmp_path) as database:
        database.execute("UPDATE replies SET sealed = x'00' WHERE id = 1")
    assert await sqlite.get("k") is None
    assert await sqlite.count() == 1
    assert rows(tmp_path) == (1, 1)
    assert (await listed(sqlite)).keys() == {"other"}


class Archiving(RuleBasedStateMachine):
    """The store against two dictionaries."""

    KEYS = st.sampled_from([f"key-{n}" for n in range(6)])

    def __init__(self):
        super().__init__()
        self.entries, self.vectors = {}, {}
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.told = Told()
        self.open()

    def open(self):
        self.store = self.runner.run(open_sqlite(Path(self.folder.name), self.told))

    @rule(key=KEYS, scope=st.sampled_from(["", "a", "b"]), writer=st.sampled_from("vw"), tokens=st.integers(0, 9))
    def put(self, key, scope, writer, tokens):
        self.entries[key] = make_question(key, scope=scope, writer=writer, prompt_tokens=tokens)
        self.vectors.pop(key, None)
        self.store.put(self.entries[key])

    @rule(keys=st.lists(KEYS, max_size=4), model=st.sampled_from([MODEL, "other"]), vector=st.binary(max_size=9))
    def keep(self, keys, model, vector):
        self.store.keep_vectors([(key, vector) for key in keys], model=model)
        self.vectors |= {key: (model, vector) for key in keys if key in self.entries}

    @rule(writer=st.sampled_from(["v", "w", None]))
    def clear(self, writer):
        self.runner.run(self.store.clear(Selector(writer=writer), NOW))
        for key in [key for key, entry in self.entries.items() if writer in {entry.writer, None}]:
            del self.entries[key]
            self.vectors.pop(key, None)

    @rule()
    def restart(self):
        self.runner.run(self.store.close())
        self.open()

    @rule(model=st.sampled_from([MODEL, "other"]))
    def compare(self, model):
        self.runner.run(self.store.flush())
        expected = {}
        for key, entry in self.entries.items():
            made_by, vector = self.vectors.get(key, ("", None))
            if entry.scope:
                expected[key] = (entry.head(), vector if made_by == model else None)
        assert self.runner.run(listed(self.store, model)) == expected
        assert rows(Path(self.folder.name)) == (len(self.entries), len(expected))

    @invariant()
    def nothing_to_tell(self):
        assert self.told.events == []

    def teardown(self):
        self.runner.run(self.store.close())
        self.runner.close()
        self.folder.cleanup()


@pytest.mark.hypothesis
def test_it_agrees_with_two_dictionaries():
    examples = settings(max_examples=20, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    run_state_machine_as_test(Archiving, settings=examples)


# Under pressure, and when the file is bad


@pytest.mark.anyio
async def test_vectors_that_find_no_room_are_dropped_silently_and_counted(tmp_path, told):
    store = await open_sqlite(tmp_path, told, limits=SqliteLimits(queue_bytes=10 << 10, deadline=5.0))
    await put_all(store, *(make_question(str(n)) for n in range(20)), vectors=False)
    store.keep_vectors([(str(n), vector_of(str(n))) for n in range(20)], model=MODEL)
    assert store.dropped == 20 - 6
    await store.flush()
    kept = [key for key, (_, vector) in (await listed(store)).items() if vector is not None]
    assert kept == [str(n) for n in range(6)]
    await store.close()
    store.keep_vectors([("1", b"v")], model=MODEL)
    assert store.dropped == 15
    assert told.events == []


@pytest.mark.anyio
async def test_a_long_question_takes_room_in_the_queue(tmp_path, told):
    store = await open_sqlite(tmp_path, told, limits=SqliteLimits(queue_bytes=10 << 10, deadline=5.0))
    assert not store.put(make_question("k", text="a" * (10 << 10)))
    assert store.dropped == 1
    await store.close()


@pytest.mark.anyio
@pytest.mark.parametrize("column", ["head", "vector"])
async def test_flipped_bits_are_missing_questions_or_vectors_and_never_wrong_ones(sqlite, tmp_path, told, column):
    questions = {str(n): make_question(str(n), prompt_tokens=n) for n in range(400)}
    await put_all(sqlite, *questions.values())
    chance = random.Random(1)
    with opened(tmp_path) as database:
        for row, sealed in database.execute(f"SELECT id, {column} FROM questions").fetchall():
            damaged = bytearray(sealed)
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
            database.execute(f"UPDATE questions SET {column} = ? WHERE id = ?", (bytes(damaged), row))
    without = {} if column == "head" else {key: (entry.head(), None) for key, entry in questions.items()}
    assert await listed(sqlite) == without
    await sqlite.flush()
    assert sqlite.corrupt == 400
    assert rows(tmp_path) == (400, len(without))
    assert await listed(sqlite) == without
    assert sqlite.corrupt == 400, "what was damaged is gone"
    await until(lambda: told.names == ["store_entry_corrupt"])
    await put_all(sqlite, *questions.values())
    assert await listed(sqlite) == {key: (entry.head(), vector_of(key)) for key, entry in questions.items()}


@pytest.mark.anyio
@pytest.mark.parametrize("column", ["head", "vector"])
@pytest.mark.parametrize("value", ["NULL", "1", "2.5", "x'fffe'", "CAST(x'fffe' AS TEXT)", "'text'"])
async def test_a_column_of_another_type_is_not_there(sqlite, tmp_path, column, value):
    await put_all(sqlite, make_question("k"))
    with opened(tmp_path) as database:
        database.execute(f"UPDATE questions SET {column} = {value}")
    assert await listed(sqlite) == ({} if column == "head" else {"k": (make_question("k").head(), None)})


@pytest.mark.anyio
async def test_a_vector_never_stands_under_another_question(sqlite, tmp_path):
    await put_all(sqlite, make_question("a"), make_question("b"))
    with opened(tmp_path) as database:
        swapped = database.execute("SELECT vector, 3 - id FROM questions").fetchall()
        database.executemany("UPDATE questions SET vector = ? WHERE id = ?", swapped)
    assert await listed(sqlite) == {key: (make_question(key).head(), None) for key in "ab"}
    assert sqlite.corrupt == 2


@pytest.mark.anyio
async def test_a_question_in_the_vectors_place_is_none(sqlite, tmp_path):
    await put_all(sqlite, make_question("k"))
    with opened(tmp_path) as database:
        database.execute("UPDATE questions SET vector = head, head = vector")
    assert await listed(sqlite) == {}


@pytest.mark.anyio
async def test_a_store_without_its_file_ends_early_and_tells_once(tmp_path, told):
    folder = tmp_path / "data"
    folder.write_text("not a folder")
    store = await open_sqlite(folder, told)
    assert await listed(store) == {}
    assert told.names.count("store_questions_unread") == 1
    assert told.fields("store_questions_unread") == {"tier": "disk", "reason": "the cache file is not open"}
    await store.close()


@pytest.mark.anyio
async def test_a_closed_store_has_no_questions_and_tells_nothing(tmp_path, told):
    store = await open_sqlite(tmp_path, told)
    await put_all(store, *(make_question(f"{n}") for n in range(2 * PAGE)))
    pages = 0
    async for _ in store.heads(model=MODEL):
        pages += 1
        await store.close()
    assert pages == 1
    assert told.events == []
