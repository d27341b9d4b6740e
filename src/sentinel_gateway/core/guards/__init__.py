"""Guards: when must a stored answer not serve a question, however similar the two texts are?

A sentence embedding hardly sees a number, a name, a "not" or the order of words. Each guard looks at one of these and objects
if the two texts could want different answers. A guard is a veto: no similarity outweighs it. It costs a call to a provider
where it errs; what it misses costs a wrong answer. Only where labels have shown what rewordings are worth (`weighed`), and the
two are worded differently throughout (`rewording`), what a soft guard says is one doubt among all that makes a confidence.

Pure rules over the two texts, for English first. Time is linear in their length.
"""

from collections.abc import Callable, Iterator
from typing import Final, Literal

from sentinel_gateway.core.guards import (
    asks,
    bounds,
    content,
    language,
    letters,
    moments,
    names,
    numbers,
    order,
    polarity,
    verbatim,
)
from sentinel_gateway.core.guards.language import is_foreign
from sentinel_gateway.core.guards.rewording import reworded
from sentinel_gateway.core.guards.words import Pair, pair, read

__all__ = ["SOFT", "Guard", "doubts", "is_foreign", "veto", "vetoes"]

Guard = Literal[
    "language",
    "verbatim",
    "numbers",
    "time",
    "negation",
    "antonyms",
    "pronouns",
    "names",
    "question",
    "form",
    "action",
    "order",
    "words",
]
"""A closed list; the reason of a miss is `guard-<name>`."""


def _misquoted(pair: Pair) -> bool:
    a, b = pair.a, pair.b
    return (
        a.signs != b.signs
        or letters.differ(a.letters, b.letters)
        or verbatim.missing(a.spans, b.spans, b.text)
        or verbatim.missing(b.spans, a.spans, a.text)
    )


OBJECTIONS: Final[tuple[tuple[Guard, Callable[[Pair], bool]], ...]] = (
    ("verbatim", _misquoted),
    ("language", language.differs),
    ("numbers", lambda pair: numbers.differ(pair.only_a, pair.only_b) or bounds.differ(pair)),
    ("time", moments.differ),
    ("negation", polarity.negated),
    ("antonyms", polarity.opposite),
    ("form", asks.forms_differ),
    ("pronouns", names.pronouns_differ),
    ("names", names.differ),
    ("question", asks.kinds_differ),
    ("action", asks.acts),
    ("order", order.differs),
    ("words", content.differs),
)


SOFT: Final[frozenset[Guard]] = frozenset({"question", "order", "words"})
"""Guards that evidence may outweigh in rewordings: most of what they object to there is right."""


def vetoes(question: str, stored: str, *, weighed: bool = False) -> Iterator[Guard]:
    """The guards that object to answering `question` with the answer to `stored`, one after the other. Symmetric.

    `weighed`: what was learned decides whether an answer serves, so what soft guards say of a rewording is no veto (`doubts`).
    A text that is foreign is not read further.
    """
    if is_foreign(question) or is_foreign(stored):
        yield "language"
        return
    both = pair(read(question), read(stored))
    silent = SOFT if weighed and reworded(both) else frozenset[Guard]()
    for guard, objects in OBJECTIONS:
        if guard not in silent and objects(both):
            yield guard


def veto(question: str, stored: str, *, weighed: bool = False) -> Guard | None:
    """The first that objects; None if none does."""
    return next(vetoes(question, stored, weighed=weighed), None)


def doubts(question: str, stored: str) -> frozenset[Guard]:
    """The soft guards that object, whether or not that is a veto."""
    both = pair(read(question), read(stored))
    return frozenset(guard for guard, objects in OBJECTIONS if guard in SOFT and objects(both))
