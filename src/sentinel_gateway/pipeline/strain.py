"""Whether more comes than the event loop can do, and who is refused then.

What limits a gateway is the loop: a provider's answer may take a minute and costs nothing meanwhile, so neither how long requests
take nor how many there are tells that it is too much. How long a turn of the loop takes does: whatever comes waits for it, and
each request waits for several. So the work in a turn is measured, and there are two bounds, as CoDel has for packets and others
after it for servers. While turns are sometimes short, whatever came together is being worked off, and nobody is refused. Once all
of them have been long for a while, the queue is one that stays: from then on whoever would wait for more than `SHORT` is refused,
so that what is begun is done in good time, until nobody has had to be refused for a while. And from then on a turn that holds
much puts off what can wait for the next one: those who are to be refused are read once in a turn, and learn it sooner.

Work is the processor time of the loop's thread, also where it is asked for how long turns have been long. The clock on the wall
would also count the time in which the machine lets others run, or the process is held, and refuse for their sake.
"""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Final

LONG: Final = 0.020
"""Seconds of work. A turn with more of it has kept somebody waiting; a request goes through about five of them."""
PATIENCE: Final = 0.5
"""Seconds of work in turns that were all long, after which the queue is one that stays."""
TURNS: Final = 2
"""As many of them at least, so none counts for more than its share: one that takes a second keeps nobody waiting for good."""
SHORT: Final = 0.004
"""Seconds of work for which a request may wait then."""
FULL: Final = 0.005
"""Seconds of work after which a turn puts off what can wait."""
FEW: Final = 8
"""What could wait and is not put off, however much a turn holds: refusing alone may fill it."""
MANY: Final = 512
"""Are put off at a time: in each turn each asks whether it may go on, for a microsecond. Of a greater crowd the rest goes on."""
CALM: Final = 1.0
"""Seconds in which nobody was refused, after which that ends."""
REST: Final = 0.05
"""Seconds from one look to the next while turns are short."""
TICK: Final = 0.001
"""Seconds, the least that a timer of the loop can be set to: it fires at the beginning of the next turn."""


class Strain:
    """How much work the turns of a loop hold. Tells `note` of overload_began and overload_ended.

    `note` is that of `ports.Events`. `work` is the processor time of the thread that asks, `clock` never jumps; both in seconds.
    """

    def __init__(
        self,
        note: Callable[..., None],
        *,
        work: Callable[[], float] = time.thread_time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._note = note
        self._work = work
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop
        self._timer: asyncio.TimerHandle | None = None
        self._late = math.inf  # by then it has fired, or a turn is a long one; before the start and after the end nobody looks
        self._rests = False  # the turn under way is not timed
        self._began = 0.0  # the turn under way
        self._counted = 0.0  # of its work, in the backlog
        self._took = 0.0  # the turn before it
        self._backlog = 0.0  # work in those that were long, since the last that was not
        self._since = 0.0
        self._refused_at = 0.0
        self._put_off = 0
        self._gone_on = 0  # in the turn under way, of what could wait
        self.is_strained = False
        """There is more than can be done: some are refused."""

    def __repr__(self) -> str:
        state = "strained" if self.is_strained else "at ease"
        return f"<Strain {state}, turns of {1000 * self._took:.1f} ms>"

    def start(self) -> None:
        """Time the turns of the running loop from now on."""
        self._loop = asyncio.get_running_loop()
        self._began = self._work()
        self._wait(self._clock(), TICK)

    def close(self) -> None:
        """Look no more, and put nothing off."""
        self._late, self.is_strained = math.inf, False
        if self._timer is not None:
            self._timer.cancel()

    def is_too_much(self) -> bool:
        """Would a request that is read now wait too long?"""
        if not self.is_strained:
            if self._clock() < self._late:
                return False
            self._count_on()
            if not self.is_strained:
                return False
        # it came in the turn before, in the midst of it for all we know
        return self._put_off > 0 or self._took / 2 + self._work() - self._began >= SHORT

    async def give_way(self) -> None:
        """Go on in a later turn, if there is more than can be done and this one holds enough; in the order of asking."""
        if not self.is_strained or self._put_off >= MANY:
            return
        self._put_off += 1
        try:
            while self._holds_enough():  # noqa: ASYNC110 - the next turn is what is waited for
                await asyncio.sleep(0)
        finally:
            self._put_off -= 1
        self._gone_on += 1

    def refused(self) -> None:
        """Somebody had to be refused: it goes on for a while."""
        self._refused_at = self._clock()

    def _holds_enough(self) -> bool:
        return self.is_strained and self._gone_on >= FEW and self._work() - self._began >= FULL

    def _wait(self, now: float, seconds: float) -> None:
        self._rests, self._late = seconds == REST, now + seconds + LONG
        self._timer = self._loop.call_later(seconds, self._turn)

    def _turn(self) -> None:
        """A turn begins: the one before is over."""
        now, took, timed = self._clock(), self._work() - self._began, not self._rests
        if timed:
            self._took = took
            self._backlog = self._backlog + self._uncounted(took) if took >= LONG else 0.0
            is_over = self.is_strained and not self._backlog and now - self._refused_at > CALM
            if is_over or (not self.is_strained and self._backlog >= PATIENCE):
                self._change(now)
        self._began, self._counted, self._gone_on = self._began + took, 0.0, 0
        self._wait(now, REST if timed and not (self.is_strained or self._backlog) else TICK)

    def _count_on(self) -> None:
        """The turn does not end. It is counted so far: libuv reads up to 50,000 requests in one, if so many have come."""
        now, took = self._clock(), self._work() - self._began
        if took >= LONG:
            self._backlog += self._uncounted(took)
            self._counted = took
        self._late = now + LONG
        if self._backlog >= PATIENCE:
            self._change(now)

    def _uncounted(self, took: float) -> float:
        return min(took - self._counted, PATIENCE / TURNS)

    def _change(self, now: float) -> None:
        self.is_strained = not self.is_strained
        if self.is_strained:
            self._since = self._refused_at = now
        self._loop.call_soon(self._tell, self.is_strained, round(now - self._since, 3))  # whatever becomes of that

    def _tell(self, began: bool, seconds: float) -> None:  # noqa: FBT001 - a callback
        if began:
            self._note("overload_began", reason="more comes than can be done: whoever would wait long is refused")
        else:
            self._note("overload_ended", seconds=seconds)
