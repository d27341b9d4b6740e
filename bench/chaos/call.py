"""One request as the mock saw it: the line of its call log, and so the oracle of the tests."""

from dataclasses import dataclass
from typing import Any

import msgspec

from bench.chaos.fault import PLAIN, Fault


@dataclass(slots=True, eq=False)
class Call:
    """Times are `time.monotonic()`, which all processes of a Linux machine share."""

    sequence: int
    started: float
    method: str
    path: str
    raw_headers: list[tuple[bytes, bytes]]
    raw_body: bytes
    fault: Fault = PLAIN
    status: int = 0
    """0 until an answer has been decided on."""
    ended: float | None = None
    completed: bool = False
    """The answer was written to its end, as an HTTP message; what it says may still be broken."""
    closed_by_peer_at: float | None = None
    """When the client hung up before the end."""
    chunks_sent: int = 0
    """Content chunks written as a whole; a JSON answer is one."""
    tokens_sent: int = 0

    @property
    def headers(self) -> dict[str, str]:
        """By lower-case name; of a repeated header the last."""
        return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in self.raw_headers}

    @property
    def body(self) -> Any:
        """The body as JSON; None if it is not JSON."""
        try:
            return msgspec.json.decode(self.raw_body)
        except msgspec.DecodeError:
            return None

    def header(self, name: bytes) -> str | None:
        """One header by its lower-case name."""
        for known, value in self.raw_headers:
            if len(known) == len(name) and known.lower() == name:
                return value.decode("latin-1")
        return None

    def as_json(self) -> dict[str, Any]:
        """All of it but the raw bytes."""
        return {
            "sequence": self.sequence,
            "started": self.started,
            "ended": self.ended,
            "method": self.method,
            "path": self.path,
            "headers": self.headers,
            "body": self.body,
            "fault": str(self.fault),
            "status": self.status,
            "completed": self.completed,
            "closed_by_peer_at": self.closed_by_peer_at,
            "chunks_sent": self.chunks_sent,
            "tokens_sent": self.tokens_sent,
        }
