"""What framing costs the gateway: `python -m bench.amplification --framing`. What is sent stands in `shapes.py`.

Two figures tell whether somebody makes others wait: CPU by what was sent, beside a plain request's; and how long a turn gets.
The latter is what the gateway works while somebody else's `GET /livez` waits, also in CPU: a busy machine adds nothing to it.
What a request costs by what it says is measured in `amplification.py`: no shape of these is dear for its content.
"""

import json
import multiprocessing
import re
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from itertools import count
from multiprocessing.connection import Connection
from typing import Final, NamedTuple

from bench.corpus import request
from bench.processes import Process
from bench.shapes import CHAT, LAST, QUESTION, Shape, Speech, head

TIMES: Final = 5.0
"""Of a plain request's CPU a byte: what takes more must not hold a turn or a connection for long."""
TURN: Final = 0.020
HELD: Final = 0.5
"""Seconds of CPU: in one turn, for one connection in all."""
ALONE: Final = 0.050
"""Seconds of a turn that are too many for whatever one request brings."""
TRIES: Final = 3
"""Of which the least counts."""
GLANCE: Final = 0.002
"""Seconds between two looks of who watches."""
ANSWER: Final = re.compile(rb"HTTP/1\.1 (\d{3}) ")
READ: Final = 1 << 18
PATIENCE: Final = 60.0
"""Seconds without a byte after which it is given up."""
ASKED: Final = re.compile(re.escape(QUESTION))


class Cost(NamedTuple):
    """Seconds of CPU of the gateway and of who sent; the longest wait of somebody else, in the gateway's CPU."""

    name: str
    sent: int
    requests: int
    connections: int
    status: int
    gateway: float
    caller: float
    wait: float

    @property
    def by_size(self) -> float:
        """Seconds for each MB."""
        return self.gateway / max(self.sent, 1) * 1e6

    def breaks(self, measure: "Cost") -> bool:
        """Is it dearer than a plain one, and for long? Or too long for one request, however much that sends?"""
        is_long = self.wait > TURN or self.gateway / self.connections > HELD
        is_too_long = self.requests == 1 and (self.wait > ALONE or self.gateway > HELD)
        return is_too_long or (is_long and self.by_size > TIMES * measure.by_size)


def play(port: int, shape: Shape) -> int:
    """Send it, and read what is answered to the end of all its connections; one of the statuses, or 0."""
    with ExitStack() as opened:
        connections = [opened.enter_context(_connected(port)) for _ in range(shape.connections)]
        step = shape.cut or max(len(shape.raw), 1)
        alive, status = list(connections), 0
        for start in range(0, len(shape.raw), step):
            piece = shape.raw[start : start + step]
            alive = [one for one in alive if _send(one, piece)]
            if shape.pace:
                status = _answers(alive[0], shape) if alive else status
        if not shape.pace and not shape.leaves:
            status = _read_all(connections)
    return status


def _connected(port: int) -> socket.socket:
    one = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one


def _send(one: socket.socket, piece: bytes) -> bool:
    try:
        one.sendall(piece)
    except OSError:  # refused before its end
        return False
    return True


def _answers(one: socket.socket, shape: Shape) -> int:
    """Read as many whole answers as it sets its pace by; the last one's status."""
    got, status, number, is_head = b"", 0, shape.pace, shape.raw.startswith(b"HEAD")
    while number:
        head, end, body = got.partition(b"\r\n\r\n")
        found = re.search(rb"(?i)\r\ncontent-length: (\d+)", head) if end else None
        size = int(found[1]) if found and not is_head else 0
        if end and len(body) >= size:
            number -= not head.startswith(b"HTTP/1.1 100")
            status, got = int(head[9:12]), body[size:]
        elif piece := one.recv(READ):
            got += piece
        else:
            break
    return status


def _read_all(connections: Sequence[socket.socket]) -> int:
    """Until each has closed; the first status that comes. Raises TimeoutError."""
    status = 0
    with selectors.DefaultSelector() as ready:
        for one in connections:
            ready.register(one, selectors.EVENT_READ)
        while ready.get_map():
            if not (events := ready.select(PATIENCE)):
                raise TimeoutError("an answer, or the end of a connection, never came")
            for key, _ in events:
                piece = b""
                with suppress(OSError):
                    piece = key.fileobj.recv(READ)  # type: ignore[union-attr] # all are sockets
                if not piece:
                    ready.unregister(key.fileobj)
                elif not status and (found := ANSWER.match(piece)):
                    status = int(found[1])
    return status


# --- who waits meanwhile ---


def watch(port: int, pid: int, told: Connection) -> None:
    """Between one word and the next ask again and again; tell what the gateway worked at most until it answered."""
    raw = request("GET", "/livez")
    clock = ~pid << 3 | 2  # of its process, as clock_getcpuclockid(3) has it
    with suppress(EOFError):
        while True:
            told.recv()
            longest = 0.0
            with _connected(port) as one:
                while not told.poll(GLANCE):
                    before = time.clock_gettime(clock)
                    one.sendall(raw)
                    one.recv(READ)
                    longest = max(longest, time.clock_gettime(clock) - before)
            told.recv()
            told.send(longest)


class Watcher:
    """Somebody else, in a process of its own."""

    def __init__(self, port: int, process: Process) -> None:
        self._told, there = multiprocessing.Pipe()
        spawn = multiprocessing.get_context("spawn")
        self._process = spawn.Process(target=watch, args=(port, process.pid, there), daemon=True)
        self._process.start()
        there.close()

    def __repr__(self) -> str:
        return f"<Watcher {self._process.pid}>"

    def longest(self, work: Callable[[], object]) -> float:
        """Its longest wait while this is done, in seconds of the gateway's CPU."""
        self._told.send(None)
        work()
        self._told.send(None)
        longest: float = self._told.recv()
        return longest

    def close(self) -> None:
        self._told.close()
        self._process.join()


# --- providers ---


class Speaker:
    """A provider that answers all that it is asked with the same bytes, whole, as fast as they are taken."""

    def __init__(self) -> None:
        self.says = b""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def __repr__(self) -> str:
        return f"<Speaker on {self.port}>"

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                one, _ = self._listening.accept()
                threading.Thread(target=self._answer, args=(one,), daemon=True).start()

    def _answer(self, one: socket.socket) -> None:
        with one, suppress(OSError):
            got = b""
            while (end := got.find(b"\r\n\r\n")) < 0:
                got += one.recv(READ)
            found = re.search(rb"(?i)\r\ncontent-length: (\d+)", got[:end])
            rest = end + 4 + (int(found[1]) if found else 0) - len(got)
            while rest > 0:
                rest -= len(one.recv(READ))
            one.sendall(self.says)

    def close(self) -> None:
        self._listening.close()


def asking(speech: Speech, number: int) -> Shape:
    """A new question to that provider, by who reads its answer as fast as it comes."""
    fields = {"model": f"says-{speech.dialect}/m", "stream": not speech.whole, "max_tokens": 9}
    body = json.dumps({**fields, "messages": [{"role": "user", "content": str(number)}]}).encode()
    return Shape("", head(CHAT, "Content-Type: application/json", f"Content-Length: {len(body)}", LAST) + body)


class Meter:
    """A gateway, who watches it, and a provider; `settle` lets the gateway finish what it does behind its answers."""

    def __init__(self, process: Process, port: int, speaker: Speaker, settle: Callable[[Process], None]) -> None:
        self._process = process
        self._port = port
        self._speaker = speaker
        self._settle = settle
        self._watcher = Watcher(port, process)
        self._asked = count(1)

    def __repr__(self) -> str:
        return f"<Meter of {self._process!r}>"

    def sent(self, shape: Shape) -> Cost:
        """What a caller's shape takes."""
        number = shape.connections
        figures = self._figures(lambda: play(self._port, self._anew(shape)))
        return _told(Cost(shape.name, shape.size * number, shape.requests * number, number, *figures))

    def _anew(self, shape: Shape) -> Shape:
        """With other questions than it had before."""
        return shape._replace(raw=ASKED.sub(lambda _: b"question %08d" % next(self._asked), shape.raw))

    def heard(self, speech: Speech) -> Cost:
        """What it takes to pass a stream on."""
        self._speaker.says = speech.raw
        figures = self._figures(lambda: play(self._port, asking(speech, next(self._asked))))
        return _told(Cost(speech.name, len(speech.raw), 1, 1, *figures))

    def _figures(self, work: Callable[[], int]) -> tuple[int, float, float, float]:
        """The status, the least CPU of some tries, and of as many the least of the longest waits: another may have caused one."""
        spent, status = [], 0
        for _ in range(TRIES):
            self._settle(self._process)
            before, own = self._process.cpu_seconds(), time.thread_time()
            status = work()
            own = time.thread_time() - own
            self._settle(self._process)
            spent.append((self._process.cpu_seconds() - before, own))
        wait = min(self._watcher.longest(work) for _ in range(TRIES))
        return status, *min(spent), wait

    def close(self) -> None:
        self._watcher.close()


# --- the report ---


def _told(cost: Cost) -> Cost:
    print(
        f"{cost.name}: {cost.status}, {cost.gateway * 1e3:,.1f} ms for {cost.sent:,} bytes, wait {cost.wait * 1e3:.1f} ms",
        flush=True,
    )
    return cost


COLUMNS: Final = (
    *("what", "status", "KB", "CPU, ms", "ms an MB", "times"),
    *("us a request", "us of the caller", "longest wait, ms", ""),
)


def table(costs: Sequence[Cost]) -> list[str]:
    """As Markdown, the dearest byte first; the first that was measured is the measure."""
    plain = costs[0]
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    for one in sorted(costs, key=lambda cost: -cost.by_size):
        cells = [one.name, str(one.status or "none"), f"{one.sent / 1000:,.1f}", f"{one.gateway * 1e3:,.1f}"]
        cells += [f"{one.by_size * 1e3:,.0f}", f"{one.by_size / plain.by_size:.1f}"] if one.sent else ["", ""]
        cells += [f"{one.gateway / one.requests * 1e6:,.0f}", f"{one.caller / one.requests * 1e6:,.0f}"]
        cells += [f"{one.wait * 1e3:.1f}", "**too much**" if one.breaks(plain) else ""]
        lines.append(f"| {' | '.join(cells)} |")
    return lines
