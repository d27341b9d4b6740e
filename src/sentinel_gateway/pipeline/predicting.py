"""A program in the place of a provider: what it asks goes down the path of every chat, for the caller of the prediction.

A prediction is one request. It has taken its place and its share of the limits before it comes here; what its program asks of
models takes tokens and money, is written down as attempts of the same request, and may be answered from the cache: exactly,
unless the program allows more. What is asked for a prediction that must not be read from the cache, or kept, is not either.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NoReturn, Protocol

import msgspec
from msgspec.structs import replace

from sentinel_gateway.core.chat import Answer, Fields, Usage
from sentinel_gateway.core.record import Attempt
from sentinel_gateway.core.streaming import stored_fields, whole_body
from sentinel_gateway.errors import LeftAlone, ProgramFailed, UpstreamBroken, place_of
from sentinel_gateway.pipeline.journey import Journey
from sentinel_gateway.pipeline.plan import Plan
from sentinel_gateway.pipeline.reply import Cached, Reply, Whole
from sentinel_gateway.ports import Clock, Completion, Events, Prediction, Programs

APART: Final = 64
"""Numbers of attempts for one question that is asked beside others: no route allows as many."""
STOP: Final = "stop"
HITS: Final = frozenset({"exact", "semantic"})

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Chats(Protocol):
    """The path of chats (`handle.Pipeline`)."""

    def handle(self, raw: bytes, journey: Journey, *, waiting: Callable[[Plan], Awaitable[None]]) -> Awaitable[Reply]: ...


class Predicting:
    """Runs programs. `chats` are the paths that their questions take, by whether reworded ones may answer them."""

    def __init__(self, programs: Programs, chats: Mapping[bool, Chats], events: Events, clock: Clock) -> None:
        self._programs = programs
        self._chats = chats
        self._events = events
        self._clock = clock

    def __repr__(self) -> str:
        return f"<Predicting {self._programs!r}>"

    async def complete(self, plan: Plan, journey: Journey) -> Completion:
        """What the program puts out, as the one choice of a `chat.completion` and as its member `output`."""
        asked = plan.request
        if not isinstance(asked, Prediction):
            raise TypeError(f"no program answers {asked!r}")
        questions = Questions(self._chats[asked.program.semantic], asked.model, journey, self._clock)
        try:
            output = await self._programs.run(asked, questions.ask)
        except ProgramFailed as failed:
            cause = failed.__cause__ or failed
            about = {"program": asked.program.name, "error": type(cause).__name__, "at": place_of(cause)}
            self._events.note("program_failed", sentinel_id=journey.sentinel_id, **about)
            raise
        finally:
            await questions.end()
        return questions.answer(output)

    def open_stream(self, plan: Plan, journey: Journey) -> NoReturn:
        raise TypeError(f"{journey!r} is a prediction, and none is streamed: {plan.key}")

    def read_stream(self, plan: Plan, journey: Journey, read: object) -> NoReturn:  # noqa: ARG002 - as `Dispatch` has it
        self.open_stream(plan, journey)


class Questions:
    """What one run of a program asks, of one model, and what that has come to: its `journey` is told."""

    def __init__(self, chats: Chats, model: str, journey: Journey, clock: Clock) -> None:
        self._chats = chats
        self._model = model
        self._journey = journey
        self._clock = clock
        self._asking: set[asyncio.Task[Any]] = set()
        self._ended = False
        self._numbered = 0
        """The last number of an attempt so far."""
        self._taken = 0
        """The last number that is set aside for the questions under way."""
        self._finish = STOP

    def __repr__(self) -> str:
        return f"<Questions to {self._model}, {len(self._asking)} under way>"

    async def ask(self, body: bytes, *, fresh: bool = False) -> bytes:
        """One question, as `ports.Ask`."""
        task = asyncio.current_task()
        if self._ended or task is None:
            raise asyncio.CancelledError
        first = self._taken if self._asking else self._numbered
        self._taken = first + APART
        self._asking.add(task)
        journey = self._begin(first, fresh=fresh)
        try:
            reply = await self._chats.handle(self._addressed(body), journey, waiting=_nobody)
            return self._heard(reply, journey)
        except UpstreamBroken as error:
            if journey.attempts == first and journey.outcome != "coalesced":
                raise LeftAlone(error.message) from error
            raise
        finally:
            self._asking.discard(task)
            self._numbered = max(self._numbered, journey.attempts)
            self._add(journey, first)

    async def end(self) -> None:
        """Nobody waits any more: what is asked still is let go, and nothing more is asked."""
        self._ended = True
        if asking := list(self._asking):
            for task in asking:
                task.cancel()
            await asyncio.wait(asking)

    def _begin(self, first: int, *, fresh: bool) -> Journey:
        whole = self._journey
        return Journey(
            at=self._clock(),
            request_id=whole.request_id,
            sentinel_id=whole.sentinel_id,
            route=whole.route,
            method=whole.method,
            client=whole.client,
            region=whole.region,
            trace=whole.trace,
            attempts=first,
            caller=whole.caller,
            tenant=whole.tenant,
            writer=whole.writer,
            grant=None if whole.grant is None else whole.grant.part(),
            wish=replace(whole.wish, read=False, write=False) if fresh else whole.wish,
            through=whole.through,
        )

    def _addressed(self, body: bytes) -> bytes:
        """The same, to the model that the caller named."""
        fields: Fields = _decode(body)
        return _encode(fields | {"model": self._model})

    def _heard(self, reply: Reply, journey: Journey) -> bytes:
        if isinstance(reply, Cached):
            body = reply.hit.entry.body
            self._ended_by(stored_fields(body)["choices"][0].get("finish_reason"))
            return whole_body(body, answer_id=f"chatcmpl-{journey.sentinel_id}", created=int(self._clock()))
        if not isinstance(reply, Whole):
            raise TypeError("a program asks neither for streams nor under idempotency keys")
        self._ended_by(*reply.completion.answer.finish_reasons)
        return reply.completion.raw

    def _ended_by(self, *reasons: str | None) -> None:
        """What was made of an answer that is not whole is no better than that."""
        for reason in reasons:
            if reason in {"length", "content_filter"}:
                self._finish = reason

    def _add(self, journey: Journey, first: int) -> None:
        """Tell the prediction's journey what one question has come to."""
        whole = self._journey
        whole.attempts += journey.attempts - first
        whole.cost += journey.cost
        whole.target = journey.target or whole.target
        if journey.outcome not in HITS:
            whole.prompt_tokens += journey.prompt_tokens
            whole.completion_tokens += journey.completion_tokens
            if journey.basis != "price":
                whole.basis = journey.basis
        if journey.upstream_started:
            whole.upstream_started = whole.upstream_started or journey.upstream_started
            whole.upstream_ended = max(whole.upstream_ended, journey.upstream_ended)

    def answer(self, output: Any) -> Completion:
        """What is answered, and kept with what all questions have cost."""
        whole = self._journey
        used = Usage(whole.prompt_tokens, whole.completion_tokens, whole.prompt_tokens + whole.completion_tokens)
        whole.paid = Attempt(
            whole.sentinel_id,
            whole.target,
            whole.attempts,
            whole.at,
            stream=False,
            prompt_tokens=used.prompt_tokens,
            completion_tokens=used.completion_tokens,
            cost=whole.cost,
            basis=whole.basis,
        )
        text = output if isinstance(output, str) else _encode(output).decode()
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": self._finish}
        usage = {name: getattr(used, name) for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
        fields = {"object": "chat.completion", "model": self._model, "choices": [choice], "usage": usage, "output": output}
        return Completion(_encode(fields), Answer(fields, (self._finish,), used))


async def _nobody(_: Plan) -> None:
    """Whoever waits for the prediction is watched already."""
