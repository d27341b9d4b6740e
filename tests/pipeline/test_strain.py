"""When turns of the loop hold too much work for too long, some are refused; until there is less again."""

import asyncio

import pytest

from sentinel_gateway.pipeline.strain import CALM, FEW, FULL, LONG, MANY, PATIENCE, REST, SHORT, TICK, TURNS, Strain
from tests.fakes import HandMovedLoop, at_once, turns


class Loop:
    """A strain and the loop that it watches: work is what is said to have been done, and time passes with it."""

    def __init__(self, loop: HandMovedLoop) -> None:
        self.loop = loop
        self.done = 0.0
        self.notes: list[str] = []
        self.strain = Strain(self._note, work=lambda: self.done, clock=loop.time)
        self.strain.start()

    def _note(self, event: str, /, **_: object) -> None:
        self.notes.append(event)

    async def turn(self, work: float, *, idle: float = 0.0) -> None:
        """One turn of so much work, after which nothing happens for a while."""
        self.done += work
        self.loop.now += max(work + idle, 2 * TICK)
        await turns()

    def read(self, work: float, *, held: float = 0.0) -> bool:
        """One request more in the turn under way, after so much work: is it too much?"""
        self.done += work
        self.loop.now += work + held
        return self.strain.is_too_much()

    async def look(self) -> None:
        """It rests between two looks."""
        await self.turn(0.0, idle=REST)

    async def overload(self) -> None:
        """Until it has had enough."""
        await self.look()
        for _ in range(int(PATIENCE / LONG) + TURNS):
            await self.turn(1.5 * LONG)

    async def fill_a_turn(self) -> None:
        """There is more than can be done, and the turn under way holds enough."""
        await self.overload()
        await self.turn(0.0)
        self.read(FULL)


@pytest.fixture
def on():
    """on(main) runs it with a Loop."""

    def run(main):
        async def watched(loop):
            watched = Loop(loop)
            await main(watched)
            watched.strain.close()

        with asyncio.Runner(loop_factory=HandMovedLoop) as runner:
            runner.run(watched(runner.get_loop()))

    return run


def test_nobody_is_refused_while_turns_are_short(on):
    async def main(watched):
        for _ in range(100):
            await watched.turn(0.9 * LONG)
            assert not watched.strain.is_too_much()
        assert not watched.notes

    on(main)


def test_a_queue_that_stays_is_cut_short(on):
    async def main(watched):
        await watched.overload()
        assert watched.notes == ["overload_began"]
        assert repr(watched.strain).startswith("<Strain strained, turns of 30.0 ms")
        assert watched.strain.is_too_much(), "it waited for a turn of long, or for half of that"
        await watched.turn(0.5 * SHORT)
        assert not watched.strain.is_too_much()
        watched.done += 0.8 * SHORT  # of the turn under way
        assert watched.strain.is_too_much()

    on(main)


def test_a_crowd_that_is_worked_off_is_no_queue_that_stays(on):
    async def main(watched):
        for _ in range(20):
            await watched.look()
            for _ in range(int(0.8 * PATIENCE / LONG) - 1):
                await watched.turn(LONG)
            assert not watched.strain.is_too_much()
            await watched.turn(0.0)
        assert not watched.notes

    on(main)


def test_one_turn_that_was_held_up_queues_nobody_for_good(on):
    async def main(watched):
        for phase in range(4):  # it may come while nobody looks
            for _ in range(phase):
                await watched.look()
            for _ in range(TURNS - 1):
                await watched.turn(4 * PATIENCE)
                assert not watched.strain.is_too_much()
            await watched.turn(0.0)
        assert not watched.notes

    on(main)


@pytest.mark.parametrize("looks", [0, 1, 2, 3])
def test_thousands_who_are_read_in_one_turn_are_cut_short(on, looks):
    async def main(watched):
        for _ in range(looks):  # it may come while nobody looks
            await watched.look()
        begun = watched.done
        while not watched.read(0.0004):
            assert watched.done - begun < PATIENCE + REST + 3 * LONG
        assert watched.done - begun >= PATIENCE
        assert watched.read(0.00002), "those behind them as well"
        await watched.turn(0.5 * SHORT)
        assert watched.notes == ["overload_began"]
        await watched.turn(0.5 * SHORT)
        assert not watched.strain.is_too_much()

    on(main)


def test_what_holds_one_turn_up_is_no_queue_to_who_is_read_after_it(on):
    async def main(watched):
        for looks in range(4):
            for _ in range(looks):
                await watched.look()
            assert not watched.read(4 * PATIENCE)
            assert not watched.read(0.1 * PATIENCE)
            assert not watched.read(LONG, held=10.0)
            await watched.turn(0.0)
        assert not watched.notes

    on(main)


def test_a_machine_that_lets_others_run_is_no_reason(on):
    async def main(watched):
        await watched.look()
        for _ in range(200):
            await watched.turn(0.2 * LONG, idle=5 * LONG)
            assert not watched.strain.is_too_much()
        assert not watched.notes

    on(main)


def test_a_process_that_gets_little_of_its_machine_has_no_queue_for_that(on):
    """Throttled to a tenth: what is work of half the patience takes five times as long as that."""

    async def main(watched):
        for _ in range(5):
            await watched.look()
            for _ in range(int(0.5 * PATIENCE / LONG)):
                await watched.turn(LONG, idle=10 * LONG)
                assert not watched.strain.is_strained
            await watched.turn(0.0)
        assert not watched.notes

    on(main)


def test_a_process_that_is_held_in_a_turn_has_no_queue_for_that(on):
    """The turn does not end, and nothing is done in it."""

    async def main(watched):
        await watched.look()
        assert not any(watched.read(0.01 * LONG, held=PATIENCE) for _ in range(20))
        assert not watched.strain.is_strained

    on(main)


@pytest.mark.parametrize("worked", [0.0, 2 * LONG, 10.0])
def test_what_has_gathered_in_a_pause_is_no_queue_that_stays(on, worked):
    """A process that was held for ten seconds, or was busy with one thing for so long, and then works off what came."""

    async def main(watched):
        await watched.turn(worked, idle=10.0)
        assert repr(watched.strain).endswith(f"turns of {1000 * worked:.1f} ms>")
        for _ in range(5):
            await watched.turn(LONG)
            assert not watched.strain.is_strained
        await watched.turn(0.0)
        assert not watched.notes

    on(main)


def test_turns_are_timed_even_if_it_could_not_be_told(on):
    async def main(watched):
        def fail(event: str, /, **_: object) -> None:
            raise OSError(event)

        faults: list[object] = []
        watched.loop.set_exception_handler(lambda _, context: faults.append(context["exception"]))
        watched.strain._note = fail  # noqa: SLF001 - a log that can't be written
        await watched.overload()
        assert watched.strain.is_strained
        while watched.strain.is_strained:
            assert watched.loop.now < 100 * CALM
            await watched.turn(0.1 * SHORT, idle=0.01)
        assert [str(fault) for fault in faults] == ["overload_began", "overload_ended"]

    on(main)


def test_who_only_asks_does_not_keep_it_going(on):
    async def main(watched):
        await watched.overload()
        for _ in range(int(3 * CALM / LONG)):
            await watched.turn(1.5 * SHORT, idle=LONG)
            watched.done += SHORT
            watched.strain.is_too_much()
        assert watched.notes == ["overload_began", "overload_ended"]

    on(main)


def test_it_ends_once_nobody_had_to_be_refused_for_a_while(on):
    async def main(watched):
        await watched.overload()
        assert watched.strain.is_too_much()
        watched.strain.refused()
        refused = watched.loop.now
        while watched.strain.is_strained:
            assert watched.loop.now < refused + 2 * CALM
            await watched.turn(0.1 * SHORT, idle=0.01)
            assert not watched.strain.is_too_much()
        assert watched.loop.now > refused + CALM
        assert watched.notes == ["overload_began", "overload_ended"]
        await watched.overload()
        assert watched.notes[2:] == ["overload_began"]

    on(main)


def test_refusals_keep_it_going(on):
    async def main(watched):
        await watched.overload()
        for _ in range(int(3 * CALM / LONG)):
            await watched.turn(1.5 * SHORT, idle=0.01)
            watched.done += SHORT
            assert watched.strain.is_too_much()
            watched.strain.refused()
        assert watched.notes == ["overload_began"]

    on(main)


def gone_on(steps):
    """Which of these go on in the turn under way: as the loop lets them, one after the other."""

    def goes_on(step):
        try:
            step.send(None)
        except StopIteration:
            return True
        return False

    return [step for step in steps if goes_on(step)]


def test_nothing_is_put_off_while_nobody_is_refused(on):
    async def main(watched):
        await watched.look()
        watched.read(10 * LONG)
        for _ in range(2 * FEW):
            at_once(watched.strain.give_way())

    on(main)


def test_a_turn_that_holds_enough_puts_off_what_can_wait(on):
    async def main(watched):
        await watched.overload()
        await watched.turn(0.0)
        for _ in range(2 * FEW):
            at_once(watched.strain.give_way())
        watched.read(FULL)
        steps = [watched.strain.give_way() for _ in range(2 * FEW)]
        assert not gone_on(steps)
        await watched.turn(0.0)
        assert gone_on(steps) == steps

    on(main)


def test_a_few_go_on_in_a_turn_that_refusing_alone_fills(on):
    async def main(watched):
        await watched.overload()
        steps = [watched.strain.give_way() for _ in range(2 * FEW + 1)]
        for few in (steps[:FEW], steps[FEW:-1], steps[-1:]):
            await watched.turn(0.0)
            watched.read(FULL)
            assert gone_on(steps) == few, "whoever has waited for longest"
            steps = [step for step in steps if step not in few]

    on(main)


def test_no_more_than_many_are_put_off(on):
    async def main(watched):
        await watched.fill_a_turn()
        steps = [watched.strain.give_way() for _ in range(FEW + MANY + 1)]
        assert gone_on(steps) == [*steps[:FEW], steps[-1]]

    on(main)


def test_whoever_comes_is_refused_while_something_is_put_off(on):
    async def main(watched):
        await watched.fill_a_turn()
        *few, last = (watched.strain.give_way() for _ in range(FEW + 1))
        assert gone_on([*few, last]) == few
        await watched.turn(0.0)
        assert watched.strain.is_too_much(), "the turn holds nothing, and one before it has left something"
        last.close()  # who waited for it has left
        assert not watched.strain.is_too_much()

    on(main)


@pytest.mark.parametrize("end", ["calm", "closed"])
def test_nothing_is_put_off_for_good(on, end):
    async def main(watched):
        await watched.fill_a_turn()
        *few, last = (watched.strain.give_way() for _ in range(FEW + 1))
        assert gone_on([*few, last]) == few
        if end == "closed":
            watched.strain.close()
        else:
            for _ in range(3):
                await watched.turn(0.0, idle=CALM)
            watched.read(FULL)
        assert gone_on([last]) == [last]

    on(main)


def test_one_that_never_watched_has_nothing_to_end():
    strain = Strain(lambda *_, **__: None, work=lambda: 0.0, clock=lambda: 0.0)
    strain.close()
    assert not strain.is_too_much()


def test_before_it_watches_and_after_nothing_is_too_much(on):
    """The gateways of tests share a thread that has worked for minutes, and nobody times their turns."""
    work = iter(range(100, 200))
    strain = Strain(lambda *_, **__: None, work=lambda: next(work), clock=lambda: 100.0)
    assert not any(strain.is_too_much() for _ in range(10))

    async def main(watched):
        await watched.look()
        watched.strain.close()
        assert not any(watched.read(100.0) for _ in range(10))
        assert not watched.notes

    on(main)
