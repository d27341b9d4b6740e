"""What is sent: the workloads of the bench, each as a way to make the next request. Bodies and answers are of about 1 KB."""

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal

import msgspec

from bench.load import Clients, MakeMessage, Message

MODEL: Final = "openai/mock-model"
CHUNKS: Final = 50
CHUNK_MS: Final = 2
STREAM_SECONDS: Final = CHUNKS * CHUNK_MS / 1000
MOCK: Final = f"tokens=250;chunks={CHUNKS};chunk_ms={CHUNK_MS}"
"""What the mock answers: 1,000 characters; streams in 50 chunks, one each 2 ms."""
SYSTEM: Final = (
    "You advise the customers of a nursery. Say which tool, seed or plant fits their garden, and why, in words that a beginner "
    "understands. Stay with what the catalogue says; where it says nothing, say that you do not know. "
) * 4
AT_ONCE: Final = Clients(32)
STREAMING: Final = Clients(16, ramp=STREAM_SECONDS)
BLANKS: Final = " \t\n\r"

Target = Literal["mock", "gateway", "floor"]
Numbers = Iterator[int]


class Workload(msgspec.Struct, frozen=True):
    """One kind of request and what is expected of it."""

    name: str
    make: Callable[[Numbers], MakeMessage]
    """From numbers that never come twice in a run."""
    clients: Clients
    target: Target = "gateway"
    path: str = "/v1/chat/completions"
    units: int = 1
    """CPU time is told for this fraction of a request: a stream's chunk."""
    floor: str = ""
    """The workload that shows what server and client alone cost here."""
    upstream_calls: int = 1
    """Upstream calls a request: whether a hit was a hit is asked of the mock, not of the gateway."""


def _body(question: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
    return {"model": MODEL, "messages": messages, "temperature": 0, **more}


def _encode(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()


def same(question: str, **more: Any) -> Callable[[Numbers], MakeMessage]:
    """The same bytes every time."""
    message = Message(_encode(_body(question, **more)))
    return lambda _numbers: lambda _number: message


def unique(*headers: tuple[str, str], **more: Any) -> Callable[[Numbers], MakeMessage]:
    """Another question every time."""
    before, after = _encode(_body("Question <number>: which spade fits a small clay bed?", **more)).split(b"<number>")

    def make(numbers: Numbers) -> MakeMessage:
        return lambda _number: Message(b"%b%012d%b" % (before, next(numbers), after), headers)

    return make


def respelled(question: str) -> Callable[[Numbers], MakeMessage]:
    """The same request every time, never in the same bytes: another order of keys, other blanks."""

    def make(numbers: Numbers) -> MakeMessage:
        body = _body(question, top_p=1, max_tokens=900)
        members = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in body.items()]
        orders = [", ".join(order).encode() for order in itertools.permutations(members)]

        def message(_number: int) -> Message:
            number = next(numbers)
            return Message(b"{%b%b}" % (blanks(number), orders[number % len(orders)]))

        return message

    return make


def blanks(number: int) -> bytes:
    """The number, written in JSON's four blanks."""
    digits = []
    while number:
        number, digit = divmod(number, len(BLANKS))
        digits.append(BLANKS[digit])
    return "".join(digits).encode()


WORKLOADS: Final = (
    Workload("direct", unique(), AT_ONCE, target="mock"),
    Workload("direct stream", unique(stream=True), STREAMING, target="mock", units=CHUNKS),
    Workload("floor, answer", same("Which spade?"), AT_ONCE, target="floor", path="/answer/1", upstream_calls=0),
    Workload("floor, relay", unique(), AT_ONCE, target="floor"),
    Workload("floor, stream", unique(stream=True), STREAMING, target="floor", units=CHUNKS),
    Workload("exact hit", same("Which spade?"), AT_ONCE, floor="floor, answer", upstream_calls=0),
    Workload("exact hit, respelled", respelled("Which hoe?"), AT_ONCE, floor="floor, answer", upstream_calls=0),
    Workload("miss", unique(), AT_ONCE, floor="floor, relay"),
    Workload("miss, bypassed", unique(("x-bypass-cache", "true")), AT_ONCE, floor="floor, relay"),
    Workload("stream", unique(stream=True), STREAMING, units=CHUNKS, floor="floor, stream"),
    Workload("stream hit", same("Which rake?", stream=True), AT_ONCE, upstream_calls=0),
)
