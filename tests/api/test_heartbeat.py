"""When a stream that says nothing gives a sign of life: once it has been silent for as long as is set, not twice that."""

from types import SimpleNamespace

from sentinel_gateway.api.exchange import Sender
from sentinel_gateway.api.openai import ERRORS
from sentinel_gateway.pipeline.journey import Journey
from tests.fakes import at_once

PULSE = b": pulse\n\n"
EVERY = 1e6
"""Seconds, so many that no machine is too slow for it."""


def sender():
    sent = []

    async def send(message):
        sent.append(message.get("body"))

    journey = Journey(at=0.0, request_id="", sentinel_id="", route="", method="POST")
    return Sender(send, journey, SimpleNamespace(served=False), ERRORS), sent


def test_what_has_said_nothing_yet_beats():
    one, sent = sender()
    one._said_at = -2 * EVERY  # noqa: SLF001 - the clock may begin at the machine's start
    assert at_once(one.beat(PULSE, EVERY)) == EVERY
    assert sent == [PULSE]


def test_after_a_word_it_is_due_as_long_after_that():
    one, sent = sender()
    at_once(one.part(b"data: {}\n\n"))
    assert EVERY - 1000 < at_once(one.beat(PULSE, EVERY)) <= EVERY
    one._said_at -= 0.75 * EVERY  # noqa: SLF001 - as if so much time had passed
    assert 0.25 * EVERY - 1000 < at_once(one.beat(PULSE, EVERY)) <= 0.25 * EVERY
    assert sent == [b"data: {}\n\n"], "nothing but the word"
    one._said_at -= 0.25 * EVERY  # noqa: SLF001
    assert at_once(one.beat(PULSE, EVERY)) == EVERY
    assert sent[1:] == [PULSE]


def test_a_sign_of_life_counts_as_one():
    one, sent = sender()
    one._said_at = -2 * EVERY  # noqa: SLF001
    at_once(one.beat(PULSE, EVERY))
    assert EVERY - 1000 < at_once(one.beat(PULSE, EVERY)) < EVERY
    assert sent == [PULSE]
