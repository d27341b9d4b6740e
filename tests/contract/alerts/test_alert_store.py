"""What an `AlertStore` promises, in `sentinel.db` and in PostgreSQL: one leads, what it kept is there, each letter goes once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from sentinel_gateway.core.alerting.board import Alert, Board
from sentinel_gateway.core.alerting.notices import Message
from sentinel_gateway.ledger.books import bring_up_to_date
from sentinel_gateway.ports.alerts import Entry, Letter, Silence, Waiting
from sentinel_gateway.stores._adoption import adopt
from sentinel_gateway.stores._state_file import StateFile
from sentinel_gateway.stores._state_server import StateServer
from sentinel_gateway.stores.alerts import MOST_WAITING, SWEPT, SqlAlerts
from tests.core.keys import PEPPER

pytestmark = pytest.mark.anyio

ALERT = Alert(
    rule="errors",
    subject="mock",
    severity="page",
    channels=("ops",),
    phase="firing",
    since=5.0,
    value=0.5,
    limit=0.2,
    text="half of it fails",
    told=6.0,
)
BOARD = Board((ALERT,), {"errors": 3}, 6.0)


async def _file(folder: Path) -> StateFile:
    return await StateFile.open(folder, secret=PEPPER)


async def _server(url: str) -> StateServer:
    prepare, welcome = partial(bring_up_to_date, Path("/nowhere"), url), partial(adopt, found=[])
    return await StateServer(url, secret=PEPPER, prepare=prepare, welcome=welcome).reached()


@pytest.fixture(params=["sqlite", "postgres"])
def opening(request, tmp_path) -> Callable[[], Awaitable[StateFile | StateServer]]:
    if request.param == "sqlite":
        return partial(_file, tmp_path)
    return partial(_server, request.getfixturevalue("postgres").fresh())


@pytest.fixture
async def place(opening, anyio_backend) -> AsyncIterator[StateFile | StateServer]:
    opened = await opening()
    yield opened
    await opened.close()


@pytest.fixture
def store(place) -> SqlAlerts:
    return SqlAlerts(place)


def letter(number: int, *, channel: str = "ops", at: float = 0.0) -> Letter:
    message = Message(title=f"t{number}", text="x", severity="page", good=False, data={"firing": []})
    return Letter(f"msg_{number:03}", channel, at, 0, message)


async def led(store: SqlAlerts, node: str = "a", now: float = 0.0) -> None:
    assert await store.lead(node, now, 100.0) is not None


async def test_one_leads_until_its_time_is_over_or_it_resigns(store):
    await led(store, "a")
    assert await store.lead("b", 50.0, 100.0) is None
    await led(store, "a", 60.0)
    assert await store.lead("b", 159.0, 100.0) is None
    await led(store, "b", 160.0)
    assert await store.lead("a", 161.0, 100.0) is None
    await store.resign("a")
    assert await store.lead("a", 162.0, 100.0) is None, "it resigned from what was not its"
    await store.resign("b")
    await led(store, "a", 163.0)


async def test_of_many_nodes_exactly_one_leads(store, opening):
    others = [await opening() for _ in range(4)]
    try:
        stores = [store, *map(SqlAlerts, others)]
        found = await asyncio.gather(*(one.lead(f"node-{number}", 0.0, 100.0) for number, one in enumerate(stores)))
        assert sum(one is not None for one in found) == 1
    finally:
        for other in others:
            await other.close()


async def test_what_was_kept_is_what_the_next_one_goes_on_from(store, opening):
    await led(store)
    assert (await store.look())[0] == Board()
    assert await store.keep("a", BOARD, [], [], oldest=0.0)
    await store.resign("a")
    other = await opening()
    try:
        found = await SqlAlerts(other).lead("b", 1.0, 100.0)
        assert found is not None
        assert found.board == BOARD
        assert (await SqlAlerts(other).look())[0] == BOARD
    finally:
        await other.close()


async def test_nothing_is_kept_of_who_does_not_lead_any_more(store):
    await led(store, "a")
    await led(store, "b", 200.0)
    entry = Entry(at=1.0, kind="firing", rule="errors")
    assert not await store.keep("a", BOARD, [entry], [letter(1)], oldest=0.0)
    assert (await store.look())[0] == Board()
    assert (await store.history(limit=10, cursor=None)).entries == []
    assert await store.claim("ops", 1e9, 1.0) is None


async def test_letters_are_claimed_once_in_their_order_and_again_when_their_time_is_over(store):
    await led(store)
    letters = [letter(2, at=2.0), letter(1, at=1.0), letter(3, at=1.0, channel="mail")]
    assert await store.keep("a", BOARD, [], letters, oldest=0.0)
    first = await store.claim("ops", 10.0, 60.0)
    assert (first.id, first.tries, first.message) == ("msg_001", 1, letters[1].message)
    assert await store.claim("ops", 10.0, 60.0) is None, "the second has overtaken the first"
    assert (await store.claim("mail", 10.0, 60.0)).id == "msg_003"
    again = await store.claim("ops", 70.0, 60.0)
    assert (again.id, again.tries) == ("msg_001", 2)
    await store.settle(again, Entry(at=71.0, kind="delivered", channel="ops", text="t1"))
    assert (await store.claim("ops", 71.0, 60.0)).id == "msg_002"


async def test_no_letter_overtakes_one_that_is_tried_again_later(store):
    await led(store)
    assert await store.keep("a", BOARD, [], [letter(1, at=1.0)], oldest=0.0)
    await store.settle(await store.claim("ops", 10.0, 60.0), None, due=500.0)
    assert await store.keep("a", BOARD, [], [letter(2, at=20.0)], oldest=0.0)
    assert await store.claim("ops", 499.0, 60.0) is None
    assert await store.due("ops") == 500.0
    again = await store.claim("ops", 500.0, 60.0)
    assert (again.id, again.tries) == ("msg_001", 2)
    assert await store.due("ops") == 560.0
    await store.settle(again, None)
    assert await store.due("ops") == 20.0
    await store.settle(await store.claim("ops", 501.0, 60.0), None)
    assert await store.due("ops") is None


async def test_two_never_claim_the_same(store, opening):
    await led(store)
    assert await store.keep("a", BOARD, [], [letter(number) for number in range(3)], oldest=0.0)
    other = await opening()
    try:
        stores = [store, SqlAlerts(other)] * 5
        for number in range(3):
            found = [one for one in await asyncio.gather(*(one.claim("ops", 1.0, 60.0) for one in stores)) if one is not None]
            assert [one.id for one in found] == [f"msg_{number:03}"]
            await store.settle(found[0], None)
    finally:
        await other.close()


async def test_only_so_many_letters_wait_for_a_channel(store):
    await led(store)
    for number in range(MOST_WAITING + 5):
        assert await store.keep("a", BOARD, [], [letter(number, at=float(number))], oldest=0.0)
    waiting = []
    while (one := await store.claim("ops", 1e6, 1e9)) is not None:
        waiting.append(one.id)
        await store.settle(one, None)
    assert waiting == [f"msg_{number:03}" for number in range(5, MOST_WAITING + 5)]
    history = (await store.history(limit=50, cursor=None)).entries
    assert [(entry.kind, entry.channel) for entry in history] == [("dropped", "ops")] * 5
    assert history[-1].text == "msg_000: too many wait"


async def test_the_history_is_told_by_pages_the_newest_first(store):
    await led(store)
    entries = [Entry(at=float(number), kind="firing", rule="errors", subject=str(number), text="x") for number in range(7)]
    assert await store.keep("a", BOARD, entries, [], oldest=0.0)
    told, cursor = [], None
    while True:
        page = await store.history(limit=3, cursor=cursor)
        told += [entry.subject for entry in page.entries]
        if (cursor := page.next) is None:
            break
    assert told == [str(number) for number in range(6, -1, -1)]


async def test_old_lines_go_some_at_a_time_and_no_number_is_given_twice(store):
    await led(store)
    entries = [Entry(at=float(number), kind="firing") for number in range(SWEPT + 100)]
    assert await store.keep("a", BOARD, entries, [], oldest=0.0)
    sizes = []
    for _ in range(3):
        assert await store.keep("a", BOARD, [], [], oldest=1e9)
        page = await store.history(limit=2 * SWEPT, cursor=None)
        sizes.append(len(page.entries))
    assert sizes == [100, 1, 1]
    await store.note(Entry(at=5.0, kind="test"))
    assert (await store.history(limit=1, cursor=None)).entries[0].id == SWEPT + 101


async def test_a_silence_lasts_until_it_ends_or_is_lifted(store):
    await led(store)
    note = Entry(at=10.0, kind="silenced", rule="errors")
    await store.silence(Silence("errors", 100.0, "admin-key"), note)
    assert (await store.lead("a", 99.0, 100.0)).silences == {"errors": 100.0}
    assert (await store.lead("a", 100.0, 100.0)).silences == {}
    await store.silence(Silence("errors", 300.0, "cli"), note)
    assert (await store.look())[1] == [Silence("errors", 300.0, "cli")]
    await store.silence(Silence("errors", 10.0, "cli"), note)
    assert (await store.look())[1] == []
    assert [entry.kind for entry in (await store.history(limit=9, cursor=None)).entries] == ["silenced"] * 3


async def test_what_has_not_arrived_is_counted_by_channel(store):
    await led(store)
    assert await store.waiting() == []
    letters = [letter(1, at=5.0), letter(2, at=6.0), letter(3, at=7.0, channel="mail")]
    assert await store.keep("a", BOARD, [], letters, oldest=0.0)
    await store.settle(await store.claim("ops", 10.0, 60.0), None, due=20.0)
    assert await store.waiting() == [Waiting("mail", 1, 7.0, 0), Waiting("ops", 2, 5.0, 1)]
    await store.settle(await store.claim("ops", 20.0, 60.0), None)
    assert await store.waiting() == [Waiting("mail", 1, 7.0, 0), Waiting("ops", 1, 6.0, 0)]
