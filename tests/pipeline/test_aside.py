"""Rules are asked on a thread, one after the other, and not for those who have left."""

import asyncio
import threading

import pytest

from sentinel_gateway.pipeline.aside import AT_ONCE, OneThread

pytestmark = pytest.mark.anyio


@pytest.fixture
def aside():
    thread = OneThread("tested")
    yield thread
    thread.close()


async def test_it_is_asked_on_the_thread_and_the_loop_goes_on(aside):
    asked, go_on = threading.Event(), threading.Event()

    def rule() -> str:
        asked.set()
        go_on.wait(5)
        return threading.current_thread().name

    asking = asyncio.create_task(aside(rule))
    while not asked.is_set():  # noqa: ASYNC110 - set by the thread
        await asyncio.sleep(0.001)
    go_on.set()
    assert (await asking).startswith("tested")
    assert repr(aside) == "<OneThread tested>"


async def test_what_a_rule_raises_is_raised(aside):
    with pytest.raises(ZeroDivisionError):
        await aside(lambda: 1 // 0)


async def test_who_leaves_before_its_turn_is_not_asked_for(aside):
    go_on, done = threading.Event(), []
    first = asyncio.create_task(aside(lambda: go_on.wait(5)))
    second = asyncio.create_task(aside(lambda: done.append(2)))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    go_on.set()
    assert await first
    await aside(lambda: done.append(3))
    assert done == [3]


async def test_at_once_is_here_and_now():
    assert await AT_ONCE(threading.get_ident) == threading.get_ident()
    assert repr(AT_ONCE) == "<AtOnce>"
    AT_ONCE.close()
