"""What callgrind's dumps are read as."""

from bench.instructions import taken

DUMP = """\
# callgrind format
events: Ir
fn=(1) loop
0 7
cfn=(2) on_read
calls=3 0
0 1200
cfn=(3) on_timer
calls=1 0
0 50
fn=(2)
0 100
cfn=(4) parse
calls=9 0
0 900
fn=(5) other
0 1
cfn=(2)
calls=1 0
0 300
totals: 2558
"""


def test_what_a_function_takes_is_that_of_all_it_calls_from_wherever_it_is_called():
    assert taken(DUMP, {"on_read"}) == 1500
    assert taken(DUMP, {"on_read", "on_timer"}) == 1550
    assert taken(DUMP, {"parse"}) == 900
    assert taken(DUMP, {"loop", "no such function"}) == 0
