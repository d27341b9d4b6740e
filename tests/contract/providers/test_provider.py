"""What every provider owes to the path: `ports.Provider` and `ports.ChunkStream`, on each adapter there is."""

import asyncio
import base64
import copy
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from bench.chaos import ChaosUpstream
from sentinel_gateway.core.chat import Chunk, says_something
from sentinel_gateway.core.streaming import Fold
from sentinel_gateway.errors import UpstreamError
from sentinel_gateway.ports import Provider, UpstreamCall
from sentinel_gateway.providers._http import HttpClient
from sentinel_gateway.providers._provider import ProviderConfig
from sentinel_gateway.providers._sigv4 import Credentials
from sentinel_gateway.providers._translated import Dialect, TranslatedProvider
from sentinel_gateway.providers.anthropic import Anthropic
from sentinel_gateway.providers.bedrock import Bedrock, Signer
from sentinel_gateway.providers.demo import DemoProvider, Pace
from sentinel_gateway.providers.gemini import Gemini
from sentinel_gateway.providers.openai import OpenAIProvider
from tests.native import AnthropicVoice, BedrockVoice, GeminiVoice, NativeUpstream, Voice
from tests.native import Fault as NativeFault

pytestmark = pytest.mark.anyio

FIELDS = {"model": "what-the-caller-wrote", "messages": [{"role": "user", "content": "Where does the Danube rise?"}]}
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "parameters": {"type": "object", "properties": {"river": {"type": "string"}}, "required": ["river"]},
    },
}


class World:
    """One provider, and what can be made to happen behind it."""

    provider: Provider
    model: str
    most_choices: int = 128

    def failing(self, status: int) -> str:
        """A model whose next call fails so."""
        raise NotImplementedError

    def hanging(self) -> str:
        """A model whose next call says a word if it is a stream, then nothing for longer than the test waits."""
        raise NotImplementedError

    def cut(self) -> str:
        """A model whose next stream breaks off."""
        raise NotImplementedError

    async def closed(self) -> None:
        """Returns when no upstream call is open."""


@dataclass
class ChaosWorld(World):
    upstream: ChaosUpstream
    provider: Provider
    model: str = "mock-model"

    def failing(self, status: int) -> str:
        self.upstream.script(f"err={status};retry_after=1")
        return self.model

    def hanging(self) -> str:
        self.upstream.script("stall_after=1")
        return self.model

    def cut(self) -> str:
        self.upstream.script("cut_after=2")
        return self.model

    async def closed(self) -> None:
        await self.upstream.settle()
        call = self.upstream.calls[-1]
        assert not call.completed
        assert call.closed_by_peer_at is not None


class DemoWorld(World):
    model = "demo"

    def __init__(self) -> None:
        self.provider = DemoProvider(lambda: 1_700_000_000.0, slow=Pace(first=0.01, each=30))

    def failing(self, status: int) -> str:
        return f"demo-fail-{status}"

    def hanging(self) -> str:
        return "demo-slow"

    def cut(self) -> str:
        return "demo-cut"


@dataclass
class NativeWorld(World):
    upstream: NativeUpstream
    provider: Provider
    model: str
    most_choices: int

    def failing(self, status: int) -> str:
        self.upstream.script(NativeFault(status=status))
        return self.model

    def hanging(self) -> str:
        self.upstream.script(NativeFault(hangs=True))
        return self.model

    def cut(self) -> str:
        self.upstream.script(NativeFault(cuts=2))
        return self.model

    async def closed(self) -> None:
        await self.upstream.settle()
        assert self.upstream.left == 1


Opening = Callable[[HttpClient], AbstractAsyncContextManager[World]]


def native(voice: type[Voice], dialect: Callable[[ProviderConfig], Dialect], *, choices: int) -> Opening:
    """The adapter of a dialect, before a mock that speaks it."""

    @asynccontextmanager
    async def opened(http: HttpClient) -> AsyncIterator[World]:
        async with NativeUpstream(voice()) as upstream:
            config = ProviderConfig("mock", upstream.base_url)
            provider = TranslatedProvider(config, dialect(config), http)
            yield NativeWorld(upstream, provider, voice.model, choices)

    return opened


def bedrock(config: ProviderConfig) -> Bedrock:
    return Bedrock(config, Signer(Credentials("AKIDEXAMPLE", "secret"), "us-east-1", time.time))


NATIVE = {
    "anthropic": native(AnthropicVoice, Anthropic, choices=1),
    "gemini": native(GeminiVoice, Gemini, choices=128),
    "bedrock": native(BedrockVoice, bedrock, choices=1),
}


@asynccontextmanager
async def chaos(http: HttpClient) -> AsyncIterator[World]:
    async with ChaosUpstream() as upstream:
        yield ChaosWorld(upstream, OpenAIProvider(ProviderConfig("mock", upstream.base_url), http))


@asynccontextmanager
async def demo(http: HttpClient) -> AsyncIterator[World]:
    yield DemoWorld()


@pytest.fixture(scope="module")
async def http(anyio_backend: object) -> AsyncIterator[HttpClient]:
    async with HttpClient(via="sentinel-n1", version="1") as client:
        yield client


EMBEDDING = {"openai": chaos, "demo": demo}
"""Those that make vectors as well."""


@pytest.fixture(params=[*EMBEDDING.values(), *NATIVE.values()], ids=[*EMBEDDING, *NATIVE])
async def world(request: pytest.FixtureRequest, http: HttpClient) -> AsyncIterator[World]:
    async with request.param(http) as opened:
        yield opened


@pytest.fixture(params=EMBEDDING.values(), ids=EMBEDDING)
async def embedding(request: pytest.FixtureRequest, http: HttpClient) -> AsyncIterator[World]:
    async with request.param(http) as opened:
        yield opened


def call(world: World, model: str = "", **fields: Any) -> UpstreamCall:
    return UpstreamCall({**FIELDS, **fields}, model or world.model, "sentinel-1")


def embed(world: World, asked: Any, *, model: str = "", **fields: Any) -> UpstreamCall:
    return UpstreamCall({"model": "what-the-caller-wrote", "input": asked, **fields}, model or world.model, "sentinel-1")


async def whole_stream(world: World, asked: UpstreamCall) -> tuple[list[Chunk], bool]:
    async with await world.provider.open_stream(asked) as stream:
        chunks = [chunk async for batch in stream for chunk in batch]
        return chunks, stream.finished


async def piped_stream(world: World, asked: UpstreamCall, *, wants: bool = True) -> tuple[list[Chunk], bool]:
    """The same as the path reads it; who wants no more asks again."""
    chunks: list[Chunk] = []

    def take(batch: list[Chunk]) -> bool:
        chunks.extend(batch)
        return wants

    async with await world.provider.open_stream(asked) as stream:
        with suppress(StopAsyncIteration):
            while True:
                await stream.pipe(take)
        return chunks, stream.finished


def folded(chunks: list[Chunk], expected: int = 1) -> Fold:
    fold = Fold(expected=expected, max_bytes=1_000_000)
    for chunk in chunks:
        fold.add(chunk.fields, len(chunk.raw))
    return fold


async def test_a_whole_answer_is_the_providers_bytes_and_the_same_parsed(world: World):
    completion = await world.provider.complete(call(world))
    assert msgspec.json.decode(completion.raw) == completion.answer.fields
    assert completion.answer.finish_reasons == ("stop",)
    assert completion.answer.fields["model"] == world.model
    assert says_something(completion.answer)
    usage = completion.answer.usage
    assert usage is not None
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0


async def test_a_stream_says_the_same_as_the_whole_answer(world: World):
    completion = await world.provider.complete(call(world))
    chunks, finished = await whole_stream(world, call(world))
    assert finished
    assert len(chunks) > 3
    assert all(msgspec.json.decode(chunk.raw) == chunk.fields for chunk in chunks)
    assert all(chunk.fields["object"] == "chat.completion.chunk" for chunk in chunks)
    assert chunks[0].fields["choices"][0]["delta"]["role"] == "assistant"
    answer = folded(chunks).answer()
    assert answer.fields["choices"][0]["message"]["content"] == completion.answer.fields["choices"][0]["message"]["content"]
    assert answer.finish_reasons == completion.answer.finish_reasons


@pytest.mark.parametrize("wants", [True, False], ids=["at once", "one by one"])
async def test_what_is_piped_is_what_is_waited_for(world: World, wants: bool):
    chunks, _ = await whole_stream(world, call(world))
    piped, finished = await piped_stream(world, call(world), wants=wants)
    assert finished
    assert len(piped) == len(chunks)
    assert folded(piped).answer().fields["choices"] == folded(chunks).answer().fields["choices"]


async def test_a_pipe_ends_where_the_stream_breaks_off(world: World):
    chunks, finished = await piped_stream(world, call(world, world.cut()))
    assert chunks
    assert not finished
    assert not folded(chunks).finished


async def test_who_leaves_a_pipe_closes_the_upstream_call(world: World):
    hearing = asyncio.Event()

    async def read() -> None:
        async with await world.provider.open_stream(call(world, world.hanging())) as stream:
            await stream.pipe(lambda _: not hearing.set())

    async with asyncio.timeout(60):
        await cancelled(read(), hearing)
        await world.closed()


async def test_a_stream_always_reports_usage(world: World):
    chunks, _ = await whole_stream(world, call(world, stream=True))
    assert folded(chunks).usage == (await world.provider.complete(call(world))).answer.usage


async def test_several_choices(world: World):
    if world.most_choices == 1:
        with pytest.raises(UpstreamError, match="can't be given 'n'") as caught:
            await world.provider.complete(call(world, n=3))
        assert (caught.value.http_status, caught.value.param, caught.value.next_target) == (400, "n", True)
        return
    completion = await world.provider.complete(call(world, n=3))
    texts = [choice["message"]["content"] for choice in completion.answer.fields["choices"]]
    assert len(set(texts)) == 3
    chunks, finished = await whole_stream(world, call(world, n=3))
    fold = folded(chunks, expected=3)
    assert finished
    assert fold.finished
    assert [choice["message"]["content"] for choice in fold.answer().fields["choices"]] == texts


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_demanded_tool_is_called_with_valid_arguments(world: World, streamed):
    asked = call(world, tools=[TOOL], tool_choice={"type": "function", "function": {"name": "look_up"}})
    chunks = (await whole_stream(world, asked))[0] if streamed else []
    answer = folded(chunks).answer() if streamed else (await world.provider.complete(asked)).answer
    (tool_call,) = answer.fields["choices"][0]["message"]["tool_calls"]
    assert tool_call["function"]["name"] == "look_up"
    assert isinstance(msgspec.json.decode(tool_call["function"]["arguments"])["river"], str)
    assert answer.finish_reasons == ("tool_calls",)


async def test_a_schema_is_answered_with_an_instance(world: World):
    schema = {"type": "object", "properties": {"river": {"type": "string"}}, "required": ["river"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "rivers", "schema": schema}}
    completion = await world.provider.complete(call(world, response_format=wanted))
    content = completion.answer.fields["choices"][0]["message"]["content"]
    assert isinstance(msgspec.json.decode(content)["river"], str)


STATUSES = {
    400: ("UpstreamRefused", 400),
    401: ("UpstreamUnauthorized", 502),
    402: ("UpstreamUnauthorized", 502),
    403: ("UpstreamUnauthorized", 502),
    404: ("UpstreamRefused", 404),
    408: ("UpstreamTimeout", 504),
    409: ("UpstreamRefused", 409),
    413: ("UpstreamRefused", 413),
    415: ("UpstreamRefused", 415),
    418: ("UpstreamRefused", 418),
    422: ("UpstreamRefused", 422),
    429: ("UpstreamLimited", 429),
    500: ("UpstreamBroken", 502),
    503: ("UpstreamBroken", 502),
    529: ("UpstreamOverloaded", 502),
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("status", STATUSES)
async def test_each_failure_is_the_documented_error(world: World, status, streamed):
    asked = call(world, world.failing(status))
    with pytest.raises(UpstreamError) as caught:
        await (world.provider.open_stream(asked) if streamed else world.provider.complete(asked))
    assert (type(caught.value).__name__, caught.value.http_status) == STATUSES[status]
    assert caught.value.message
    assert "Danube" not in caught.value.message
    if status in {429, 503}:
        assert caught.value.retry_after == 1.0


async def test_a_stream_that_breaks_off_is_not_finished(world: World):
    chunks, finished = await whole_stream(world, call(world, world.cut()))
    assert chunks
    assert not finished
    assert not folded(chunks).finished


async def test_leaving_a_stream_early_closes_the_upstream_call(world: World):
    async with asyncio.timeout(60):
        async with await world.provider.open_stream(call(world, world.hanging())) as stream:
            assert await anext(aiter(stream))
            left = time.monotonic()
        assert not stream.finished
        await world.closed()
    assert time.monotonic() - left < 10, "it would be idle for a minute"


async def test_cancelling_a_reader_closes_the_upstream_call(world: World):
    reading = asyncio.Event()

    async def read() -> None:
        async with await world.provider.open_stream(call(world, world.hanging())) as stream:
            async for _ in stream:
                reading.set()

    async with asyncio.timeout(60):
        await cancelled(read(), reading)
        await world.closed()


async def test_cancelling_a_call_closes_the_upstream_call(world: World):
    started = asyncio.Event()
    model = world.hanging()

    async def ask() -> None:
        started.set()
        await world.provider.complete(call(world, model))

    if isinstance(world, DemoWorld):
        world.provider = DemoProvider(lambda: 0.0, slow=Pace(first=30))
    async with asyncio.timeout(60):
        await cancelled(ask(), started)
        await world.closed()


async def cancelled(work: Any, when: asyncio.Event) -> None:
    """Run it until the event and a moment longer, cancel it, and see it gone soon."""
    task = asyncio.create_task(work)
    await when.wait()
    await asyncio.sleep(0.05)
    assert not task.done()
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=20)
    assert done
    assert task.cancelled()


async def test_the_callers_fields_are_never_changed(world: World):
    asked = call(world, stream=True, stream_options={"include_usage": False})
    before = copy.deepcopy(asked.fields)
    await world.provider.complete(asked)
    await whole_stream(world, asked)
    assert asked.fields == before


async def test_calls_side_by_side_get_their_own_answers(world: World):
    questions = [f"question number {number}?" for number in range(40)]
    asked = [call(world, messages=[{"role": "user", "content": question}]) for question in questions]
    whole = await asyncio.gather(*map(world.provider.complete, asked))
    streamed = await asyncio.gather(*(whole_stream(world, one) for one in asked))
    for question, completion, (chunks, _) in zip(questions, whole, streamed, strict=True):
        assert question in completion.answer.fields["choices"][0]["message"]["content"]
        assert question in folded(chunks).answer().fields["choices"][0]["message"]["content"]


async def test_the_same_question_gets_the_same_answer(world: World):
    first, second = [(await world.provider.complete(call(world))).answer.fields["choices"] for _ in range(2)]
    assert first == second


async def test_an_item_has_one_vector_in_whatever_batch(embedding: World):
    alone = [await embedding.provider.embed(embed(embedding, item)) for item in ("Ulm", "Passau", [1, 2])]
    ((ulm,), (passau,), (ids,)) = [embedded.vectors for embedded in alone]
    batch = await embedding.provider.embed(embed(embedding, ["Passau", "Ulm"]))
    assert batch.vectors == (passau, ulm)
    assert batch.tokens == sum(embedded.tokens for embedded in alone[:2]) > 0
    assert alone[2].tokens == 2
    assert len({ulm, passau, ids}) == 3


async def test_a_vector_is_as_long_and_as_written_as_was_asked_for(embedding: World):
    (numbers,) = (await embedding.provider.embed(embed(embedding, "Ulm", dimensions=5))).vectors
    (packed,) = (await embedding.provider.embed(embed(embedding, "Ulm", dimensions=5, encoding_format="base64"))).vectors
    assert list(struct.unpack("<5f", base64.b64decode(msgspec.json.decode(packed)))) == msgspec.json.decode(numbers)


@pytest.mark.parametrize("status", [400, 401, 429, 500])
async def test_each_failure_of_embeddings_is_the_documented_error(embedding: World, status):
    with pytest.raises(UpstreamError) as caught:
        await embedding.provider.embed(embed(embedding, "Ulm", model=embedding.failing(status)))
    assert (type(caught.value).__name__, caught.value.http_status) == STATUSES[status]


async def test_models_are_listed(world: World):
    assert world.model in await world.provider.list_models()
    assert world.provider.name in {"mock", "demo"}


async def test_state_shows_in_the_repr(world: World):
    stream = await world.provider.open_stream(call(world))
    assert "open" in repr(stream)
    async with stream:
        async for _ in stream:
            pass
    assert "finished" in repr(stream)
    assert "Provider" in repr(world.provider)
