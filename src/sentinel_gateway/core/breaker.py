"""When to stop asking what does not answer: a store, an embedding model.

Without it a frozen disk, server or model would cost every request the whole deadline. Time is an argument: seconds of any clock
that only goes forward.
"""


class Breaker:
    """Opens after so many failures in a row; then lets one request through each `pause` seconds, until one succeeds.

    A probe holds no slot, so one that is cancelled or never answers can't keep the breaker open for ever.
    """

    __slots__ = ("_failures", "_limit", "_pause", "_retry_at", "is_open")

    def __init__(self, *, failures: int, pause: float) -> None:
        self._limit = failures
        self._pause = pause
        self._failures = 0
        self._retry_at = 0.0
        self.is_open = False

    def allows(self, now: float) -> bool:
        """May this request go? True for all while closed, for one each pause while open."""
        if not self.is_open:
            return True
        if now < self._retry_at:
            return False
        self._retry_at = now + self._pause
        return True

    def succeeded(self) -> bool:
        """Count a success; True if it closed the breaker."""
        self._failures = 0
        was_open, self.is_open = self.is_open, False
        return was_open

    def failed(self, now: float) -> bool:
        """Count a failure; True if it opened the breaker."""
        self._failures += 1
        if self._failures < self._limit:
            return False
        was_open, self.is_open = self.is_open, True
        self._retry_at = now + self._pause
        return not was_open

    def __repr__(self) -> str:
        return f"<Breaker {'open' if self.is_open else 'closed'}, {self._failures} failures in a row>"
