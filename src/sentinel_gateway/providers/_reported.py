"""What goes wrong within a stream, as the pure readers of the dialects tell it; `_translated.py` makes our errors of it."""

from typing import Any


class Garbled(Exception):
    """What came is no event of this dialect: the text says what it is instead."""


class Reported(Exception):
    """An event that tells an error: `status` as if it had been the answer's, `error` as its body has it."""

    def __init__(self, status: int, error: Any) -> None:
        super().__init__(status)
        self.status = status
        self.error = error
