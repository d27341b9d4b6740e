"""What every tier promises to whoever looks through it: pages that miss nothing, and a preview that is the clear itself."""

import asyncio
import math
import sqlite3
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sentinel_gateway.core.browsing import FOREVER, Page, Place, View, page_of
from sentinel_gateway.core.caching import Selector
from sentinel_gateway.stores import _sqlite_pages, _sqlite_rows
from sentinel_gateway.stores._redis_values import Values, read_text
from sentinel_gateway.stores.sqlite import SqliteLimits
from tests.contract.stores.conftest import NOW, REDIS, Told, make_entry, open_adapter, open_sqlite, open_working
from tests.contract.stores.test_clear_model import ENTRIES, SELECTORS

pytestmark = pytest.mark.anyio

TEN_MINUTES = 600.0


async def walk(store, view, *, now=NOW, most=7) -> list:
    """Every head of a view, a page at a time. Ends, and never tells an entry twice."""
    heads, after, pages = [], None, 0
    while True:
        page = await store.page(view, now, after=after, most=most)
        assert len(page.heads) <= most
        heads += page.heads
        after, pages = page.next, pages + 1
        if after is None:
            break
        assert pages < 1000
    assert len({head.key for head in heads}) == len(heads)
    return heads


def keys(heads) -> list[str]:
    return [head.key for head in heads]


async def fill(store, entries) -> None:
    for entry in entries:
        assert store.put(entry)
    await store.flush()


def spread(count: int) -> list:
    """Entries of several ages and ends, in no order; every third has a question."""
    return [
        make_entry(
            f"{n:03}",
            created=NOW - 60.0 * (n * 7 % count),
            expires=NOW + 3600.0 + TEN_MINUTES * (n * 11 % count),
            tenant=f"t{n % 2}",
            tags=("even",) if n % 2 == 0 else ("odd", "even odd"),
            model=f"mock/m{n % 3}",
            scope="s" if n % 3 == 0 else "",
            text=f"What is the price of {n} Äpfel?" if n % 3 == 0 else "",
        )
        for n in range(count)
    ]


@pytest.mark.parametrize("order", ["created", "expires"])
@pytest.mark.parametrize("rising", [False, True])
async def test_pages_tell_each_entry_once_and_in_order(store, order, rising):
    if order not in store.orders:
        assert order == "created", "by expiry all can"
        return
    entries = spread(60)
    await fill(store, entries)
    heads = await walk(store, View(order=order, rising=rising))
    assert [getattr(head, order) for head in heads] == sorted((getattr(one, order) for one in entries), reverse=not rising)
    assert [replace(head, text="") for head in heads] == [
        replace(next(one for one in entries if one.key == head.key).head(), text="") for head in heads
    ]


@pytest.mark.parametrize(
    "chosen",
    [
        {"selector": Selector(tenant="t1")},
        {"selector": Selector(tag="odd", model="mock/m1")},
        {"selector": Selector(older_than=1500.0)},
        {"newer_than": 1500.0},
        {"selector": Selector(older_than=600.0), "newer_than": 1500.0},
        {"words": ("äpfel",)},
        {"words": ("PRICE", "of 3")},
        {"words": ("price", "pears")},
        {"selector": Selector(tenant="t0"), "words": ("price",)},
    ],
    ids=str,
)
async def test_a_view_shows_what_it_means(store, chosen):
    entries = spread(40)
    await fill(store, entries)
    view = View(order="expires", **chosen)
    heads = await walk(store, view)
    meant = [one for one in entries if view.matches(one, NOW)]
    assert sorted(keys(heads)) == sorted(one.key for one in meant)
    assert len(meant) not in {0, 40} or chosen == {"words": ("price", "pears")}
    assert {head.key: head.text for head in heads} == {one.key: one.text for one in meant}


@pytest.mark.parametrize("rising", [False, True])
async def test_what_is_pinned_or_over_is_told_apart(store, rising):
    await fill(
        store,
        [
            *(make_entry(f"pinned-{n}", expires=FOREVER) for n in range(12)),
            *(make_entry(f"live-{n}", expires=NOW + 100 + n) for n in range(12)),
            *(make_entry(f"over-{n}", expires=NOW - n) for n in range(12)),
        ],
    )
    found = {
        state: await walk(store, View(state=state, order="expires", rising=rising), most=5)
        for state in ("live", "pinned", "expired", "all")
    }
    assert {state: {key.partition("-")[0] for key in keys(heads)} for state, heads in found.items()} == {
        "live": {"pinned", "live"},
        "pinned": {"pinned"},
        "expired": {"over"},
        "all": {"pinned", "live", "over"},
    }
    assert {state: len(heads) for state, heads in found.items()} == {"live": 24, "pinned": 12, "expired": 12, "all": 36}


async def test_a_page_goes_on_where_it_ended_though_that_entry_has_gone(store):
    entries = [make_entry(f"{n:02}", created=NOW - n, expires=NOW + 6000.0 * (20 - n)) for n in range(20)]
    await fill(store, entries)
    view = View(order="expires")
    first = await store.page(view, NOW, after=None, most=5)
    assert keys(first.heads) == [one.key for one in entries[:5]]
    await store.clear(Selector(keys=frozenset({entries[4].key})), NOW)
    rest, after = [], first.next
    while after is not None:
        page = await store.page(view, NOW, after=after, most=50)
        rest, after = [*rest, *keys(page.heads)], page.next
    assert rest == [one.key for one in entries[5:]]


@pytest.mark.parametrize("mark", ["", "\x00", "no row", "9" * 40, "-1", "\udcff"])
@pytest.mark.parametrize("at", [-1e308, 0.0, NOW, 1e308])
async def test_a_place_of_another_store_is_as_good_as_any(store, at, mark):
    await fill(store, spread(5))
    page = await store.page(View(order="expires"), NOW, after=Place(at, mark), most=10)
    assert len(page.heads) <= 5


@pytest.mark.parametrize("adapter", ["memory", "sqlite", *REDIS])
def test_a_preview_is_the_clear_itself(adapter, request, tmp_path_factory):
    """Whatever the selector: as many, and of the same."""

    async def compare(entries, selector, drift):
        store = await open_adapter(adapter, tmp_path_factory.mktemp("preview"), Told(), request.getfixturevalue)
        try:
            for entry in entries:
                store.put(entry)
            selection = await store.select(selector, NOW + drift, sample=100)
            assert len(selection.sample) == selection.count
            assert await store.clear(selector, NOW + drift) == selection.count
            gone = [head.key for head in selection.sample if await store.get(head.key) is None]
            assert len(gone) == selection.count
        finally:
            await store.close()

    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(ENTRIES, max_size=8), SELECTORS, st.sampled_from([0.0, 0.1, 1 / 3]))
    def run(entries, selector, drift):
        asyncio.run(compare(entries, selector, drift))

    run()


async def test_a_preview_removes_nothing_and_tells_no_more_than_was_asked_for(store):
    await fill(store, spread(30))
    selection = await store.select(Selector(tenant="t1"), NOW, sample=4)
    assert (selection.count, len(selection.sample)) == (15, 4)
    assert {head.tenant for head in selection.sample} == {"t1"}
    assert await store.count() == 30


# --- the disk


async def test_the_disk_evicts_the_oldest_but_nothing_that_is_pinned(tmp_path, told):
    store = await open_sqlite(tmp_path, told, limits=SqliteLimits(deadline=5.0, max_bytes=400_000))
    try:
        await fill(store, [make_entry("pinned", body=bytes(20_000), created=NOW - 1e6, expires=FOREVER)])
        for n in range(60):
            store.put(make_entry(f"{n:02}", body=bytes(20_000), created=NOW + n))
        await store.flush()
        for _ in range(1000):
            if await store.get("00") is None:
                break
            await asyncio.sleep(0.05)
        assert await store.get("00") is None, "it had to evict something"
        assert await store.get("pinned") is not None
    finally:
        await store.close()


async def test_the_disk_forgets_what_has_expired_but_nothing_that_is_pinned(tmp_path, told):
    now = [NOW]
    store = await open_sqlite(tmp_path, told, clock=lambda: now[0])
    try:
        await fill(store, [make_entry("pinned", expires=FOREVER), make_entry("short", expires=NOW + 1)])
        now[0] += 1e9
        store.put(make_entry("new", created=now[0], expires=now[0] + 100))
        await store.flush()
        for _ in range(1000):
            if await store.get("short") is None:
                break
            await asyncio.sleep(0.05)
        assert await store.get("short") is None
        assert await store.get("pinned") is not None
    finally:
        await store.close()


async def test_the_orders_of_the_disk_take_no_sorting_of_all_that_is_kept(sqlite, tmp_path):
    """Each page begins where its index says: what stands before it is not read."""
    await fill(sqlite, spread(10))
    with sqlite3.connect(f"file:{tmp_path}/cache.db?mode=ro", uri=True) as database:
        parameters = _sqlite_pages._parameters(View(), NOW, Place(NOW, "3")) | {"end": 0.0, "last": 0}  # noqa: SLF001 - its statements are what this is about
        each = [*_sqlite_pages._STATEMENTS.items(), *_sqlite_pages._ENDS.items()]  # noqa: SLF001 - as above
        for (order, _), statement in each:
            plan = " / ".join(row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {statement}", parameters))
            assert f"SEARCH replies USING INDEX by_{'age' if order == 'created' else 'due'}" in plan.replace("COVERING ", ""), (
                plan
            )
            assert "USE TEMP B-TREE FOR ORDER BY" not in plan, plan
    database.close()


@pytest.mark.parametrize("order", ["created", "expires"])
@pytest.mark.parametrize("rising", [False, True])
@pytest.mark.parametrize("at_once", [1, 3, 40, 1000])
async def test_parts_of_a_page_leave_nothing_out_and_tell_nothing_twice(sqlite, monkeypatch, order, rising, at_once):
    """Also where many rows were made at one time, so that a part ends among them."""
    monkeypatch.setattr(_sqlite_pages, "COUNTED_AT_ONCE", at_once)
    entries = [replace(one, created=one.created // 600.0 * 600.0) for one in spread(40)]
    await fill(sqlite, entries)
    for selector in (Selector(), Selector(tag="odd"), Selector(tag="none")):
        view = View(selector=selector, state="all", order=order, rising=rising)
        seen, after = list[str](), None
        for _ in range(100):
            page = await sqlite.page(view, NOW, after=after, most=7)
            seen += [head.key for head in page.heads]
            after = page.next
            if after is None:
                break
        assert after is None
        assert sorted(seen) == sorted(one.key for one in entries if view.matches(one, NOW))


async def test_look_ups_have_their_turn_while_a_page_finds_nothing(sqlite, tmp_path, monkeypatch):
    """It goes through some rows and gives way, however few of them fit."""
    monkeypatch.setattr(_sqlite_pages, "COUNTED_AT_ONCE", 3)
    await fill(sqlite, spread(300))
    with sqlite3.connect(f"file:{tmp_path}/cache.db?mode=ro", uri=True) as database:
        view, asked = View(selector=Selector(tag="none")), 0

        def is_wanted() -> bool:
            nonlocal asked
            asked += 1
            return asked == 5

        page = _sqlite_pages.page(database, view, NOW, after=None, most=10, is_wanted=is_wanted)
        assert (page.heads, asked) == ((), 5)
        rest = _sqlite_pages.page(database, view, NOW, after=page.next, most=10, is_wanted=lambda: False)
        assert rest.next is not None, "of so many parts a page is made, and no more"
        below = database.execute("SELECT count(*) FROM replies WHERE created > ?", (page.next.at,)).fetchone()[0]
        assert below in range(13, 16)
    database.close()


@pytest.mark.parametrize(
    "selector",
    [Selector(), Selector(tenant="t1"), Selector(tag="odd", model="mock/m1"), Selector(older_than=60.0), Selector(tag="none")],
    ids=str,
)
async def test_a_preview_of_the_disk_in_parts_counts_each_row_once(sqlite, monkeypatch, selector):
    """Also where many rows were made at one time, so that a part ends among them."""
    monkeypatch.setattr(_sqlite_pages, "COUNTED_AT_ONCE", 3)
    entries = [replace(one, created=one.created // 600.0 * 600.0) for one in spread(40)]
    await fill(sqlite, entries)
    meant = {one.key for one in entries if selector.matches(one, NOW)}
    selection = await sqlite.select(selector, NOW, sample=100)
    assert (selection.count, {head.key for head in selection.sample}) == (len(meant), meant)
    assert len((await sqlite.select(selector, NOW, sample=5)).sample) == min(5, len(meant))


async def test_look_ups_have_their_turn_while_the_disk_is_previewed(sqlite, monkeypatch):
    monkeypatch.setattr(_sqlite_pages, "COUNTED_AT_ONCE", 3)
    await fill(sqlite, spread(300))
    look_ups = 0

    async def counted() -> int:  # by the other thread: look-ups never wait for that
        return 300

    monkeypatch.setattr(sqlite, "count", counted)
    preview = asyncio.create_task(sqlite.select(Selector(), NOW, sample=20))
    while not preview.done():
        assert await sqlite.get("007") is not None
        look_ups += 1
    assert preview.result().count == 300
    assert look_ups > 20, "one for each of its hundred parts, about"


async def test_a_part_of_a_preview_takes_no_longer_where_little_fits(sqlite, tmp_path):
    """It goes through so many rows and no more, whatever they are, in the index alone."""
    await fill(sqlite, spread(10))
    with sqlite3.connect(f"file:{tmp_path}/cache.db?mode=ro", uri=True) as database:
        part = _sqlite_pages.select(database, Selector(tag="none"), NOW, after=None, sample=5)
        assert (part.selection.count, part.next is not None) == (0, True)
        asked = _sqlite_rows.asking(Selector(), NOW) | {"at": 0.0, "row": 1, "most": 3, "sample": 5}
        statement = _sqlite_pages._PART  # noqa: SLF001 - what this is about
        plan = " / ".join(row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {statement}", asked))
        assert "SEARCH replies USING COVERING INDEX by_age" in plan, plan
        assert "SCAN replies" not in plan, plan
    database.close()


# --- Redis


@pytest.fixture(params=REDIS)
async def shared(request, told, anyio_backend):
    server = request.getfixturevalue(request.param)
    server.flush()
    store = await open_working(server.url, told)
    yield store, server
    await store.close()


async def test_a_pinned_key_of_redis_has_no_end_and_any_other_has(shared):
    store, server = shared
    await fill(store, [make_entry("pinned", expires=FOREVER), make_entry("live")])
    with server.client() as client:
        ends = {key: client.pttl(key) for key in client.scan_iter("sentinel:cache:1:*")}
    assert sorted(end > 0 for end in ends.values()) == [False, True]
    assert [end for end in ends.values() if end < 0] == [-1]
    await fill(store, [make_entry("pinned", expires=NOW + 50)])
    with server.client() as client:
        assert all(client.pttl(key) > 0 for key in client.scan_iter("sentinel:cache:1:*"))


async def test_pages_of_redis_scan_nothing(shared):
    """A server with a million keys of others is not gone through."""
    store, server = shared
    await fill(store, spread(150))
    with server.client() as client:
        nodes = client.get_primaries() if hasattr(client, "get_primaries") else [None]
        ask = (
            (lambda *words: [client.execute_command(*words, target_nodes=node) for node in nodes])
            if nodes != [None]
            else (lambda *words: [client.execute_command(*words)])
        )
        ask("CONFIG", "RESETSTAT")
        assert len(await walk(store, View(order="expires"))) == 150
        calls = {name: told for node in ask("INFO", "commandstats") for name, told in node.items()}
    assert not [name for name in calls if "scan" in name or "keys" in name]
    assert [name for name in calls if "getrange" in name], "it did look"


async def test_a_name_without_a_value_is_passed_over(shared):
    store, server = shared
    await fill(store, spread(10))
    with server.client() as client:
        for key in list(client.scan_iter("sentinel:cache:1:*"))[:4]:
            client.delete(key)
    assert len(await walk(store, View(order="expires"), most=3)) == 6


@pytest.mark.parametrize("length", [0, 1, 31, 32, 255, 256, 1024])
def test_a_question_is_read_from_the_beginning_of_a_value(length):
    values = Values(b"secret" * 8)
    text = ("ä" * length)[:length]
    value = values.pack(make_entry("k", scope="s", text=text, body=b"x" * 100_000))
    assert read_text(value) == text
    assert read_text(value[:8192]) == text
    for cut in range(0, len(value) - 100_000, 7):
        assert read_text(value[:cut]) in {None, text}


@pytest.mark.parametrize("value", [b"", b"\x01", b"\x00" * 40, b"\x01" + b"\xff" * 60, bytes(range(256))])
def test_what_is_no_value_has_no_question(value):
    assert read_text(value) is None


# --- both


async def test_a_page_of_many_is_short_work(store):
    """10,000 entries: a page and the next, filtered or not, with room for a busy machine."""
    await fill(store, (make_entry(f"{n:05}", created=NOW - n, expires=NOW + 1e5 + n, tenant=f"t{n % 100}") for n in range(4000)))
    await store.flush()
    for view in (View(order="expires"), View(order="expires", selector=Selector(tenant="t7"))):
        begun = time.monotonic()
        page = await store.page(view, NOW, after=None, most=50)
        assert time.monotonic() - begun < 10.0
        assert page.next is not None or len(page.heads) == 40


def test_a_model_of_pages_without_a_store():
    entries = spread(20)
    view = View(rising=True)
    first = page_of(entries, view, NOW, after=None, most=8)
    second = page_of(entries, view, NOW, after=first.next, most=50)
    assert [*keys(first.heads), *keys(second.heads)] == [
        one.key for one in sorted(entries, key=lambda one: (one.created, one.key))
    ]
    assert page_of(entries, view, NOW, after=None, most=0) == Page(())
    assert math.floor(FOREVER / _sqlite_rows.DUE_STEP) == _sqlite_rows.PINNED
