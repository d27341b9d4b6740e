"""What every index of questions promises, in process or beyond."""

import anyio
import anyio.lowlevel
import numpy as np
import pytest

from sentinel_gateway.core.caching import Selector
from sentinel_gateway.ports import ScopeView
from tests.contract.vectors.conftest import fill, held, keys, make_head, unit

pytestmark = pytest.mark.anyio


async def test_an_empty_index_finds_nothing(index):
    assert await index.nearest("scope", unit(1), limit=3) == []
    assert await index.view("scope", waiting=8) == ScopeView(0, ())
    assert await held(index) == (0, 0)
    assert await index.clear(Selector(), 0.0) == 0


async def test_a_question_is_found_once_it_has_a_vector(index):
    head = make_head("a")
    index.add(head)
    assert await index.view("scope", waiting=8) == ScopeView(0, (head,))
    assert await index.nearest("scope", unit(1), limit=3) == []
    await index.attach([(head, unit(1))])
    assert await index.view("scope", waiting=8) == ScopeView(1, ())
    ((found, similarity),) = [(n.head, n.similarity) for n in await index.nearest("scope", unit(1), limit=3)]
    assert found == head
    assert similarity == pytest.approx(1.0, abs=1e-3)
    assert await held(index) == (1, 1)


async def test_the_oldest_that_wait_are_named_first(index):
    heads = [make_head(str(number)) for number in range(20)]
    for head in heads:
        index.add(head)
    assert (await index.view("scope", waiting=8)).waiting == tuple(heads[:8])
    await index.attach([(head, unit(1)) for head in heads[:3]])
    index.add(heads[4])
    assert (await index.view("scope", waiting=2)).waiting == (heads[3], heads[5])
    assert (await index.view("scope", waiting=100)).waiting == (heads[3], *heads[5:], heads[4])
    assert (await index.view("scope", waiting=0)) == ScopeView(3, ())


@pytest.mark.parametrize("count", [1, 3, 50, 300, 1000, 3000])
async def test_similarity_is_the_true_cosine_and_the_nearest_come_first(index, count):
    await fill(index, count)
    vectors = np.array([unit(number) for number in range(count)])
    for number, away in [(0, 0.01), (count // 2, 0.2), (count - 1, 0.5), (count // 3, 0.8)]:
        asked = unit(number, away=away)
        found = await index.nearest("scope", asked, limit=5)
        truth = vectors @ asked
        assert [n.similarity for n in found] == sorted((n.similarity for n in found), reverse=True)
        assert len(found) == min(5, count)
        assert found[0].head.key == f"scope-{number}"
        for neighbour in found:
            assert neighbour.similarity == pytest.approx(truth[int(neighbour.head.key.partition("-")[2])], abs=1e-3)


async def test_few_questions_are_all_compared(index):
    await fill(index, 200)
    asked = unit(10_000)
    truth = np.argsort([-(unit(number) @ asked) for number in range(200)])[:10]
    assert await keys(index, asked, limit=10) == [f"scope-{number}" for number in truth]


async def test_similarity_is_the_same_both_ways(index):
    for number in range(40):
        one, other = unit(number), unit(number, away=number / 20)
        for key, vector in (("one", one), ("other", other)):
            head = make_head(key, f"{key}-{number}")
            index.add(head)
            await index.attach([(head, vector)])
        (forth,) = await index.nearest(f"one-{number}", other, limit=1)
        (back,) = await index.nearest(f"other-{number}", one, limit=1)
        assert forth.similarity == pytest.approx(back.similarity, abs=1e-3)


async def test_opposites_have_a_negative_similarity(index):
    await fill(index, 1)
    (neighbour,) = await index.nearest("scope", -unit(0), limit=1)
    assert neighbour.similarity == pytest.approx(-1.0, abs=1e-3)


async def test_copies_of_one_vector_are_all_there(index):
    heads = [make_head(str(number)) for number in range(1500)]
    for head in heads:
        index.add(head)
    await index.attach([(head, unit(1)) for head in heads])
    found = await index.nearest("scope", unit(1), limit=8)
    assert len({neighbour.head.key for neighbour in found}) == 8
    assert all(neighbour.similarity == pytest.approx(1.0, abs=1e-3) for neighbour in found)


async def test_nothing_of_another_scope_is_ever_found(index):
    for scope in ("mine", "yours", "mine2", "", "mi"):
        head = make_head(f"in {scope}", scope)
        index.add(head)
        await index.attach([(head, unit(1))])
    assert await keys(index, unit(1), "mine") == ["in mine"]
    assert await keys(index, unit(1), "yours") == ["in yours"]
    assert await keys(index, unit(1), "nobody's") == []
    assert (await index.view("yours", waiting=8)) == ScopeView(1, ())


async def test_a_question_without_a_scope_answers_none(index):
    index.add(make_head("a", ""))
    assert await held(index, "scope", "") == (0, 0)
    assert await index.view("", waiting=8) == ScopeView(0, ())


async def test_a_new_answer_takes_the_place_of_the_old_and_needs_a_vector(index):
    old = make_head("a")
    index.add(old)
    await index.attach([(old, unit(1))])
    new = make_head("a", created=old.created + 1)
    index.add(new)
    assert await index.nearest("scope", unit(1), limit=3) == []
    assert await index.view("scope", waiting=8) == ScopeView(0, (new,))
    await index.attach([(old, unit(1))])
    assert await index.view("scope", waiting=8) == ScopeView(0, (new,))
    await index.attach([(new, unit(2))])
    assert [n.head for n in await index.nearest("scope", unit(2), limit=3)] == [new]
    assert await held(index) == (1, 1)


async def test_a_vector_may_be_given_again(index):
    head, other = await fill(index, 2)
    await index.attach([(head, unit(7))])
    found = {neighbour.head.key: neighbour.similarity for neighbour in await index.nearest("scope", unit(7), limit=3)}
    assert found == {head.key: pytest.approx(1.0, abs=1e-3), other.key: pytest.approx(unit(7) @ unit(1), abs=1e-3)}
    assert await held(index) == (2, 2)


async def test_a_vector_for_what_is_not_there_is_left_out(index):
    here, gone, never = make_head("here"), make_head("gone"), make_head("never")
    index.add(here)
    index.add(gone)
    index.drop([gone])
    await index.attach([(gone, unit(1)), (never, unit(2)), (here, unit(3))])
    assert await held(index) == (1, 1)
    assert await keys(index, unit(1)) == ["here"]


async def test_what_is_dropped_is_not_found(index):
    heads = await fill(index, 10)
    index.add(waiting := make_head("waiting"))
    index.drop([heads[3], heads[9], waiting, make_head("unknown")])
    assert await held(index) == (8, 8)
    for number in range(10):
        assert (f"scope-{number}" in await keys(index, unit(number), limit=1)) == (number not in {3, 9})
    index.drop(heads)
    assert await index.view("scope", waiting=8) == ScopeView(0, ())


async def test_a_drop_leaves_the_answer_that_has_taken_the_place(index):
    (old,) = await fill(index, 1)
    new = make_head(old.key, created=old.created + 1)
    index.add(new)
    index.drop([old])
    assert (await index.view("scope", waiting=8)).waiting == (new,)


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
async def test_clear_forgets_what_is_selected_and_nothing_else(index, clock, selector):
    now = clock.now
    hit = make_head("hit", tenant="a", namespace="n", model="m", tags=("s", "t"), writer="w", created=now - 61)
    miss = make_head("miss", tenant="aa", namespace="nn", model="m/m", tags=("s", "tt"), writer="W", created=now - 60)
    for head in (hit, miss):
        index.add(head)
        index.add(make_head(f"{head.key} waits", **{name: getattr(head, name) for name in ("namespace", "tags", "created")}))
    index.drop([make_head("miss waits"), make_head("hit waits")])
    await index.attach([(hit, unit(1)), (miss, unit(2))])
    before, _ = await held(index)
    removed = await index.clear(selector, now)
    assert removed >= 1
    assert (await held(index))[0] == before - removed
    assert "hit" not in await keys(index, unit(1))
    assert "miss" in await keys(index, unit(2))
    assert await index.clear(selector, now) == 0


async def test_all_questions_are_told_while_what_was_found_is_dropped(index, many, clock):
    """As a clear of what is similar does it, however many are; a few of them stand in a scope of their own."""
    heads = await fill(index, many)
    for number in range(40):
        index.add(make_head(f"waits {number}", f"scope {number}"))
    met, pages = dict[str, np.ndarray | None](), []
    async for page in index.questions(Selector(model="openai/gpt"), clock.now):
        pages.append(len(page))
        met |= {head.key: vector for head, vector in page}
        index.drop([head for head, _ in page])
    assert len(met) == many + 40
    assert all(met[f"waits {number}"] is None for number in range(40))
    assert all(met[head.key] == pytest.approx(unit(number), abs=1e-3) for number, head in enumerate(heads))
    assert max(pages) <= 64
    assert await held(index) == (0, 0)
    assert [page async for page in index.questions(Selector(), clock.now) if page] == []


async def test_a_question_that_gets_its_vector_meanwhile_is_told(index, clock):
    heads = [make_head(str(number)) for number in range(100)]
    for head in heads:
        index.add(head)
    met = set()
    async for page in index.questions(Selector(), clock.now):
        met |= {head for head, _ in page}
        if 0 < len(met) < 100:
            await index.attach([(head, unit(number)) for number, head in enumerate(heads)])
    assert len(met) == 100


async def test_clear_without_a_wish_forgets_everything(index):
    await fill(index, 30, "one")
    await fill(index, 700, "other")
    index.add(make_head("waiting"))
    assert await index.clear(Selector(), 0.0) == 731
    assert await held(index, "one", "other", "scope") == (0, 0)
    assert await keys(index, unit(1), "other") == []
    await fill(index, 1, "other")
    assert await keys(index, unit(0), "other") == ["other-0"]


@pytest.mark.parametrize("selector", [Selector(), Selector(model="openai/gpt")])
async def test_what_is_added_during_a_clear_stays(index, selector):
    await fill(index, 500)
    async with anyio.create_task_group() as group:
        group.start_soon(index.clear, selector, 0.0)
        await anyio.lowlevel.checkpoint()
        for number in range(10):
            index.add(make_head(f"new {number}", model="other"))
            await anyio.lowlevel.checkpoint()
    assert await held(index) == (10, 0)


async def test_two_clears_at_once_forget_all_that_both_select(index):
    for number in range(1000):
        index.add(make_head(str(number), tags=("even" if number % 2 == 0 else "odd",), writer=str(number % 3)))
    removed = []

    async def clear(selector):
        removed.append(await index.clear(selector, 0.0))

    async with anyio.create_task_group() as group:
        group.start_soon(clear, Selector(tag="even"))
        group.start_soon(clear, Selector(writer="1"))
    assert await held(index) == (333, 0)
    assert sum(removed) == 667


async def test_while_questions_come_and_go_what_is_found_is_there_and_its_similarity_is_true(index, many):
    """Searches run beside changes: what was dropped before one began is never found, and nothing has another's similarity."""
    heads = await fill(index, many)
    place = {head.key: number for number, head in enumerate(heads)}
    dropped: set[str] = set()
    found_any = 0

    async def search(number):
        nonlocal found_any
        for step in range(40):
            asked = (number * 97 + step * 31) % many
            gone = set(dropped)
            vector = unit(asked, away=0.1)
            for neighbour in await index.nearest("scope", vector, limit=3):
                assert neighbour.head.key not in gone
                assert neighbour.similarity == pytest.approx(float(vector @ unit(place[neighbour.head.key])), abs=1e-3)
                found_any += 1

    async def change():
        for number in range(0, many, 3):
            index.drop([heads[number]])
            dropped.add(heads[number].key)
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(search, number)
        group.start_soon(change)
    assert found_any
    assert await held(index) == (many * 2 // 3, many * 2 // 3)
    for number in range(1, many, many // 13):
        assert (await keys(index, unit(number), limit=1) == [f"scope-{number}"]) == (number % 3 != 0)
