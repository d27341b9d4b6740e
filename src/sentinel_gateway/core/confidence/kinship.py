"""Which stored answers are known to say the same.

A miss brings a fresh answer, and it is compared with those of its neighbours. That is worth more than a label: where a new
question's neighbours all answered alike, it hardly matters which of them serves, and where they did not, a boundary is near.
The same knowledge tells a judge's slip from a wrong hit.
"""

from collections.abc import Iterable, Mapping
from typing import Final

ENTRIES: Final = 50_000
OUTVOTED: Final = 2
"""So many more answers must speak against a verdict than for it."""


class Kinship:
    """Verdicts on pairs of entries, whichever way round they were compared; of `most` entries, those compared last.

    `verdicts`, of an earlier one, are its own from now on.
    """

    __slots__ = ("_most", "_verdicts")

    def __init__(self, verdicts: dict[str, dict[str, bool]] | None = None, *, most: int = ENTRIES) -> None:
        self._most = most
        self._verdicts = verdicts or {}

    def __repr__(self) -> str:
        return f"<Kinship of {len(self._verdicts)} entries>"

    def note(self, a: str, b: str, *, same: bool) -> None:
        """The answers of these two were compared."""
        for entry, other in ((a, b), (b, a)):
            verdicts = self._verdicts.pop(entry, {})
            verdicts[other] = same
            self._verdicts[entry] = verdicts  # the one compared last stands last
        while len(self._verdicts) > self._most:
            gone = next(iter(self._verdicts))
            for other in self._verdicts.pop(gone):
                self._verdicts.get(other, {}).pop(gone, None)

    def around(self, entry: str, others: Iterable[str]) -> tuple[float, float]:
        """How many of the others' answers say the same as that of `entry`, and how many don't.

        As shares of those known and one more, so that one voice is less than all.
        """
        verdicts = self._verdicts.get(entry, {})
        known = [verdicts[other] for other in others if other in verdicts]
        whole = len(known) + 1
        return sum(known) / whole, (len(known) - sum(known)) / whole

    def second_opinion(self, entry: str, compared: Mapping[str, bool], *, right: bool) -> bool:
        """Is a fresh answer the same as that of `entry`, seeing how it compared with those of others?

        An answer like that of an entry's own kind is like the entry's; like that of another kind, or unlike its own, it isn't; of
        one unlike a stranger nothing follows. The verdict stands unless it is clearly outvoted.
        """
        verdicts = self._verdicts.get(entry, {})
        voices = [like and verdicts[other] for other, like in compared.items() if other in verdicts and (like or verdicts[other])]
        against = sum(voice != right for voice in voices)
        return right if 2 * against - len(voices) < OUTVOTED else not right

    def verdicts(self) -> dict[str, dict[str, bool]]:
        """All of them, each from both sides; not a copy, for to make one of thousands would hold others up."""
        return self._verdicts
