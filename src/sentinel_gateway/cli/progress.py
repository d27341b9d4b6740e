"""How far a command is, on one line of a terminal that is written over and over; nothing where nobody watches."""

import shutil
import time
from typing import Final, TextIO

EVERY: Final = 0.1
"""Seconds between two looks."""
BAR: Final = 24
"""Characters."""
CLEAR: Final = "\r\x1b[K"


class Progress:
    """Told what is being done and how far it is, 0 to 1; to be closed."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self._watched = terminal.isatty()
        self._shown = -EVERY

    def __repr__(self) -> str:
        return f"<Progress {'shown' if self._watched else 'silent'}>"

    def __call__(self, what: str, share: float) -> None:
        now = time.monotonic()
        if self._watched and now - self._shown >= EVERY:
            self._shown = now
            bar = "#" * round(BAR * share)
            line = f"[{bar:<{BAR}}] {share:4.0%} {what}"
            self._terminal.write(CLEAR + line[: shutil.get_terminal_size().columns - 1])
            self._terminal.flush()

    def close(self) -> None:
        """Leave an empty line to whatever is written next."""
        if self._watched:
            self._terminal.write(CLEAR)
            self._terminal.flush()
