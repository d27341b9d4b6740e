"""Guards: when must a stored answer not serve a question, however similar the two texts are?

A sentence embedding hardly sees a number, a name, a "not" or the order of words. Each guard looks at one of these and objects
if the two texts could want different answers. A guard is a veto: no similarity outweighs it. It costs a call to a provider
where it errs; what it misses costs a wrong answer.

Pure rules over the two texts, for English first. Time is linear in their length.
"""

from collections.abc import Callable, Iterator
from typing import Final, Literal

from sentinel_gateway.core.guards import asks, content, language, letters, moments, names, numbers, order, polarity, verbatim
from sentinel_gateway.core.guards.language import is_foreign
from sentinel_gateway.core.guards.words import Pair, pair, read

__all__ = ["SOFT", "Guard", "doubts", "is_foreign", "ruled_out", "veto", "vetoes"]

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
    ("numbers", lambda pair: numbers.differ(pair.only_a, pair.only_b)),
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
"""Guards that evidence may outweigh: where many wordings want one answer, most of what they object to is right."""


def vetoes(question: str, stored: str) -> Iterator[Guard]:
    """The guards that object to answering `question` with the answer to `stored`, one after the other. Symmetric.

    A text that is foreign is not read further.
    """
    if is_foreign(question) or is_foreign(stored):
        yield "language"
        return
    both = pair(read(question), read(stored))
    for guard, objects in OBJECTIONS:
        if objects(both):
            yield guard


def veto(question: str, stored: str) -> Guard | None:
    """The first that objects; None if none does."""
    return next(vetoes(question, stored), None)


def ruled_out(question: str, stored: str) -> Guard | None:
    """As `veto`, of the guards that no evidence outweighs."""
    if is_foreign(question) or is_foreign(stored):
        return "language"
    both = pair(read(question), read(stored))
    return next((guard for guard, objects in OBJECTIONS if guard not in SOFT and objects(both)), None)


def doubts(question: str, stored: str) -> frozenset[Guard]:
    """The soft guards that object."""
    both = pair(read(question), read(stored))
    return frozenset(guard for guard, objects in OBJECTIONS if guard in SOFT and objects(both))
