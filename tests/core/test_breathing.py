"""A thread beside the event loop works a fifth of the time, in pieces that are worth a switch."""

import pytest

from sentinel_gateway.core.breathing import ENOUGH, LONGEST, breath


@pytest.mark.parametrize(
    ("worked", "seconds"),
    [(0.0, 0.0), (0.9 * ENOUGH, 0.0), (ENOUGH, 4 * ENOUGH), (0.01, 0.04), (0.0125, LONGEST), (3.0, LONGEST)],
)
def test_it_waits_four_times_as_long_as_it_has_worked(worked, seconds):
    assert breath(worked) == pytest.approx(seconds)
