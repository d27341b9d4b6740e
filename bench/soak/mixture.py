"""Who asks for what: of each hundred requests the same mixture, each unlike the others where it shall be new.

Every text has `CANARY` in it: it may stand in answers, and in no log and no metric.
"""

import random
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple

CANARY: Final = "zinnober"
CALM: Final = "calm/mock-small"
MIXED: Final = "mixed"
"""A name whose first target fails now and then, so that the second is asked."""
FACTS: Final = 400
"""Questions that come again and again."""
CHAT: Final = "/v1/chat/completions"
OPENINGS: Final = ("Please tell me: ", "Could you tell me: ", "Tell me please, ", "I would like to know: ", "Quick question: ")
OK: Final = frozenset({200})
FAILING: Final = frozenset({200, 429, 502, 503, 504})
"""What comes of a provider that fails: its error as ours, or the circuit's."""

Leaves = Literal["", "at once", "midway"]


class Ask(NamedTuple):
    """One request. `expected` stands in the answer; empty where that can't be told."""

    kind: str
    path: str
    body: Any
    """JSON, or bytes as they are."""
    headers: Mapping[str, str] = {}
    allowed: frozenset[int] = OK
    leaves: Leaves = ""
    expected: str = ""
    key: Literal["app", "poor"] = "app"
    times: int = 1
    """So often it is sent, one after the other."""


def _fact(number: int) -> str:
    return f"What is the {CANARY} rule {number % FACTS} of the garden?"


def _fresh(number: int) -> str:
    return f"How many {CANARY} seeds does bed {number} take?"


def _chat(kind: str, text: str, model: str = MIXED, *, system: str = "Be brief.", **more: Any) -> Ask:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
    return Ask(kind, CHAT, {"model": model, "messages": messages, **more})


def _alone(number: int) -> str:
    """A system prompt that nothing else has: nothing to compare with."""
    return f"You know garden {number} and no other."


def _known(number: int) -> Ask:
    return _chat("asked before", _fact(number))._replace(expected=_fact(number))


def _new(number: int) -> Ask:
    return _chat("new", _fresh(number), system=_alone(number))._replace(expected=_fresh(number))


def _reworded(number: int) -> Ask:
    opening = OPENINGS[number // FACTS % len(OPENINGS)]
    return _chat("in other words", opening + _fact(number), user=f"user {number % 50}")


def _leaving(leaves: Leaves) -> Callable[[int], Ask]:
    return lambda number: _chat(f"leaves {leaves}", _fresh(number), system=_alone(number), stream=True)._replace(leaves=leaves)


def _failing(model: str, *, stream: bool) -> Callable[[int], Ask]:
    kind = f"of {model.partition('/')[0]}{', streamed' if stream else ''}"
    return lambda number: _chat(kind, _fresh(number), model, stream=stream, temperature=0.1)._replace(allowed=FAILING)


def _poor(number: int) -> Ask:
    return _chat("beyond its limit", _fact(number))._replace(key="poor", allowed=frozenset({200, 429}))


def _malformed(number: int) -> Ask:
    body = b'{"model": "mixed", "messages": [], "number": %d' % number
    return Ask("malformed", CHAT, body, allowed=frozenset({400}))


def _idempotent(number: int) -> Ask:
    headers = {"idempotency-key": f"soak-{number}", "cache-control": "no-store"}
    return _chat("sent twice", _fresh(number))._replace(headers=headers, times=2, expected=_fresh(number))


def _bypassed(number: int) -> Ask:
    return _chat("bypassed", _fact(number))._replace(headers={"x-bypass-cache": "true"}, expected=_fact(number))


def _message(number: int) -> Ask:
    body = {"model": MIXED, "max_tokens": 100, "messages": [{"role": "user", "content": _fresh(number)}]}
    return Ask("message", "/v1/messages", body, {"anthropic-version": "2023-06-01"}, expected=_fresh(number))


def _embedding(number: int) -> Ask:
    return Ask("embedding", "/v1/embeddings", {"model": CALM, "input": [_fact(number), _fresh(number // 2)]})


def _batch(number: int) -> Ask:
    return Ask("batch", "/v1/query/batch", {"model": MIXED, "queries": [_fact(number), _fact(number), _fresh(number)]})


KINDS: Final[tuple[tuple[int, Callable[[int], Ask]], ...]] = (
    (29, _known),
    (8, lambda number: _chat("asked before, streamed", _fact(number), stream=True)),
    (10, _new),
    (8, lambda number: _chat("new, streamed", _fresh(number), system=_alone(number), stream=True)),
    (8, lambda number: _chat("new, compared", _fresh(number))._replace(expected=_fresh(number))),
    (8, _reworded),
    (5, _embedding),
    (2, _message),
    (2, lambda number: Ask("response", "/v1/responses", {"model": MIXED, "input": _fresh(number)})),
    (1, lambda number: Ask("completion", "/v1/completions", {"model": MIXED, "prompt": _fresh(number)})),
    (1, lambda number: Ask("query", "/v1/query", {"model": MIXED, "prompt": _fact(number)})),
    (1, _batch),
    (2, _leaving("at once")),
    (2, _leaving("midway")),
    (2, _failing("moody/mock-small", stream=False)),
    (2, _failing("torn/mock-small", stream=True)),
    (2, _failing("busy/mock-small", stream=False)),
    (3, _poor),
    (1, _malformed),
    (1, _idempotent),
    (2, _bypassed),
)
"""How many of each hundred."""


def _order() -> tuple[Callable[[int], Ask], ...]:
    makers = [make for share, make in KINDS for _ in range(share)]
    random.Random(7).shuffle(makers)  # so that kinds do not come in blocks
    return tuple(makers)


ORDER: Final = _order()


def ask(number: int) -> Ask:
    """The request of this number."""
    return ORDER[number % len(ORDER)](number)
