"""What every tier of replies promises, near or far."""

import anyio
import anyio.lowlevel
import pytest

from sentinel_gateway.core.caching import Selector
from tests.contract.stores.conftest import NOW, make_entry

pytestmark = pytest.mark.anyio

ODD = ["", "a" * 5000, "k%", "k_", "'; DROP TABLE replies; --", "sn\x00k", "日本語", "🦔", "\\", '"', "\r\n"]
LONE_SURROGATE = "\ud800"


async def test_what_was_never_put_is_not_found(store):
    assert await store.get("nothing") is None
    assert await store.count() == 0


async def test_an_entry_comes_back_as_it_was(store):
    entry = make_entry(
        "k",
        body=bytes(range(256)) * 40,
        created=NOW + 0.123456789,
        expires=NOW + 1e8,
        prompt_tokens=2**53,
        completion_tokens=7,
        tenant="t",
        namespace="n",
        writer="w",
        tags=("a", "b"),
    )
    store.put(entry)
    await store.flush()
    assert await store.get("k") == entry


async def test_what_is_taken_is_found_and_what_is_not_is_not(store):
    """The largest body is more than any of the stores has room for."""
    entries = {str(size): make_entry(str(size), body=bytes(size)) for size in (0, 1, 1000, 1_000_000, 100_000_000)}
    taken = {key: store.put(entry) for key, entry in entries.items()}
    await store.flush()
    found = {key: await store.get(key) is not None for key in entries}
    assert taken == found == {"0": True, "1": True, "1000": True, "1000000": True, "100000000": False}


@pytest.mark.parametrize("key", ODD)
async def test_any_text_is_a_key(store, key):
    store.put(make_entry(key))
    await store.flush()
    assert await store.get(key) == make_entry(key)
    assert await store.get(key + " ") is None


async def test_a_key_that_is_not_unicode_is_not_found(store):
    assert await store.get(LONE_SURROGATE) is None


async def test_entries_are_not_mixed(store):
    entries = {f"{n:064x}": make_entry(f"{n:064x}", prompt_tokens=n) for n in range(1000)}
    for entry in entries.values():
        store.put(entry)
    await store.flush()
    found = {}

    async def look_up(key):
        found[key] = await store.get(key)

    async with anyio.create_task_group() as group:
        for key in entries:
            group.start_soon(look_up, key)
    assert found == entries


async def test_a_new_answer_takes_the_place_of_the_old(store):
    for n in range(5):
        store.put(make_entry("k", prompt_tokens=n, tags=(f"round-{n}",)))
    await store.flush()
    assert (await store.get("k")).prompt_tokens == 4
    assert await store.count() == 1
    assert await store.clear(Selector(tag="round-3"), NOW) == 0


async def test_an_expired_entry_is_handed_out_for_the_rules_to_judge(store):
    expired = make_entry("k", expires=NOW - 1)
    store.put(expired)
    await store.flush()
    assert await store.get("k") == expired


@pytest.mark.parametrize(
    "selector",
    [
        Selector(tenant="a"),
        Selector(namespace="n"),
        Selector(model="m"),
        Selector(tag="t"),
        Selector(writer="w"),
        Selector(older_than=60.0),
        Selector(tenant="a", namespace="n", model="m", tag="t", writer="w", older_than=60.0),
    ],
)
async def test_clear_removes_what_is_selected_and_nothing_else(store, selector):
    store.put(make_entry("hit", tenant="a", namespace="n", model="m", tags=("s", "t"), writer="w", created=NOW - 61))
    store.put(make_entry("miss", tenant="aa", namespace="nn", model="m/m", tags=("s", "tt"), writer="W", created=NOW - 60))
    await store.flush()
    assert await store.clear(selector, NOW) == 1
    assert await store.get("hit") is None
    assert await store.get("miss") is not None
    assert await store.clear(selector, NOW) == 0


async def test_an_age_is_compared_as_the_rules_compare_it(store):
    created, now = -(2.0**-54), 1.0  # the age is rounded to 1.0
    store.put(make_entry("k", created=created))
    assert await store.clear(Selector(older_than=1.0), now) == 0
    assert await store.clear(Selector(older_than=1.0 - 2**-53), now) == 1


async def test_clear_without_a_wish_removes_everything(store):
    for n in range(30):
        store.put(make_entry(str(n)))
    assert await store.clear(Selector(), NOW) == 30
    assert await store.count() == 0


@pytest.mark.parametrize("tag", ODD)
async def test_a_tag_is_found_by_its_exact_text(store, tag):
    store.put(make_entry("exact", tags=("before", tag, "after")))
    store.put(make_entry("longer", tags=(tag + "x", "x" + tag)))
    store.put(make_entry("none", tags=()))
    assert await store.clear(Selector(tag=tag), NOW) == 1
    assert await store.get("exact") is None


@pytest.mark.parametrize("member", ["tenant", "namespace", "model", "tag", "writer"])
async def test_a_clear_may_name_what_no_entry_can_have(store, member):
    store.put(make_entry("k"))
    assert await store.clear(Selector(**{member: LONE_SURROGATE}), NOW) == 0


async def test_a_clear_is_not_undone_by_what_was_put_before_it(store):
    for n in range(2000):
        store.put(make_entry(str(n), tags=("old",)))
    assert await store.clear(Selector(tag="old"), NOW) == 2000
    await store.flush()
    assert await store.count() == 0
    assert await store.get("1999") is None


async def test_what_is_put_after_a_clear_stays(store):
    store.put(make_entry("old"))
    async with anyio.create_task_group() as group:
        group.start_soon(store.clear, Selector(), NOW)
        await anyio.lowlevel.checkpoint()
        store.put(make_entry("new"))
    await store.flush()
    assert await store.get("new") is not None


async def test_ping_answers(store):
    await store.ping()


async def test_it_tells_nothing_when_all_is_well(store, told):
    store.put(make_entry("k"))
    await store.flush()
    await store.get("k")
    await store.clear(Selector(), NOW)
    await store.close()
    assert told.events == []
