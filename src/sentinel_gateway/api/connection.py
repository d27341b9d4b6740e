"""One connection, below ASGI: its deadlines, the limits of what may come on it, and whose turn it is.

It is our own because uvicorn sets no deadline for a head, a body or a reader, and an ASGI app never sees a head that isn't
finished. What a sane head is stands in `head.py`; what a request means is not known here.
"""

import asyncio
import logging
import math
import random
from typing import Final, Literal

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from sentinel_gateway.api.asgi import SEGMENT_BYTES, Again, App, Header, Lines
from sentinel_gateway.api.bounds import MOST_CHUNKS, PIPELINED, ServerLimits
from sentinel_gateway.api.cycle import CLOSE, Cycle, default_lines, refusal_record, render
from sentinel_gateway.api.eager import run_eagerly
from sentinel_gateway.api.head import check_fields, head_size, header_map, parse_target, read_method
from sentinel_gateway.api.parting import LAST_WORD, reset, send_and_close
from sentinel_gateway.errors import BadRequest, HeadTooLarge, Overloaded, RequestError, RequestTimeout
from sentinel_gateway.pipeline.admit import retry_wait
from sentinel_gateway.ports import ConnectionWatch

NEVER: Final = math.inf
TICK: Final = 0.001
"""Seconds. The loop's clock counts milliseconds, so a timer may fire this much early."""
LINGER: Final = 0.5
"""Seconds for which a closing connection still reads: closing on unread bytes resets it, and the answer may be lost with it."""
ASGI: Final = {"version": "3.0", "spec_version": "2.3"}
Stage = Literal["idle", "head", "body", "dropping"]
"""What is being read: nothing yet, a request's head, its body; or what comes is thrown away."""


class GatewayProtocol(asyncio.Protocol):
    """One connection. One timer serves all its deadlines: they are only written down, and looked at when it fires."""

    __slots__ = (
        *("_address", "_again", "_app", "_chunks", "_headers", "_idle", "_limits", "_loop", "_parser", "_persistent"),
        *("_progress", "_queue", "_read_due", "_reading", "_refusal", "_segment", "_stage", "_state", "_timer", "_timer_at"),
        *("_turn", "_unparsed", "_unread", "_unstarted", "_url", "_watch", "_write_due"),
        *("client", "flow", "logger", "scheme", "server", "transport"),
    )

    def __init__(
        self, app: App, state: ServerState, *, limits: ServerLimits, watch: ConnectionWatch, again: Again | None = None
    ) -> None:
        self.logger = logging.getLogger("uvicorn.error")
        self._app = app
        self._again = again
        self._state = state
        self._limits = limits
        self._watch = watch
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)  # it is thrown away, once the answer is out
        self._url = b""
        self._headers: list[Header] = []
        self._reading: Cycle | None = None  # the request read last
        self._turn: Cycle | None = None  # being answered, or answered last
        self._queue: list[Cycle] = []  # pipelined behind it
        self._unstarted: Cycle | None = None  # its turn came while its segment was still being read
        self._refusal = b""  # to be sent once the turn comes
        self._stage: Stage = "idle"
        self._persistent = "1.1"  # the version of HTTP whose connections outlive an answer
        self._idle = limits.keep_alive
        self._segment = 0  # bytes that came last
        self._progress = False  # they completed something
        self._unparsed = 0  # bytes that came since something was completed
        self._chunks = 0  # of the body that is being read
        self._unread = 0  # bytes that the reader had not taken when we began to wait for it
        self._read_due = self._write_due = self._timer_at = NEVER
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        turn = "answering" if self._is_answering() else "waiting"
        return f"<GatewayProtocol {self.client} {turn}, reads {self._stage}, {len(self._queue)} pipelined>"

    def _is_answering(self) -> bool:
        return self._turn is not None and not self._turn.complete

    # --- opening and closing ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # what a server is given
        self.transport = transport
        self.flow = FlowControl(transport)
        transport.set_write_buffer_limits(0)  # whoever sends waits as soon as the kernel takes no more: nothing piles up here
        self.server, self.client = get_local_addr(transport), get_remote_addr(transport)
        self._address = self.client[0] if self.client else ""
        self.scheme = "https" if is_ssl(transport) else "http"
        self._watch.opened()
        if len(self._state.connections) >= self._limits.max_connections:
            wait = retry_wait(random.random())  # noqa: S311 - no secret
            self._refuse(Overloaded("The gateway has as many connections as it may have: try again shortly.", retry_after=wait))
        else:
            self._state.connections.add(self)  # type: ignore[arg-type] # all that is asked of it is `shutdown`
            # Who connects has something to say: a connection that has never carried a request earns no keep-alive.
            self._set_read_due(self._limits.header_timeout if self._persistent else LAST_WORD)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - however it was lost
        self._state.connections.discard(self)
        self._queue.clear()
        for cycle in (self._turn, self._reading):
            if cycle is not None and not cycle.complete:
                cycle.disconnect()
        self._turn = self._reading = None  # which hold us
        self.flow.resume_writing()
        if self._timer is not None:
            self._timer.cancel()
        del self._parser  # which holds us
        self._watch.closed()

    def shutdown(self) -> None:
        """From now on an answer that begins says that it is the last, and who is idle has a moment left.

        Closing at once would lose who has just connected. A stream that has begun was not told: it ends with its connection.
        """
        if not self._persistent:
            return
        self._persistent, self._again, self._idle = "", None, LAST_WORD
        if not self._is_answering():
            if self._stage == "idle":
                self._set_read_due(LAST_WORD)
        elif self._reading is not None:
            self._reading.be_last()

    def linger(self) -> None:
        """Close, but go on reading for a moment, so that the answer is not lost to a reset."""
        self._stage = "dropping"
        self._queue.clear()
        if not self.transport.is_closing():
            self.transport.write_eof()
            self.flow.resume_reading()
            self._set_read_due(LINGER)

    def end_with(self, last: bytes) -> None:
        """Send this and close, in one go. Whoever has sent more meanwhile is not answered."""
        self._stage = "dropping"
        self._queue.clear()
        self._refusal = b""
        self._loop.call_soon(send_and_close, self.transport, last)  # what was written before is on its way by then

    # --- deadlines ---

    def _set_read_due(self, seconds: float) -> None:
        self._read_due = self._loop.time() + seconds
        self._arm(self._read_due)

    def _arm(self, when: float) -> None:
        if when < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at, self._timer = when, self._loop.call_at(when, self._look)

    def _look(self) -> None:
        """Cut what is overdue. Fires as long as the connection lives: a closing one whose last bytes nobody reads is found so."""
        self._timer_at = NEVER
        now = self._loop.time() + TICK
        if self._write_due == NEVER and self.transport.is_closing():
            self._wait_for_reader()
        elif now >= self._write_due:
            self._cut_reader()
        elif now >= self._read_due:
            self._read_due = NEVER
            self._cut_sender()
        self._arm(min(self._read_due, self._write_due, now + self._limits.write_timeout))

    def pause_writing(self) -> None:
        self.flow.pause_writing()
        self._wait_for_reader()

    def resume_writing(self) -> None:
        self.flow.resume_writing()
        self._write_due = NEVER

    def _wait_for_reader(self) -> None:
        self._unread = self.transport.get_write_buffer_size()
        self._write_due = self._loop.time() + self._limits.write_timeout
        self._arm(self._write_due)

    def _cut_reader(self) -> None:
        if self._unread - self.transport.get_write_buffer_size() >= HIGH_WATER_LIMIT:
            self._wait_for_reader()
        else:
            reset(self.transport)

    def _cut_sender(self) -> None:
        seconds = self._limits.header_timeout if self._stage == "head" else self._limits.body_timeout
        match self._stage:
            case "idle" | "dropping":
                self.transport.close()
            case "body" if self._reading is None or self._reading.complete:
                self.transport.close()
            case "head" | "body" if self._keeps_sender_waiting():
                self._set_read_due(seconds)
            case "head":
                self._refuse(RequestTimeout(f"The request's head was not complete after {seconds:g} s."))
            case "body":
                self._refuse(RequestTimeout(f"The request's body was not complete {seconds:g} s after its head."))

    def _keeps_sender_waiting(self) -> bool:
        reading = self._reading
        return self.flow.read_paused or (self._stage == "body" and reading is not None and reading.waits_for_100)

    # --- reading ---

    def data_received(self, data: bytes) -> None:
        if self._stage == "dropping":
            return
        whole = self._turn is None and self._stage == "idle" and len(data) <= SEGMENT_BYTES
        if whole and self._answer_again(data):
            return
        self._segment, self._progress, rest = len(data), False, b""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            whole, rest = False, data[upgrade.args[0] :]  # no upgrade is served: what follows is the next request
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, RequestError) else BadRequest(f"This is not valid HTTP: {error}."))
        else:
            if self._stage != "idle":
                self._read_on()
        if rest:
            self.data_received(rest)
        cycle, self._unstarted = self._unstarted, None
        if cycle is not None:
            if whole and self._stage == "idle" and cycle is self._reading:
                cycle.tell_segment(data)  # one request, all of it and nothing else
            self._start(cycle)

    def _answer_again(self, data: bytes) -> bool:
        """Answer bytes that were answered before, or are refused; False if they have to be read."""
        if self._again is None or self.flow.write_paused or self.transport.is_closing():
            return False
        answer = self._again(data, self._address)
        if answer is None:
            return False
        self.transport.write(b"%b%b%b" % (STATUS_LINE[answer[0]], self.default_headers.raw, answer[1]))
        self._set_read_due(self._idle)
        return True

    def _start(self, cycle: Cycle) -> None:
        cycle.task = task = run_eagerly(cycle.run(self._app), self._loop)
        if task is not None:
            self._state.tasks.add(task)
            task.add_done_callback(self._state.tasks.discard)

    def _read_on(self) -> None:
        """The request is not complete: its time runs, and what has led to nothing yet, as half a header, stays small."""
        if self._read_due == NEVER:
            self._set_read_due(self._limits.header_timeout if self._stage == "head" else self._limits.body_timeout)
        self._unparsed = 0 if self._progress else self._unparsed + self._segment
        parsed = head_size(self._url, self._headers) if self._stage == "head" else 0
        too_many = len(self._headers) > self._limits.header_count  # trailers, perhaps
        if too_many or max(parsed, self._unparsed) > self._limits.head_bytes:
            self._refuse(self._too_large())

    def on_message_begin(self) -> None:
        self._url, self._headers, self._unparsed = b"", [], 0
        self._stage = "head"
        self._read_due = NEVER

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        limit, parser, headers = self._limits.head_bytes, self._parser, self._headers
        in_pieces = self._read_due != NEVER
        if (in_pieces or self._segment > limit) and head_size(self._url, headers) > limit:
            raise self._too_large()
        if len(headers) > self._limits.header_count:
            raise self._too_large()
        if len(self._queue) >= PIPELINED:
            raise BadRequest(f"More than {PIPELINED} requests were sent without waiting for an answer.")
        version = parser.get_http_version()
        method = read_method(parser.get_method(), version)
        fields = header_map(headers)
        waits_for_100 = check_fields(fields, headers, version, upgrade=parser.should_upgrade())
        target = parse_target(self._url)
        scope = {
            "type": "http",
            "asgi": ASGI,
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "method": method,
            "root_path": "",
            "path": target.path,
            "raw_path": target.raw_path,
            "query_string": target.query,
            "headers": headers,
            "state": {},
        }
        self._headers = []  # for trailers, which could pass for headers if they were kept
        self._chunks = 0
        keep_alive = version == self._persistent and parser.should_keep_alive()
        self._take(Cycle(scope, fields, self, waits_for_100=waits_for_100, keep_alive=keep_alive))

    def _take(self, cycle: Cycle) -> None:
        """Make it this request's turn, or queue it behind the one that is being answered."""
        self._reading, self._stage, self._progress, self._read_due = cycle, "body", True, NEVER
        if self._is_answering():
            self.flow.pause_reading()
            self._queue.append(cycle)
        else:
            self._turn = self._unstarted = cycle

    def on_chunk_header(self) -> None:
        self._chunks += 1
        if self._chunks > MOST_CHUNKS:
            raise BadRequest(f"The body comes in more than {MOST_CHUNKS:,} chunks: send larger ones, or a Content-Length.")

    def on_body(self, body: bytes) -> None:
        self._progress = True
        cycle = self._reading
        if cycle is not None and not cycle.complete:
            cycle.add(body)
            if len(cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()

    def on_message_complete(self) -> None:
        self._stage, self._progress, self._read_due = "idle", True, NEVER
        cycle = self._reading
        if cycle is not None and not cycle.complete:
            cycle.end_body()
        else:
            self._rest()

    # --- answering ---

    @property
    def default_headers(self) -> Lines:
        """Headers of every answer: the date, as the server's clock has it."""
        return default_lines(tuple(self._state.default_headers))

    def answered(self) -> None:
        """The turn's answer is complete: the next one's turn."""
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self._queue:
            self._turn = self._queue.pop(0)
            self._loop.call_soon(self._start, self._turn)
        elif self._refusal:
            self._write_refusal()
        elif self._stage == "idle":
            self._rest()

    def _rest(self) -> None:
        """Wait for the next request. That may be long, and the last one takes more than the connection itself."""
        self._turn = self._reading = None
        self._set_read_due(self._idle)

    # --- refusing ---

    def _too_large(self) -> HeadTooLarge:
        size, count = self._limits.head_bytes, self._limits.header_count
        return HeadTooLarge(f"The request's head is larger than {size} bytes or has more than {count} headers.")

    def _refuse(self, error: RequestError) -> None:
        """Answer what is being read with an error, then close. The answers owed to earlier requests come first."""
        self.logger.debug("Refused a request of %s: %d %s", self.client, error.http_status, error)
        stage, self._stage = self._stage, "dropping"
        self._read_due = NEVER
        reading = self._reading if stage == "body" else None
        if reading is not None and reading is self._turn:
            self._refuse_rest(reading, error)
            return
        record = refusal_record(error, header_map(self._headers) if reading is None else reading.fields)
        record.client = self._address
        self._watch.refused(record)
        headers, body = render(error, record)
        lines = (self.default_headers + headers).raw
        self._refusal = b"%b%b%b\r\n%b" % (STATUS_LINE[error.http_status], lines, CLOSE, body)
        if not self._is_answering():
            self._write_refusal()
        elif reading is not None:
            self._queue.pop()

    def _refuse_rest(self, cycle: Cycle, error: RequestError) -> None:
        """The app already has this request."""
        if cycle.complete:
            self.linger()
        elif cycle.started:
            self.transport.abort()
        else:
            cycle.refuse(error)

    def _write_refusal(self) -> None:
        self.transport.write(self._refusal)
        self.linger()
