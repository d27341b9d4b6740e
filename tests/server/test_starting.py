"""A start sets up the interpreter: threads share it in small pieces, and the garbage collector comes afterwards, and seldom."""

import gc
import sys

import pytest

from sentinel_gateway.errors import ConfigurationError
from sentinel_gateway.serving import COLLECT_AFTER, MAX_DIGITS, SWITCH, serve, spare_the_collector
from sentinel_gateway.settings.load import Loaded


def test_once_it_has_started_garbage_is_collected_and_what_was_made_before_is_left_alone():
    usual = gc.get_threshold()
    gc.disable()
    try:
        spare_the_collector()
        assert gc.isenabled()
        assert gc.get_threshold() == COLLECT_AFTER
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.enable()
        gc.unfreeze()
        gc.set_threshold(*usual)


def test_whoever_waits_for_the_interpreter_has_it_soon():
    usual = sys.getswitchinterval(), sys.get_int_max_str_digits()

    def load() -> Loaded:
        raise ConfigurationError([("port", "none")])

    try:
        with pytest.raises(ConfigurationError):
            serve(load)
        assert sys.getswitchinterval() == pytest.approx(SWITCH)
        assert sys.get_int_max_str_digits() == MAX_DIGITS
    finally:
        sys.setswitchinterval(usual[0])
        sys.set_int_max_str_digits(usual[1])
