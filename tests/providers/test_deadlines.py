"""One connection's watchdog: what it ends when, and with how many timers."""

import asyncio

import pytest

from sentinel_gateway.providers._deadlines import MOMENT, Timeouts, Watchdog

LIMITS = Timeouts(first_byte=10, idle=4, total=100)


class Clock:
    """As much of an event loop as a watchdog asks of one, at a time of its own."""

    def __init__(self):
        self.now = 0.0
        self.timers = []
        self.made = 0

    def time(self):
        return self.now

    def call_at(self, when, call):
        self.made += 1
        timer = asyncio.TimerHandle(when, call, (), self)
        self.timers.append(timer)
        return timer

    def _timer_handle_cancelled(self, timer):
        self.timers.remove(timer)

    def get_debug(self):
        return False

    def go_to(self, moment):
        """Let time pass, and all timers fire that are due on the way."""
        while due := [timer for timer in self.timers if timer.when() <= moment]:
            first = min(due, key=asyncio.TimerHandle.when)
            self.timers.remove(first)
            self.now = first.when()
            first._run()  # noqa: SLF001 - as a loop does
        self.now = moment

    def stand_still_until(self, moment):
        """No timer fires before."""
        self.now = moment
        for late in [timer for timer in self.timers if timer.when() <= moment]:
            self.timers.remove(late)
            late._run()  # noqa: SLF001 - as a loop does


class Watched:
    """A connection's calls, one after the other, and what ended each."""

    def __init__(self):
        self.clock = Clock()
        self.dog = Watchdog(self.clock)
        self.ended = []

    def call(self, limits=LIMITS):
        self.dog.watch(limits, started=self.clock.now, expire=lambda limit: self.ended.append((limit, self.clock.now)))

    def hear_until(self, moment, every=1.0):
        while self.clock.now < moment:
            self.clock.go_to(self.clock.now + every)
            self.dog.heard()


@pytest.fixture
def watched():
    return Watched()


def test_each_limit_ends_a_call_in_its_time(watched):
    watched.call()
    watched.clock.go_to(1000)
    watched.call()
    watched.hear_until(1009)
    watched.clock.go_to(2000)
    watched.call()
    watched.hear_until(2200)
    assert watched.ended == [("first_byte", 10), ("idle", 1013), ("total", 2100)]


def test_who_rests_behind_a_slow_caller_is_ended_by_the_total_alone(watched):
    watched.call()
    watched.dog.rest()
    watched.clock.go_to(60)
    assert watched.ended == []
    watched.dog.wait()
    watched.dog.rest()
    watched.clock.go_to(1000)
    assert watched.ended == [("total", 100)]


@pytest.mark.parametrize("begun", [False, True])
def test_what_came_while_this_process_stood_still_is_read_before_anybody_is_late(watched, begun):
    """As on a machine that was paused: timers fire first, and sockets are looked at then."""
    watched.call()
    if begun:
        watched.dog.heard()
    watched.clock.stand_still_until(50)
    assert watched.ended == []
    watched.dog.heard()
    watched.clock.go_to(53)
    assert watched.ended == []
    watched.clock.go_to(60)
    assert watched.ended == [("idle", 54)]


@pytest.mark.parametrize(("limit", "until"), [("first_byte", 50), ("total", 200)])
def test_who_said_nothing_meanwhile_is_late_a_moment_later(watched, limit, until):
    watched.call()
    watched.clock.stand_still_until(until)
    watched.clock.go_to(1000)
    assert watched.ended == [(limit, until + MOMENT)]
    assert watched.clock.timers == []


def test_the_limits_of_a_call_say_nothing_of_the_next(watched):
    """Whether the timer is still set to an earlier moment than the next one needs, or to a later one."""
    for limits in (Timeouts(first_byte=1, idle=1, total=1), LIMITS, Timeouts(first_byte=50, idle=50, total=50)):
        watched.call(limits)
        watched.clock.go_to(watched.clock.now + 0.5)
        watched.dog.heard()
        watched.dog.stop()
    watched.call()
    watched.clock.go_to(1000)
    assert watched.ended == [("first_byte", 11.5)]


def test_many_short_calls_take_a_timer_now_and_then(watched):
    for _ in range(1000):
        watched.call()
        watched.clock.go_to(watched.clock.now + 0.125)
        watched.dog.heard()
        watched.dog.stop()
    assert watched.ended == []
    assert watched.clock.made < 100, "in 125 seconds, with limits of four and ten"


def test_what_has_ended_has_no_limit_and_no_timer(watched):
    watched.call()
    watched.dog.close()
    assert watched.clock.timers == []
    watched.dog.wait()
    watched.dog.rest()
    watched.clock.go_to(1000)
    assert watched.clock.made == 1


def test_a_connection_that_was_lost_before_its_first_call_has_no_timer(watched):
    watched.dog.close()
    watched.call()
    assert watched.clock.made == 0


def test_between_calls_it_comes_to_rest(watched):
    watched.call()
    watched.dog.heard()
    watched.dog.stop()
    watched.clock.go_to(1000)
    assert watched.ended == []
    assert watched.clock.timers == []
