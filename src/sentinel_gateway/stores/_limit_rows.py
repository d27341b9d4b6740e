"""What `lua/limits.lua` is told and what it answers: buckets and accounts as rows of numbers."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sentinel_gateway.stores._shared_accounts import NUMBERS, Asked, Row, Told, read_told


class BucketRow(NamedTuple):
    """One bucket for the script, in parts: `known` is what this node knows to be spent, `born` of which birth; 0: whichever.

    If Redis has a bucket of that birth, it knows better.
    """

    bucket: str
    rate: int
    capacity: int
    cost: int
    known: int = 0
    born: int = 0


class Found(NamedTuple):
    """What was spent of each bucket before, in parts, and the birth of each in Redis; 0: none. What is told of accounts."""

    spent: Sequence[int]
    born: Sequence[int]
    accounts: Sequence[Told]
    taken: bool


class Asking(NamedTuple):
    """Accounts by their names, and what is told of each; `node`: whose part it is, if not ours."""

    accounts: Sequence[str]
    rows: Sequence[Row]
    node: str = ""

    @classmethod
    def of(cls, asked: Asked | None) -> "Asking":
        """Of a hold, or of none."""
        return NO_ACCOUNTS if asked is None else cls([allowance.account for allowance in asked.hold.allowances], asked.rows)


NO_ACCOUNTS: Final = Asking((), ())


def read_found(buckets: int, accounts: int, answer: Any) -> Found:
    """Raises ValueError if it is not what was asked for."""
    taken, _, *numbers = integers(answer, 2 + 2 * buckets + NUMBERS * accounts)
    told = list(read_told(numbers[2 * buckets :]))
    return Found(numbers[:buckets], numbers[buckets : 2 * buckets], told, bool(taken))


def integers(answer: Any, count: int) -> list[int]:
    if not isinstance(answer, list) or len(answer) != count or not all(isinstance(number, int) for number in answer):
        raise ValueError(f"not {count} numbers")
    return answer
