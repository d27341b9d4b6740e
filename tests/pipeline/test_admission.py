"""Places are taken, waited for, handed over and given back; the count never drifts."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from sentinel_gateway.errors import Overloaded, Strained
from sentinel_gateway.pipeline.admit import Admission, Capacity
from tests.fakes import HandMovedLoop, turns

WAIT = 1.0


def run(main: Callable[[HandMovedLoop], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=HandMovedLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, HandMovedLoop)
        runner.run(main(loop))


class Crowd:
    """Requests that come, stay until told to leave, and say how they ended."""

    def __init__(self, *, places: int, queue: int) -> None:
        self.places = self.most = places
        self.queue = queue
        self.admission = Admission(Capacity(places, queue, WAIT), chance=lambda: 0.5)
        self.inside: list[asyncio.Event] = []
        self.tasks: list[asyncio.Task[str]] = []

    def arrive(self) -> asyncio.Task[str]:
        task = asyncio.create_task(self._visit())
        self.tasks.append(task)
        return task

    async def _visit(self) -> str:
        leave = asyncio.Event()
        try:
            async with self.admission:
                self.inside.append(leave)
                try:
                    await leave.wait()
                finally:
                    self.inside.remove(leave)
        except Overloaded:
            return "refused"
        return "served"

    def leave(self) -> None:
        for door in self.inside:
            if not door.is_set():
                door.set()
                return

    @property
    def waiting(self) -> int:
        return len([task for task in self.tasks if not task.done()]) - len(self.inside)

    def resize(self, places: int) -> None:
        self.places = places
        self.most = max(places, self.admission.running)
        self.admission.resize(Capacity(places, self.queue, WAIT))

    def check(self) -> None:
        """Holds whenever nothing is ready to run."""
        self.most = max(self.places, min(self.most, self.admission.running))
        assert self.admission.running == len(self.inside) <= self.most
        assert self.waiting <= self.queue
        assert self.waiting == 0 or len(self.inside) >= self.places, "somebody waits beside a free place"
        expected = f"<Admission {len(self.inside)}/{self.places} in flight, {self.waiting} waiting>"
        assert repr(self.admission) == expected


def test_places_then_queue_then_refusal():
    async def main(loop):
        crowd = Crowd(places=2, queue=1)
        tasks = [crowd.arrive() for _ in range(4)]
        await turns()
        assert [task.done() for task in tasks] == [False, False, False, True]
        assert tasks[3].result() == "refused"
        assert (len(crowd.inside), crowd.waiting) == (2, 1)
        crowd.check()

        crowd.leave()
        await turns()
        assert tasks[0].result() == "served"
        assert (len(crowd.inside), crowd.waiting) == (2, 0)
        crowd.check()

    run(main)


def test_first_come_first_served():
    async def main(loop):
        crowd, entered = Crowd(places=1, queue=3), []

        async def visit(number: int) -> None:
            async with crowd.admission:
                entered.append(number)
                await turns(2)

        await asyncio.gather(*(visit(number) for number in range(4)))
        assert entered == [0, 1, 2, 3]
        assert crowd.admission.running == 0

    run(main)


def test_a_wait_is_bounded():
    async def main(loop):
        crowd = Crowd(places=1, queue=1)
        crowd.arrive()
        waiter = crowd.arrive()
        await turns()
        loop.now = WAIT - 0.01
        await turns()
        assert not waiter.done()
        loop.now = WAIT + 0.01
        await turns()
        assert waiter.result() == "refused"
        crowd.check()

    run(main)


def test_new_places_are_for_those_who_wait():
    async def main(loop):
        crowd = Crowd(places=1, queue=3)
        tasks = [crowd.arrive() for _ in range(4)]
        await turns()
        tasks[1].cancel()  # in the turn of the change: its place is still in the queue
        crowd.resize(3)
        newcomer = crowd.arrive()
        await turns()
        assert [task.done() for task in tasks] == [False, True, False, False]
        assert (len(crowd.inside), crowd.waiting, newcomer.done()) == (3, 1, False)
        crowd.check()
        await drain(crowd)

    run(main)


def test_places_taken_away_are_not_handed_on():
    async def main(loop):
        crowd = Crowd(places=3, queue=2)
        for _ in range(5):
            crowd.arrive()
        await turns()
        crowd.resize(1)
        for inside, waiting in [(2, 2), (1, 2), (1, 1), (1, 0), (0, 0)]:
            crowd.leave()
            await turns()
            assert (len(crowd.inside), crowd.waiting) == (inside, waiting)
            crowd.check()

    run(main)


@pytest.mark.parametrize(("drawn", "wait"), [(0.0, 1.0), (0.25, 1.5), (1.0, 3.0)])
def test_refused_callers_are_told_different_times(drawn, wait):
    async def main(loop):
        admission = Admission(Capacity(0, 0, WAIT), chance=iter([drawn]).__next__)
        with pytest.raises(Overloaded) as caught:
            await admission.__aenter__()
        assert caught.value.retry_after == wait

    run(main)


def test_an_error_inside_gives_the_place_back():
    async def main(loop):
        admission = Admission(Capacity(1, 0, WAIT), chance=lambda: 0.0)
        with pytest.raises(LookupError):
            async with admission:
                raise LookupError
        assert admission.running == 0

    run(main)


@pytest.mark.parametrize("end", ["cancelled", "timed out"])
@pytest.mark.parametrize("handed_over_first", [True, False])
def test_a_place_given_back_in_the_turn_in_which_its_waiter_leaves_goes_on(end, handed_over_first):
    """A waiter that is cancelled may hold the place already and never uses it: the one behind it must get it.

    One whose time is over in the very turn in which it gets its place has it, and is served.
    """

    async def main(loop):
        crowd, seen = Crowd(places=1, queue=2), []
        await crowd.admission.__aenter__()
        waiter = crowd.arrive()
        await turns()
        loop.now = WAIT / 2
        behind = crowd.arrive()
        await turns()

        def give_back() -> None:
            with suppress(StopIteration):
                crowd.admission.__aexit__(None, None, None).send(None)
            seen.append((repr(crowd.admission), waiter.done()))

        if end == "timed out":
            loop.call_at(WAIT - 0.001 if handed_over_first else WAIT + 0.001, give_back)
            loop.now = WAIT + 0.002
        else:
            for step in (give_back, waiter.cancel)[:: 1 if handed_over_first else -1]:
                loop.call_soon(step)
        await turns()

        assert seen == [("<Admission 1/1 in flight, 1 waiting>", False)], "they did not fall into one turn"
        assert waiter.done() == (end == "cancelled")
        assert not behind.done()
        crowd.check()
        await drain(crowd)
        assert behind.result() == "served"
        assert waiter.cancelled() if end == "cancelled" else waiter.result() == "served"

    run(main)


OPERATIONS = st.one_of(
    st.sampled_from(["arrive", "leave", "turn", "wait"]),
    st.tuples(st.just("cancel"), st.integers(0, 30)),
    st.tuples(st.just("resize"), st.integers(1, 4)),
)


@settings(max_examples=200)
@given(places=st.integers(1, 3), queue=st.integers(0, 3), operations=st.lists(OPERATIONS, min_size=10, max_size=60))
def test_the_count_never_drifts(places, queue, operations):
    """Whatever falls into one turn of the loop: operations between two `turn`s do."""

    async def main(loop):
        crowd = Crowd(places=places, queue=queue)
        for operation in operations:
            match operation:
                case "arrive":
                    crowd.arrive()
                case "leave":
                    crowd.leave()
                case "wait":
                    loop.now += WAIT * 0.6
                case "turn":
                    await turns(1)
                case ("resize", number):
                    crowd.resize(number)
                case ("cancel", number) if number < len(crowd.tasks):
                    crowd.tasks[number].cancel()
            assert crowd.admission.running <= crowd.most
        await turns()
        crowd.check()
        for outcome in {"cancelled" if t.cancelled() else t.result() for t in crowd.tasks if t.done()}:
            event(outcome)
        await drain(crowd)

    run(main)


async def drain(crowd: Crowd) -> None:
    while crowd.inside:
        crowd.leave()
        await turns()
    assert crowd.admission.running == crowd.waiting == 0
    crowd.tasks.clear()
    for _ in range(crowd.places):
        crowd.arrive()
    await turns()
    assert len(crowd.inside) == crowd.places, "a place was lost"
    while crowd.inside:
        crowd.leave()
        await turns()


def test_who_comes_while_there_is_too_much_to_do_is_refused_though_there_are_places():
    strained, refused = [True], []
    admission = Admission(Capacity(8, 8, WAIT), lambda: 0.5, strained=lambda: strained[0], refused=lambda: refused.append(1))
    assert not admission.has_room
    with pytest.raises(Strained):
        admission.check()
    assert len(refused) == 1
    strained[0] = False
    assert admission.has_room
    admission.check()
    assert len(refused) == 1
