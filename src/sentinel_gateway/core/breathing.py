"""How long a thread that works beside the event loop leaves the core to it.

Where the loop has more to do than it can, a thread that just goes on has half of its core, and whoever waits for the loop waits
twice as long. One that waits several times as long as it has worked does the same, spread over more time. Work is the thread's
own processor time, so this holds on slow machines as on quick ones.
"""

from typing import Final

ENOUGH: Final = 0.002
"""Seconds of work. After less it goes on: each time it must find its way back into the processor's caches, which takes as long as
fifty rows of a ledger."""
TIMES: Final = 4.0
LONGEST: Final = 0.05
"""Seconds. Nobody waits for all the work that was done at once, such as loading a library."""


def breath(worked: float) -> float:
    """Seconds to wait after so many of work; 0: go on."""
    return min(TIMES * worked, LONGEST) if worked >= ENOUGH else 0.0
