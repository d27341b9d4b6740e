"""Server-sent events, read from bytes as they arrive. No I/O and no JSON: bytes in, the data of whole events out.

Only what a chat stream uses is kept: an event's `data`. Comments and the fields `event`, `id` and `retry` are skipped, and
so are events whose data is empty, which some servers send as a sign of life. Data stays bytes, so a character may be cut
anywhere. Follows the event stream chapter of the HTML standard: lines end in CRLF, LF or CR, and an event in an empty line.
"""

from typing import Final

MAX_EVENT_BYTES: Final = 1024 * 1024
"""A line and the data before it in its event may be so long; more is a provider out of its mind, or an attack on our memory."""

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class SseReader:
    """Reads one stream, until that is `endless`."""

    __slots__ = ("_after_cr", "_data", "_data_size", "_line", "_line_size", "_max", "_started", "endless", "midway")

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max = max_event_bytes
        self._line: list[bytes] = []
        """Pieces of a line whose end hasn't come yet; joined once, as adding up would cost the square of a trickled line."""
        self._line_size = 0
        self._data: list[bytes] = []
        """The data lines of an event whose end hasn't come yet."""
        self._data_size = 0
        self._after_cr = False
        self._started = False
        self.endless = False
        """A line or an event was too long, behind the events that were told: nothing more is read."""
        self.midway = False
        """Something of an event, or of a line, has come and not its end."""

    def __repr__(self) -> str:
        return f"<SseReader holds {self._line_size + self._data_size} bytes>"

    def feed(self, data: bytes) -> list[bytes]:
        """The data of the events that these bytes complete, in order."""
        if not self.midway and len(data) <= self._max and (usual := _usual_events(data)):
            self._started = True
            return usual
        events = [] if self.endless else self._read(data)
        self.midway = bool(self._line or self._data or self._after_cr or self.endless)
        return events

    def rest(self) -> bytes:
        """The data of an event that the stream's end left open. The standard drops it; some servers end `[DONE]` so."""
        last = _data_of(b"".join(self._line))
        return b"\n".join(self._data if last is None else [*self._data, last])

    def _read(self, data: bytes) -> list[bytes]:
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        if b"\n" not in data and b"\r" not in data:
            self._hold(data)
            return []
        self._after_cr = data.endswith(b"\r")
        data = b"".join([*self._line, data])
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        self._line.clear()
        self._line_size = 0
        *lines, unfinished = data.split(b"\n")
        events = self._events(lines)
        if not self.endless:
            self._hold(unfinished)
        return events

    def _events(self, lines: list[bytes]) -> list[bytes]:
        events = []
        for line in lines:
            if len(line) + self._data_size > self._max:
                self.endless = True
                break
            if line:
                self._take(line if self._started else line.removeprefix(_BYTE_ORDER_MARK))
            else:
                if event := b"\n".join(self._data):
                    events.append(event)
                self._data.clear()
                self._data_size = 0
            self._started = True
        return events

    def _take(self, line: bytes) -> None:
        if (value := _data_of(line)) is not None:
            self._data.append(value)
            self._data_size += len(value) + 1

    def _hold(self, piece: bytes) -> None:
        if piece:
            self._line.append(piece)
            self._line_size += len(piece)
            self.endless = self._line_size + self._data_size > self._max


def _usual_events(data: bytes) -> list[bytes]:
    """As nearly all servers send them: whole events of one data line each, all with their names before it or none; else none."""
    if data[-2:] != b"\n\n" or data.find(b"\r") >= 0:
        return []
    start = data.find(b"\n") + 1 if data[:7] == b"event: " else 0
    if data[start : start + 6] != b"data: ":
        return []
    if data.find(b"\n", start) == len(data) - 2:
        events = [data[start + 6 : -2]]
    else:  # each must account for exactly its own line feeds, else something else stands among them
        events = _named_events(data) if start else data[6:-2].split(b"\n\ndata: ")
        if data.count(b"\n") != (3 if start else 2) * len(events):
            return []
    return [] if b"" in events else events


def _named_events(data: bytes) -> list[bytes]:
    parts = [block.partition(b"\ndata: ") for block in data[:-2].split(b"\n\n")]
    return [event for name, found, event in parts if found and name[:7] == b"event: "]


def _data_of(line: bytes) -> bytes | None:
    if line[:5] == b"data:":
        return line[6:] if line[5:6] == b" " else line[5:]
    return b"" if line == b"data" else None
