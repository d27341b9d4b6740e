"""Which of the hits that could be served go to the provider instead, so that the error of what is served is measured.

Many at the beginning, when each label counts and few hits are lost by it; then a few in a hundred at most. Fewer where the
confidence is high: a wrong hit is rare there, and hardly any label would find one. A label stands for 1 / rate hits.
"""

from math import sqrt
from typing import Final

BEGINNING: Final = 100
"""After so many hits every second one would be explored, after 19 times as many one in twenty."""
LOWEST: Final = 0.5
"""Of the rate that is asked for: where the confidence is highest, so much of it is left."""


def exploration_rate(confidence: float, *, threshold: float, hits: int, least: float) -> float:
    """The chance with which a hit at this confidence is to be explored, from `least` / 2 to 1; 0 if `least` is 0.

    `hits`: how many could have been served so far. `least`: what the operator asks for, 0 to 1.
    """
    if least <= 0.0:
        return 0.0
    usual = max(least, BEGINNING / (BEGINNING + hits))
    doubt = sqrt(min(1.0, (1.0 - confidence) / max(1.0 - threshold, 1e-9)))
    return max(LOWEST * least, usual * doubt)
