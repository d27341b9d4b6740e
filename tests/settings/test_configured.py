"""What a reload of the semantic tier's switch is said to change: off is off at once, on again too where the start had it on."""

import asyncio
import threading
import time
from dataclasses import replace
from functools import partial

import pytest

from sentinel_gateway.configured import MOST_CHANGES, Configured
from sentinel_gateway.settings.load import load

pytestmark = pytest.mark.anyio

NAME = "cache.semantic.enabled"


@pytest.fixture
def written(tmp_path):
    """Writes the switch into the file."""

    def write(on):
        (tmp_path / "sentinel.yaml").write_text(f"cache: {{semantic: {{enabled: {str(on).lower()}}}}}\n")

    return write


@pytest.fixture
async def begun(written, tmp_path):
    """What stands behind the desk of a process that began with this."""
    desks = []

    def begin(on):
        written(on)
        again = partial(load, {"HOME": str(tmp_path)}, cwd=tmp_path)
        desks.append(Configured(again, again(), lambda _: None))
        return desks[-1]

    yield begin
    for desk in desks:
        await desk.close()


async def changes(desk):
    return [(one.name, one.before, one.after, one.by_restart) for one in (await desk.check(None)).changes]


def setting(desk):
    [found] = [one for one in desk.settings() if one.name == NAME]
    return found


async def test_where_the_start_had_it_on_both_ways_take_effect_at_once(begun, written):
    desk = begun(True)
    assert not setting(desk).by_restart
    for before, after in ((True, False), (False, True)):
        written(after)
        assert await changes(desk) == [(NAME, before, after, False)]
        assert desk.use(await desk.load()) == []
        assert await changes(desk) == []
        assert (setting(desk).value, setting(desk).waits) == (after, False)


async def test_where_the_start_had_it_off_it_waits_for_the_next(begun, written):
    desk = begun(False)
    assert setting(desk).by_restart
    written(True)
    assert await changes(desk) == [(NAME, False, True, True)]
    assert NAME in str(desk.use(await desk.load()))
    assert setting(desk).waits
    written(False)
    assert await changes(desk) == [], "off is what is in force"


async def test_drafts_are_tried_one_after_the_other(tmp_path):
    load_once = partial(load, {"HOME": str(tmp_path)}, cwd=tmp_path)
    busy, tried = threading.Lock(), []

    def slowly(*, draft=None):
        assert busy.acquire(blocking=False), "two at once"
        time.sleep(0.005)
        tried.append(draft)
        busy.release()
        return load_once(draft=draft)

    desk = Configured(slowly, load_once(), lambda _: None)
    drafts = [f"cache: {{ttl: {number}}}" for number in range(1, 9)]
    told = await asyncio.gather(*map(desk.check, drafts))
    assert tried == drafts
    assert [one.changes[0].after for one in told] == list(range(1, 9))
    await desk.close()


async def test_what_a_draft_would_change_is_told_beside_the_event_loop(tmp_path):
    load_once = partial(load, {"HOME": str(tmp_path)}, cwd=tmp_path)
    looked = set()

    class Origins(dict):
        def get(self, place, default=None):
            looked.add(threading.get_ident())
            return super().get(place, default)

    def watched(*, draft=None):
        loaded = load_once(draft=draft)
        return replace(loaded, origins=Origins(loaded.origins))

    desk = Configured(watched, load_once(), lambda _: None)
    told = await desk.check("cache: {ttl: 1}")
    assert [one.name for one in told.changes] == ["cache.ttl"]
    assert looked
    assert threading.get_ident() not in looked
    await desk.close()


@pytest.mark.parametrize("more", [0, 1])
async def test_of_a_draft_the_first_changes_are_told_and_of_the_files_all(tmp_path, more):
    load_once = partial(load, {"HOME": str(tmp_path)}, cwd=tmp_path)
    desk = Configured(load_once, load_once(), lambda _: None)
    each = len((await desk.check("models: {m: demo/demo}")).changes)
    models = MOST_CHANGES // each + more
    text = "models:\n" + "".join(f"  m{n}: demo/demo\n" for n in range(models))
    told = await desk.check(text)
    assert len(told.changes) == min(models * each, MOST_CHANGES)
    assert any("more than these" in note for note in told.notes) == bool(more)
    (tmp_path / "sentinel.yaml").write_text(text)
    told = await desk.check(None)
    assert (len(told.changes), told.notes) == (models * each, ())
    await desk.close()


async def test_what_is_gone_from_the_files_is_told_as_a_change(tmp_path):
    load_once = partial(load, {"HOME": str(tmp_path)}, cwd=tmp_path)
    (tmp_path / "sentinel.yaml").write_text("models: {fast: demo/demo, slow: demo/demo}\n")
    desk = Configured(load_once, load_once(), lambda _: None)
    (tmp_path / "sentinel.yaml").write_text("models: {fast: demo/demo}\n")
    told = [one.name for one in (await desk.check(None)).changes if one.after is None]
    assert told
    assert all(name.startswith("models.slow") for name in told)
    await desk.close()
