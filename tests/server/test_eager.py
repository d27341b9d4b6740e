"""What runs at once behaves as what runs in a task of its own, whether it waits or not."""

import asyncio

import pytest

from sentinel_gateway.api.asgi import DIRECT
from sentinel_gateway.api.cycle import Cycle
from sentinel_gateway.api.eager import own_task, run_eagerly
from sentinel_gateway.api.exchange import Exchange, Intake
from sentinel_gateway.api.openai import ERRORS
from sentinel_gateway.errors import ClientLeft
from tests.fakes import turns

pytestmark = pytest.mark.anyio


class Log(list[str]):
    """What happened, in order."""

    async def run(self, *waits: asyncio.Future[None]) -> None:
        self.append("began")
        for wait in waits:
            try:
                await wait
            except (asyncio.CancelledError, LookupError) as exc:
                self.append(type(exc).__name__)
                await asyncio.sleep(0)
            self.append("waited")


async def test_what_never_waits_needs_no_task():
    log = Log()
    assert run_eagerly(log.run(), asyncio.get_running_loop()) is None
    assert log == ["began"]


async def test_what_waits_goes_on_in_a_task_and_only_then():
    loop, log = asyncio.get_running_loop(), Log()
    first, second = loop.create_future(), loop.create_future()
    task = run_eagerly(log.run(first, second), loop)
    assert task is not None
    assert log == ["began"]
    first.set_result(None)
    await turns()
    assert log == ["began", "waited"]
    second.set_result(None)
    await task
    assert log == ["began", "waited", "waited"]


async def test_a_wait_that_was_over_before_the_task_began():
    loop, log = asyncio.get_running_loop(), Log()
    wait = loop.create_future()
    task = run_eagerly(log.run(wait), loop)
    wait.set_result(None)
    await task
    assert log == ["began", "waited"]


@pytest.mark.parametrize("more", [0, 1])
async def test_the_first_wait_may_fail_and_another_follow(more):
    loop, log = asyncio.get_running_loop(), Log()
    waits = [loop.create_future() for _ in range(1 + more)]
    task = run_eagerly(log.run(*waits), loop)
    waits[0].set_exception(LookupError())
    for wait in waits[1:]:
        wait.set_result(None)
    await task
    assert log == ["began", "LookupError", "waited", *["waited"] * more]


@pytest.mark.parametrize("started", [True, False])
async def test_a_cancellation_reaches_the_first_wait(started):
    loop, log = asyncio.get_running_loop(), Log()
    task = run_eagerly(log.run(loop.create_future()), loop)
    if started:
        await turns()
    task.cancel()
    await asyncio.wait([task])
    assert log == ["began", "CancelledError", "waited"]


async def test_a_failure_before_the_first_wait_is_the_callers_and_one_after_it_the_tasks():
    loop = asyncio.get_running_loop()

    async def fail(wait: asyncio.Future[None] | None) -> None:
        if wait is not None:
            await wait
        raise LookupError

    with pytest.raises(LookupError):
        run_eagerly(fail(None), loop)
    wait = loop.create_future()
    task = run_eagerly(fail(wait), loop)
    wait.set_result(None)
    with pytest.raises(LookupError):
        await task


async def test_its_own_task_is_a_wait_away():
    seen: list[asyncio.Task[None] | None] = []

    async def look() -> None:
        seen.append(asyncio.current_task())
        await own_task()
        seen.append(asyncio.current_task())
        before = len(seen)
        await own_task()  # it has one: nothing to wait for
        assert len(seen) == before

    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[None] | None] = []
    loop.call_soon(lambda: tasks.append(run_eagerly(look(), loop)))
    await turns()
    assert seen == [None, tasks[0]]


class Carrier:
    """A connection that a cycle can be put on."""

    transport = flow = logger = None
    default_headers = ()

    def answered(self) -> None: ...

    def linger(self) -> None: ...


async def test_who_wants_to_know_is_told_once_that_the_caller_left():
    cycle = Cycle({"headers": []}, {}, Carrier(), waits_for_100=False, keep_alive=True)
    told: list[str] = []

    async def app(scope, receive, send):
        scope["extensions"][DIRECT].tell_when_gone(lambda: told.append("gone"))
        cycle.disconnect()
        cycle.disconnect()
        assert told == ["gone"]
        scope["extensions"][DIRECT].tell_when_gone(lambda: told.append("late"))

    await cycle.run(app)
    assert told == ["gone", "late"]


async def test_who_left_before_it_was_begun_is_not_asked_for():
    cycle = Cycle({"method": "POST", "path": "/", "headers": []}, {}, Carrier(), waits_for_100=False, keep_alive=True)
    cycle.disconnect()
    left: list[bool] = []

    async def app(scope, receive, send):
        exchange = Exchange(scope, receive, send, now=0.0, intake=Intake(max_body=1), form=ERRORS)
        with pytest.raises(ClientLeft):
            await exchange.cancel_when_gone()
        left.append(exchange.caller.left)

    await cycle.run(app)
    assert left == [True]
