"""A start does without the garbage collector, and has it work afterwards."""

import gc

from sentinel_gateway.serving import COLLECT_AFTER, spare_the_collector


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
