"""The mock upstream: its server, its routes, its queue of faults and its call log."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from random import Random
from types import TracebackType
from typing import Final, NamedTuple, Self
from urllib.parse import parse_qs, unquote

import msgspec

from bench.chaos import answer
from bench.chaos.call import Call
from bench.chaos.connection import Connection, Request
from bench.chaos.embeddings import embeddings_body
from bench.chaos.fault import PLAIN, SWITCHES, Fault, FaultError
from bench.chaos.messages import message_body, message_stream
from bench.chaos.question import Question, QuestionError, read_question
from bench.chaos.reply import HTML, PAGE, TORN, Reply, body_reply, chunked_reply, error_body, error_reply, filled
from bench.chaos.stream import stream

MODELS: Final = ("mock-model", "mock-small", "mock-large")
CHAT: Final = "/chat/completions"
EMBEDDINGS: Final = "/embeddings"
MESSAGES: Final = "/messages"
CATALOGUE: Final = "/models"
HEADER: Final = b"x-chaos"
EVENT_STREAM: Final = "text/event-stream; charset=utf-8"
POLL: Final = 0.005

_encode = msgspec.json.encode


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /__script`."""

    fault: str
    times: int = 1
    to: str = ""


class Place(NamedTuple):
    """A path, read: the route and the fault that the base URL asks for, or why it can't be read."""

    route: str
    fault: Fault
    error: str = ""


class ChaosUpstream:
    """An OpenAI-compatible upstream on a port of its own, on loopback or `host`, for as long as the context is open.

    Chats may be asked for in Anthropic's words as well. The fault of a call for chat or embeddings is the next of the queue, else
    the `x-chaos` header's, else the base URL's; other calls leave the queue alone. `seed` decides which calls an `err_rate`
    befalls. The log holds the last `keep_calls` calls.
    """

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0, seed: int = 0, keep_calls: int = 10_000) -> None:
        self._host = host
        self._port = port
        self._seed = seed
        self._log: deque[Call] = deque(maxlen=keep_calls)
        self._connections: set[Connection] = set()
        self._server: asyncio.Server
        self.reset()

    def __repr__(self) -> str:
        state = f"{self._count} calls, {len(self._queue)} faults queued, {self.open_connections} connections"
        return f"<ChaosUpstream port {self._port}, {state}>"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self, self._connections), self._host, self._port, backlog=4096)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.close()
        for connection in list(self._connections):
            connection.abort()
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    @property
    def base_url(self) -> str:
        """For a client's `base_url`."""
        return f"http://{self._host}:{self._port}/v1"

    def url_with(self, fault: Fault | str) -> str:
        """A base URL all of whose answers have this fault. Raises FaultError."""
        settings = str(Fault.parse(str(fault)))
        return f"http://{self._host}:{self._port}/{settings}/v1" if settings else self.base_url

    @property
    def calls(self) -> list[Call]:
        """The log, oldest first: calls for chat, embeddings, catalogue and unknown paths, but not the mock's own `/__` routes."""
        return list(self._log)

    def take(self) -> list[Call]:
        """The calls of the log that have ended, oldest first. The log forgets them, so that it may go on for hours."""
        ended = [call for call in self._log if call.ended is not None]
        running = [call for call in self._log if call.ended is None]
        self._log.clear()
        self._log.extend(running)
        return ended

    @property
    def count(self) -> int:
        """Calls since the start or the last reset, also those that the log has dropped."""
        return self._count

    @property
    def open_connections(self) -> int:
        """Client connections open at this moment, idle ones included."""
        return len(self._connections)

    def script(self, fault: Fault | str, times: int = 1, *, to: str = "") -> None:
        """Queue a fault for the next call that has none, or for the next `times`. Raises FaultError.

        With `to` it waits for a call that holds these words as a whole JSON string, such as the content of a message: where
        several are asked at once, nobody can tell which comes first.
        """
        said = msgspec.json.encode(to) if to else b""
        self._queue.extend([(said, Fault.parse(str(fault)))] * times)

    def reset(self) -> None:
        """Forget the log, the queue and the chance drawn so far; running answers go on."""
        self._log.clear()
        self._queue: deque[tuple[bytes, Fault]] = deque()
        self._random = Random(self._seed)
        self._count = 0

    def go_on(self) -> None:
        """End the pause that each answer is in now, however long: a fault of an hour is a gate that whoever scripts it opens."""
        for connection in list(self._connections):
            connection.go_on()

    async def settle(self, within: float = 30.0) -> None:
        """Wait until no call of the log is running. Raises TimeoutError after `within` seconds."""
        async with asyncio.timeout(within):
            while any(call.ended is None for call in self._log):  # noqa: ASYNC110  # only tests wait, and rarely
                await asyncio.sleep(POLL)

    # answering

    def answer(self, request: Request) -> tuple[Call, Reply]:
        """Decide on the answer to one request."""
        call = Call(self._count, time.monotonic(), request.method, request.path, request.headers, request.body)
        path, _, query = request.path.partition("?")
        if path.startswith("/__"):
            return call, self._control(request, path, query)
        self._count += 1
        self._log.append(call)
        place = read_path(path)
        if place.error:
            return call, _refusal(400, place.error)
        match request.method, place.route:
            case "POST", "chat":
                return call, self._faulty(call, self._next_fault(request.body), place, chat_reply)
            case "POST", "embeddings":
                return call, self._faulty(call, self._next_fault(request.body), place, embeddings_reply)
            case "POST", "messages":
                return call, self._faulty(call, self._next_fault(request.body), place, messages_reply)
            case "GET", "models":
                return call, self._faulty(call, None, place, models_reply)
            case _, "":
                return call, _refusal(404, f"no route {path}")
            case _:
                return call, _refusal(405, f"{request.method} is not allowed here")

    def _next_fault(self, body: bytes) -> Fault | None:
        for one in self._queue:
            said, fault = one
            if said in body:
                self._queue.remove(one)
                return fault
        return None

    def _faulty(self, call: Call, queued: Fault | None, place: Place, answered: Callable[[Call], Reply]) -> Reply:
        header = call.header(HEADER) if queued is None else None
        try:
            call.fault = queued or (place.fault if header is None else Fault.parse(header))
        except FaultError as exc:
            return _refusal(400, str(exc))
        fault = call.fault
        if fault.err is not None and (fault.err_rate == 1.0 or self._random.random() < fault.err_rate):
            return error_reply(fault, fault.err)
        if fault.bad_json:
            return body_reply(200, TORN, fault)
        if fault.html:
            return body_reply(200, PAGE, fault, kind=HTML)
        return answered(call)

    def _control(self, request: Request, path: str, query: str) -> Reply:
        match request.method, path:
            case "GET", "/__calls":
                last = int(parse_qs(query).get("last", [str(len(self._log))])[0])
                log = [call.as_json() for call in list(self._log)[len(self._log) - last :]]
                return _json({"calls": self._count, "open_connections": self.open_connections, "log": log})
            case "POST", "/__reset":
                self.reset()
                return _json({})
            case "POST", "/__script":
                try:
                    script = msgspec.json.decode(request.body, type=Script)
                    self.script(script.fault, script.times, to=script.to)
                except (FaultError, msgspec.DecodeError) as exc:
                    return _refusal(400, str(exc))
                return _json({"queued": len(self._queue)})
            case _:
                return _refusal(404, f"no route {request.method} {path}")


@lru_cache(maxsize=1024)
def read_path(path: str) -> Place:
    """Routes by the end of the path; what stands before it is settings, or the words of some provider's base URL."""
    for end, route in ((CHAT, "chat"), (EMBEDDINGS, "embeddings"), (MESSAGES, "messages"), (CATALOGUE, "models")):
        if path.endswith(end):
            words = unquote(path.removesuffix(end)).strip("/").split("/")
            settings = [word for word in words if "=" in word or word.split(";")[0] in SWITCHES]
            try:
                return Place(route, Fault.parse(";".join(settings)))
            except FaultError as exc:
                return Place(route, PLAIN, str(exc))
    return Place("", PLAIN)


def chat_reply(call: Call) -> Reply:
    """The answer to a chat call, with the fault of the call."""
    fault = call.fault
    try:
        question = read_question(call.raw_body)
    except QuestionError as exc:
        return _refusal(400, str(exc))
    sayings = [answer.say(question, fault, choice) for choice in range(question.n)]
    if question.stream:
        return chunked_reply(EVENT_STREAM, stream(question, sayings, fault, call.sequence), fault)
    return _whole(question, sayings, call)


def messages_reply(call: Call) -> Reply:
    """The answer to a call for a message, in Anthropic's words."""
    fault = call.fault
    try:
        question = read_question(call.raw_body)
    except QuestionError as exc:
        return _refusal(400, str(exc))
    saying = answer.say(question, fault, 0)
    if question.stream:
        return chunked_reply(EVENT_STREAM, message_stream(question, saying, fault, call.sequence), fault)
    return body_reply(200, message_body(question, saying, call.sequence), fault, tokens=saying.tokens)


def embeddings_reply(call: Call) -> Reply:
    """The answer to a call for embeddings, with the fault of the call."""
    try:
        body, tokens = embeddings_body(call.body)
    except (TypeError, KeyError, IndexError, AttributeError, ValueError) as exc:
        return _refusal(400, f"not a request for embeddings: {exc!r}")
    return body_reply(200, body, call.fault, tokens=tokens)


def models_reply(call: Call) -> Reply:
    """The catalogue, with the fault of the call."""
    return body_reply(200, CATALOGUE_BODY, call.fault)


def _whole(question: Question, sayings: list[answer.Saying], call: Call) -> Reply:
    body = answer.completion_body(question, sayings, call.fault, call.sequence)
    tokens = sayings[0].tokens * len(sayings)
    if not call.fault.filler:
        return body_reply(200, body, call.fault, tokens=tokens)
    parts = filled(body, call.fault.filler, tokens=tokens)
    return chunked_reply("application/json", parts, call.fault)


def _refusal(status: int, message: str) -> Reply:
    return body_reply(status, error_body(status, f"chaos: {message}"), PLAIN)


def _json(value: object) -> Reply:
    return body_reply(200, _encode(value), PLAIN)


CATALOGUE_BODY: Final = _encode(
    {
        "object": "list",
        "data": [{"id": name, "object": "model", "created": answer.CREATED, "owned_by": "mock"} for name in MODELS],
    }
)
