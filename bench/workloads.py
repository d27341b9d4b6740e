"""What is sent: the workloads of the bench, each as a way to make the next request. Bodies and answers are of about 1 KB."""

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal

import msgspec

from bench.load import Clients, MakeMessage, Message
from sentinel_gateway.core.access import make_key_text

MODEL: Final = "openai/mock-model"
ROUTED: Final = "either"
"""A name with two targets, chosen by weight."""
TRANSLATED: Final = "anthropic/mock-model"
"""The same mock, asked in Anthropic's words."""
PROVIDERS: Final = ("OPENAI", "GROQ", "ANTHROPIC")
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

IN_SCOPE: Final = 10_000
"""Questions that a reworded one is compared with."""
JOBS: Final = (
    "plant",
    "water",
    "prune",
    "feed",
    "move",
    "harvest",
    "store",
    "mulch",
    "protect",
    "cut back",
    "sow",
    "graft",
    "train",
)
PLANTS: Final = (
    *("apple trees", "beans", "beetroot", "blackberries", "cabbages", "carrots", "cherries", "clematis", "cucumbers", "dahlias"),
    *("figs", "garlic", "grapes", "hazels", "hollies", "irises", "kale", "lavender", "leeks", "lettuce", "lilies", "maples"),
    *(
        "melons",
        "onions",
        "oregano",
        "parsley",
        "parsnips",
        "peas",
        "pears",
        "peonies",
        "peppers",
        "plums",
        "potatoes",
        "pumpkins",
    ),
    *(
        "radishes",
        "raspberries",
        "rhubarb",
        "rosemary",
        "roses",
        "sage",
        "spinach",
        "strawberries",
        "thyme",
        "tomatoes",
        "tulips",
    ),
)
PLACES: Final = (
    *("on clay", "on sand", "in pots", "in shade", "by the sea", "on a slope", "on chalk", "under glass", "on a balcony"),
    *("in wet ground", "near a hedge", "in a raised bed", "against a wall", "in an orchard", "on a roof", "in a cold frame"),
    *("beside a pond", "in full sun"),
)
OPENINGS: Final = ("Please tell me: how", "Could you say how", "I would like to know: how")

KEY: Final = make_key_text(bytes(32))
KEYED: Final = ("authorization", f"Bearer {KEY}")

Target = Literal["mock", "gateway", "bare", "keyed", "accounted", "semantic", "floor"]
"""`bare` is a gateway without a ledger. `keyed` and `accounted` ask for a key; the only one has limits of every kind, which it
never reaches, and in `accounted` budgets as well.
"""
Numbers = Iterator[int]
Maker = Callable[[Numbers], MakeMessage]


class Workload(msgspec.Struct, frozen=True):
    """One kind of request and what is expected of it."""

    name: str
    make: Maker
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


def providers(url: str) -> dict[str, str]:
    """The variables that tell a gateway of the mock at this URL: as two providers in OpenAI's words, and one in Anthropic's."""
    told = {f"{name}_API_KEY": "sk-bench" for name in PROVIDERS} | {f"{name}_BASE_URL": url for name in PROVIDERS}
    either = f"SENTINEL_MODELS__{ROUTED.upper()}"
    return told | {f"{either}__TARGETS": "openai/mock-model,groq/mock-model", f"{either}__STRATEGY": "weighted"}


def _body(question: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
    return {"model": MODEL, "messages": messages, "temperature": 0, **more}


def _encode(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()


def plain(text: str) -> bytes:
    """A plain question, as the workloads ask it."""
    return _encode(_body(text))


def same(question: str, *headers: tuple[str, str], **more: Any) -> Maker:
    """The same bytes every time."""
    message = Message(_encode(_body(question, **more)), headers)
    return lambda _numbers: lambda _number: message


def unique(*headers: tuple[str, str], **more: Any) -> Maker:
    """Another question every time."""
    before, after = _encode(_body("Question <number>: which spade fits a small clay bed?", **more)).split(b"<number>")

    def make(numbers: Numbers) -> MakeMessage:
        return lambda _number: Message(b"%b%012d%b" % (before, next(numbers), after), headers)

    return make


def respelled(question: str) -> Maker:
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


def garden(number: int) -> str:
    """One of `IN_SCOPE` questions."""
    number %= IN_SCOPE
    job, rest = JOBS[number % len(JOBS)], number // len(JOBS)
    return f"do I {job} {PLANTS[rest % len(PLANTS)]} {PLACES[rest // len(PLANTS) % len(PLACES)]}?"


def asked_before(number: int) -> Message:
    """A question to compare with."""
    return Message(_encode(_body(f"How {garden(number)}")))


def reworded(among: int) -> Maker:
    """One of so many questions asked before, in other words; no text comes again soon."""

    def make(numbers: Numbers) -> MakeMessage:
        def message(_number: int) -> Message:
            turn, number = divmod(next(numbers), among)
            opening = OPENINGS[turn % len(OPENINGS)]
            return Message(_encode(_body(f"{opening} {garden(number)}")), (("x-similarity-threshold", "0.8"),))

        return message

    return make


def conversation(numbers: Numbers) -> MakeMessage:
    """Another system prompt every time: nothing to compare with."""

    def message(_number: int) -> Message:
        messages = [{"role": "system", "content": f"{SYSTEM} {next(numbers)}"}, {"role": "user", "content": "Which spade?"}]
        return Message(_encode({"model": MODEL, "messages": messages, "temperature": 0}))

    return message


def workloads(in_scope: int) -> tuple[Workload, ...]:
    """All of them; reworded questions are among so many that were asked before."""
    semantic = Workload("semantic hit", reworded(in_scope), AT_ONCE, target="semantic", upstream_calls=0)
    return (*EXACT, semantic, *COMPARED)


EXACT: Final = (
    Workload("direct", unique(), AT_ONCE, target="mock"),
    Workload("direct stream", unique(stream=True), STREAMING, target="mock", units=CHUNKS),
    Workload("floor, answer", same("Which spade?"), AT_ONCE, target="floor", path="/answer/1", upstream_calls=0),
    Workload("floor, relay", unique(), AT_ONCE, target="floor"),
    Workload("floor, stream", unique(stream=True), STREAMING, target="floor", units=CHUNKS),
    Workload("exact hit", same("Which spade?"), AT_ONCE, floor="floor, answer", upstream_calls=0),
    Workload(
        "exact hit, with a key", same("Which spade?", KEYED), AT_ONCE, target="keyed", floor="floor, answer", upstream_calls=0
    ),
    Workload("exact hit, bare", same("Which spade?"), AT_ONCE, target="bare", floor="floor, answer", upstream_calls=0),
    Workload(
        "exact hit, accounted", same("Which spade?", KEYED), AT_ONCE, target="accounted", floor="floor, answer", upstream_calls=0
    ),
    Workload("exact hit, respelled", respelled("Which hoe?"), AT_ONCE, floor="floor, answer", upstream_calls=0),
    Workload("miss", unique(), AT_ONCE, floor="floor, relay"),
    Workload("miss, with a key", unique(KEYED), AT_ONCE, target="keyed", floor="floor, relay"),
    Workload("miss, bare", unique(max_tokens=900), AT_ONCE, target="bare", floor="floor, relay"),
    Workload("miss, accounted", unique(KEYED, max_tokens=900), AT_ONCE, target="accounted", floor="floor, relay"),
    Workload("miss, bypassed", unique(("x-bypass-cache", "true")), AT_ONCE, floor="floor, relay"),
    Workload("stream", unique(stream=True), STREAMING, units=CHUNKS, floor="floor, stream"),
    Workload("stream, routed", unique(stream=True, model=ROUTED), STREAMING, units=CHUNKS, floor="floor, stream"),
    Workload("stream, translated", unique(stream=True, model=TRANSLATED), STREAMING, units=CHUNKS, floor="floor, stream"),
    Workload("stream hit", same("Which rake?", stream=True), AT_ONCE, upstream_calls=0),
)
COMPARED: Final = (
    Workload("miss, compared", unique(), AT_ONCE, target="semantic"),
    Workload("miss, nothing to compare", conversation, AT_ONCE, target="semantic", floor="floor, relay"),
)
WORKLOADS: Final = workloads(IN_SCOPE)
BY_NAME: Final = {workload.name: workload for workload in WORKLOADS}
