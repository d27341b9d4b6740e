"""What a `KeyStore` and an `AuditLog` promise."""

from functools import partial

import anyio
import msgspec
import pytest

from sentinel_gateway.core import issuance
from sentinel_gateway.core.access import SCOPES
from sentinel_gateway.core.issuance import AuditEntry
from sentinel_gateway.core.limits import Limits
from sentinel_gateway.errors import InvalidField, KeyEnded, KeyNotFound, StoreDown
from sentinel_gateway.stores import keys
from sentinel_gateway.stores.keys import BATCH
from tests.contract.keys.conftest import OPERATOR
from tests.core.keys import NOW, RIGHTS_OF_LATER, minted

pytestmark = pytest.mark.anyio

WHOLE = {
    "name": "Zoë's % key_'",
    "tenant": "a:b*{}",
    "scopes": SCOPES,
    "models": ("gpt-*", "ü"),
    "expires": NOW + 0.25,
    "trial": True,
    "limits": Limits(1, 2, 3),
    "user_limits": Limits(None, 5, None),
    "max_wrong_hit_rate": 0.1,
}


def revoking(now=NOW):
    return partial(issuance.revoke, caller=OPERATOR, now=now)


async def entries(state, **asked):
    return (await state.log.page(**{"tenant": None, "limit": 100, "cursor": None} | asked)).entries


async def test_a_key_comes_back_as_it_was_kept(state, opening):
    key = await state.create(1, **WHOLE)
    for store in (state, await opening()):
        assert await store.keys.get(key.id) == key
        assert await store.keys.find(key.digest) == key
        assert (await store.keys.changes(None)).keys == (key,)
        assert (await store.keys.page(prefix="", tenant=None, limit=5, cursor=None)).keys == (key,)
    await store.file.close()


async def test_what_is_not_there(state):
    key, _ = minted(1)
    assert await state.keys.get(key.id) is None
    assert await state.keys.find(key.digest) is None
    with pytest.raises(KeyNotFound):
        await state.keys.update(key.id, revoking())
    assert await entries(state) == ()


async def test_a_change_and_its_entry_are_kept_together(state):
    key = await state.create(1)
    done = await state.keys.update(key.id, revoking(NOW + 5))
    assert await state.keys.get(key.id) == done.key
    assert [(entry.id, entry.action, entry.object, entry.at) for entry in await entries(state)] == [
        (2, "key.revoke", key.id, NOW + 5),
        (1, "key.create", key.id, NOW),
    ]
    assert (await entries(state))[0] == msgspec.structs.replace(done.entry, id=2)


async def test_a_change_that_is_none_is_not_told(state):
    key = await state.create(1)
    await state.keys.update(key.id, revoking())
    before = await state.keys.changes(None)
    await state.keys.update(key.id, revoking(NOW + 5))
    assert len(await entries(state)) == 2
    assert (await state.keys.changes(before.mark)).keys == ()


async def test_a_rule_that_refuses_changes_nothing(state):
    key = await state.create(1)

    def refuse(_):
        raise KeyEnded("no")

    with pytest.raises(KeyEnded):
        await state.keys.update(key.id, refuse)
    assert await state.keys.get(key.id) == key
    assert len(await entries(state)) == 1
    await state.create(2)


async def test_neither_of_two_is_kept_if_one_cannot_be(state):
    """The successor has the digest of a key that is there already."""
    key, other = await state.create(1), await state.create(2)
    rule = partial(issuance.rotate, caller=OPERATOR, successor=msgspec.structs.replace(other, id="key_x"), overlap=5.0)
    with pytest.raises(Exception, match=r"(?i)unique"):
        await state.keys.update(key.id, rule)
    assert await state.keys.get(key.id) == key
    assert len(await entries(state)) == 2


async def test_of_many_who_rotate_at_once_one_does(state):
    key = await state.create(0)
    refused = []

    async def rotate(number):
        try:
            rule = partial(issuance.rotate, caller=OPERATOR, successor=minted(number)[0], overlap=5.0)
            await state.keys.update(key.id, rule)
        except KeyEnded:
            refused.append(number)

    async with anyio.create_task_group() as group:
        for number in range(1, 9):
            group.start_soon(rotate, number)
    assert len(refused) == 7
    assert len((await state.keys.changes(None)).keys) == 2


async def test_a_key_that_a_newer_sentinel_wrote_is_a_store_that_is_down(state):
    key = await state.create(1)
    await state.file.write(lambda database: database.execute("UPDATE keys SET rights = ?", (RIGHTS_OF_LATER,)))
    for ask in (
        state.keys.changes(None),
        state.keys.get(key.id),
        state.keys.find(key.digest),
        state.keys.page(prefix="", tenant=None, limit=5, cursor=None),
        state.keys.update(key.id, revoking()),
    ):
        with pytest.raises(StoreDown, match=r"of-a-later-version.*: run the one that wrote it"):
            await ask
    assert [entry.action for entry in await entries(state)] == ["key.create"]


async def test_an_entry_that_cannot_be_read_is_a_store_that_is_down(state):
    insert = "INSERT INTO audit (id, at, actor, action, object, after) VALUES (1, 1.0, 'cli', 'key.create', 'x', ?)"
    await state.file.write(lambda database: database.execute(insert, (b"\xff",)))
    with pytest.raises(StoreDown, match="run the one that wrote it"):
        await entries(state)


# --- what has changed ---


async def test_changes_follow_each_other(state, opening):
    start = await state.keys.changes(None)
    assert (start.keys, start.whole) == ((), True)
    key, other = await state.create(1), await state.create(2)
    first = await state.keys.changes(start.mark)
    assert ({key.id for key in first.keys}, first.whole) == ({key.id, other.id}, False)
    foreign = await opening()
    revoked = (await foreign.keys.update(key.id, revoking())).key
    await foreign.file.close()
    second = await state.keys.changes(first.mark)
    assert (second.keys, second.whole) == ((revoked,), False)
    assert (await state.keys.changes(second.mark)).keys == ()
    assert (await state.keys.changes(start.mark)).keys == (other, revoked)
    assert (await state.keys.changes(None)).keys == (other, revoked)


async def test_many_changes_are_told_in_several_parts(state):
    made = [minted(number)[0] for number in range(2 * BATCH + 1)]

    def insert(database):
        for key in made:
            keys._insert(database, key)  # noqa: SLF001 - thousands in one transaction, for this test alone

    await state.file.write(insert)
    told, mark, parts = [], None, []
    while not parts or parts[-1].more:
        parts.append(await state.keys.changes(mark))
        told += parts[-1].keys
        mark = parts[-1].mark
    assert [(len(part.keys), part.whole, part.more) for part in parts] == [
        (BATCH, True, True),
        (BATCH, False, True),
        (1, False, False),
    ]
    assert told == made


async def test_a_mark_of_another_history_gets_everything(state):
    key = await state.create(1)
    (generation, sequence) = (await state.keys.changes(None)).mark
    for strange in ((generation + 1, sequence), (generation, sequence + 1)):
        changes = await state.keys.changes(strange)
        assert (changes.keys, changes.whole) == ((key,), True)


# --- lists ---


async def test_lists_are_in_the_order_of_names_page_by_page(state):
    names = ["b", "A", "c", "a", "B", "a", "%", "_", "é", "aa"]
    for number, name in enumerate(names):
        await state.create(number, name=name)
    found = await state.names()
    assert [name.lower() for name in found] == ["%", "_", "a", "a", "a", "aa", "b", "b", "c", "é"]
    assert sorted(found) == sorted(names)


@pytest.mark.parametrize(
    ("prefix", "found"),
    [
        ("a", ["A%b", "a_b", "axb"]),
        ("A", ["A%b", "a_b", "axb"]),
        ("a%", ["A%b"]),
        ("a_", ["a_b"]),
        ("%", ["%%%_", "%a"]),
        ("%%%_", ["%%%_"]),
        ("*", []),
        ("' OR 1=1 --", []),
        ("x", []),
        ("\x00", []),
        ("STRASSE", ["Straße"]),
    ],
)
async def test_a_search_is_the_beginning_of_a_name_and_no_pattern(state, prefix, found):
    for number, name in enumerate(["axb", "a_b", "A%b", "%a", "%%%_", "Straße"]):
        await state.create(number, name=name)
    assert await state.names(prefix=prefix) == found


async def test_a_tenant_sees_its_own(state):
    for number, tenant in enumerate(["a", "b", "a:", "A", "a", "aa"]):
        await state.create(number, name=f"{tenant}-{number}", tenant=tenant)
    assert await state.names(tenant="a") == ["a-0", "a-4"]
    assert await state.names(tenant="a", prefix="a-4") == ["a-4"]
    assert await state.names(tenant="nobody") == []
    assert [entry.object for entry in await entries(state, tenant="b")] == [minted(1)[0].id]


@pytest.mark.parametrize("cursor", ["x", "AAA", "_w==", "\u00fc", "a b="])
async def test_a_cursor_of_somebody_else(state, cursor):
    with pytest.raises(InvalidField) as refused:
        await state.keys.page(prefix="", tenant=None, limit=3, cursor=cursor)
    assert refused.value.param == "cursor"


async def test_a_cursor_opens_no_other_tenant(state):
    for number in range(8):
        await state.create(number, name=f"n{number}", tenant="a" if number % 2 else "b")
    theirs = (await state.keys.page(prefix="", tenant="b", limit=1, cursor=None)).next
    page = await state.keys.page(prefix="", tenant="a", limit=9, cursor=theirs)
    assert {key.tenant for key in page.keys} == {"a"}


# --- the audit log ---


async def test_the_log_is_read_backwards_page_by_page(state):
    for number in range(7):
        await state.log.append(AuditEntry(at=NOW, actor="admin-key", action="cache.clear", object=str(number)))
    seen, cursor = [], None
    while True:
        page = await state.log.page(tenant=None, limit=3, cursor=cursor)
        seen += [entry.object for entry in page.entries]
        cursor = page.next
        if cursor is None:
            break
    assert seen == list("6543210")
    assert await entries(state, tenant="acme") == ()


REWRITES = {
    "sqlite": [
        "UPDATE audit SET actor = 'nobody'",
        "DELETE FROM audit",
        "INSERT OR REPLACE INTO audit SELECT * FROM audit",
        "UPDATE OR REPLACE audit SET id = 1 WHERE id = 2",
    ],
    "postgres": [
        "UPDATE audit SET actor = 'nobody'",
        "DELETE FROM audit",
        "TRUNCATE audit",
        "INSERT INTO audit SELECT * FROM audit ON CONFLICT (id) DO UPDATE SET actor = 'nobody'",
    ],
}


@pytest.mark.parametrize(
    ("opening", "statement"),
    [(kind, statement) for kind, statements in REWRITES.items() for statement in statements],
    indirect=["opening"],
)
async def test_the_database_itself_refuses_to_change_the_log(state, statement):
    for number in (1, 2):
        await state.create(number)
    before = await entries(state)
    with pytest.raises(Exception, match="append-only"):
        await state.file.write(lambda database: database.execute(statement))
    assert await entries(state) == before
