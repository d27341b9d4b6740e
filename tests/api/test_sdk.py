"""The real OpenAI SDK, pointed at the gateway by its base URL and by nothing else."""

import asyncio
from collections.abc import AsyncIterator

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from tests.gateway import one_provider, running_gateway
from tests.still import undisturbed

pytestmark = pytest.mark.anyio

MODEL = "mock-model"
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "parameters": {"type": "object", "properties": {"river": {"type": "string"}}, "required": ["river"]},
    },
}


class Town(BaseModel):
    name: str
    people: int


@pytest.fixture(scope="module")
async def gateway(chaos, tmp_path_factory):
    """A provider that must answer within a second if it is asked by another name."""
    config = one_provider(chaos.base_url) + "models: {hurried: {targets: [mock/mock-model], timeouts: {first_byte: 0.8}}}\n"
    async with running_gateway(tmp_path_factory.mktemp("gateway"), config=config) as gateway:
        yield gateway


@pytest.fixture(scope="module")
async def client(gateway) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{gateway.base_url}/v1", api_key="sk-of-the-client", max_retries=0) as client:
        yield client


def ask(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


async def test_create(client, upstream, text):
    miss = await client.chat.completions.create(model=MODEL, messages=ask(text))
    hit = await client.chat.completions.create(model=MODEL, messages=ask(text))
    assert miss.choices == hit.choices
    assert miss.usage == hit.usage
    assert miss.usage.total_tokens > 0
    assert miss.id != hit.id
    assert hit._request_id.startswith("req_")  # noqa: SLF001 - its documented name
    assert upstream.count == 1


async def test_create_without_v1(gateway, upstream, text):
    async with AsyncOpenAI(base_url=gateway.base_url, api_key="sk-of-the-client", max_retries=0) as client:
        answer = await client.chat.completions.create(model=MODEL, messages=ask(text))
        assert answer.choices[0].finish_reason == "stop"
        assert (await client.models.retrieve("demo")).id == "demo"


async def test_stream(client, upstream, text):
    said, usages = [], []
    for _ in range(2):
        stream = await client.chat.completions.create(
            model=MODEL, messages=ask(text), stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        said.append("".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices))
        usages.append([chunk.usage for chunk in chunks if chunk.usage])
    assert said[0] == said[1]
    assert said[0].startswith("mock answer")
    assert usages[0] == usages[1]
    assert len(usages[0]) == 1
    assert upstream.count == 1


@pytest.mark.parametrize("fault", ["", "split_utf8"])
async def test_stream_helper(client, upstream, text, fault):
    upstream.script(fault)
    finals = []
    for _ in range(2):
        async with client.chat.completions.stream(model=MODEL, messages=ask(text)) as stream:
            events = [event.type async for event in stream]
            finals.append((await stream.get_final_completion()).choices[0].message.content)
        assert {"chunk", "content.delta", "content.done"} <= set(events)
    assert finals[0] == finals[1]
    assert upstream.count == 1


@pytest.mark.parametrize("streamed_first", [False, True])
async def test_tools(client, upstream, text, streamed_first):
    async def whole():
        answer = await client.chat.completions.create(model=MODEL, messages=ask(text), tools=[TOOL], tool_choice="required")
        return answer.choices[0]

    async def streamed():
        async with client.chat.completions.stream(
            model=MODEL, messages=ask(text), tools=[TOOL], tool_choice="required"
        ) as stream:
            return (await stream.get_final_completion()).choices[0]

    first, second = (streamed, whole) if streamed_first else (whole, streamed)
    calls = []
    for asking in (first, second, first):
        choice = await asking()
        assert choice.finish_reason == "tool_calls"
        (call,) = choice.message.tool_calls
        calls.append((call.id, call.function.name, call.function.arguments))
    assert len(set(calls)) == 1
    assert calls[0][1] == "look_up"
    assert upstream.count == 1


async def test_tool_results_go_back(client, upstream, text):
    first = await client.chat.completions.create(model=MODEL, messages=ask(text), tools=[TOOL], tool_choice="required")
    message = first.choices[0].message
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "2,850 km"}
    again = [*ask(text), message, result]
    answer = await client.chat.completions.create(model=MODEL, messages=again, tools=[TOOL])
    assert answer.choices[0].finish_reason == "stop"
    assert upstream.calls[-1].body["messages"][2] == result


async def test_parse(client, upstream, text):
    towns = []
    for _ in range(2):
        answer = await client.chat.completions.parse(model=MODEL, messages=ask(text), response_format=Town)
        towns.append(answer.choices[0].message.parsed)
    assert isinstance(towns[0], Town)
    assert towns[0] == towns[1]
    assert upstream.count == 1
    assert upstream.calls[0].body["response_format"]["json_schema"]["strict"] is True


async def test_with_raw_response(client, upstream, text):
    for expected in ("miss", "exact"):
        raw = await client.chat.completions.with_raw_response.create(
            model=MODEL, messages=ask(text), extra_headers={"x-request-id": "id-of-mine", "x-cache-tags": "sdk"}
        )
        assert raw.headers["x-cache"] == expected
        assert raw.headers["cache-status"].startswith("sentinel-")
        assert raw.request_id == "id-of-mine"
        assert raw.parse().choices[0].message.content.startswith("mock answer")


async def test_with_streaming_response(client, upstream, text):
    for expected in ("miss", "exact"):
        async with client.chat.completions.with_streaming_response.create(model=MODEL, messages=ask(text), stream=True) as raw:
            assert raw.headers["x-cache"] == expected
            lines = [line async for line in raw.iter_lines()]
            assert [line for line in lines if line][-1] == "data: [DONE]"


async def test_extra_body_reaches_the_provider(client, upstream, text):
    await client.chat.completions.create(model=MODEL, messages=ask(text), extra_body={"top_k": 40, "guided": {"a": [1]}})
    assert upstream.calls[0].body["top_k"] == 40
    assert upstream.calls[0].body["guided"] == {"a": [1]}


async def test_models(client):
    names = [model.id async for model in client.models.list()]
    assert "mock/mock-model" in names
    assert (await client.models.retrieve("mock/mock-model")).owned_by == "mock"


@pytest.mark.parametrize(
    ("fault", "kind", "status", "code"),
    [
        ("err=400", openai.BadRequestError, 400, "upstream_refused"),
        ("err=404", openai.NotFoundError, 404, "upstream_refused"),
        ("err=409", openai.ConflictError, 409, "upstream_refused"),
        ("err=422", openai.UnprocessableEntityError, 422, "upstream_refused"),
        ("err=429;retry_after=3", openai.RateLimitError, 429, "rate_limit_exceeded"),
        ("err=401", openai.InternalServerError, 502, "upstream_unauthorized"),
        ("err=500", openai.InternalServerError, 502, "upstream_error"),
        ("bad_json", openai.InternalServerError, 502, "upstream_error"),
        ("latency_ms=60000", openai.InternalServerError, 504, "upstream_timeout"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_error_classes(client, upstream, text, stream, fault, kind, status, code):
    upstream.script(fault)
    model = "hurried" if status == 504 else MODEL
    with pytest.raises(openai.APIStatusError) as caught:
        await client.chat.completions.create(model=model, messages=ask(text), stream=stream)
    assert type(caught.value) is kind
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert caught.value.request_id.startswith("req_")
    assert upstream.count == 1


async def test_errors_of_our_own(client, text):
    with pytest.raises(openai.BadRequestError) as bad:
        await client.chat.completions.create(model=MODEL, messages=[])
    assert (bad.value.param, bad.value.code) == ("messages", "invalid_value")
    with pytest.raises(openai.BadRequestError) as bad_header:
        await client.chat.completions.create(model=MODEL, messages=ask(text), extra_headers={"x-cache-ttl": "soon"})
    assert (bad_header.value.param, bad_header.value.code) == ("x-cache-ttl", "invalid_header")
    with pytest.raises(openai.NotFoundError) as unknown:
        await client.chat.completions.create(model="demo/none", messages=ask(text))
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError) as nowhere:
        await client.moderations.create(model=MODEL, input="x")
    assert nowhere.value.code == "unknown_url"


async def test_an_error_in_mid_stream(client, upstream, text):
    upstream.script("cut_after=2")
    stream = await client.chat.completions.create(model=MODEL, messages=ask(text), stream=True)
    said = ""
    with pytest.raises(openai.APIError) as caught:
        async for chunk in stream:
            said += chunk.choices[0].delta.content or ""
    assert said
    assert type(caught.value) is openai.APIError
    assert "cut" in caught.value.message or "broke" in caught.value.message
    assert caught.value.code == "upstream_error"


@pytest.mark.parametrize(("fault", "calls"), [("err=503", 2), ("err=429", 2), ("err=401", 1), ("err=400", 1)])
async def test_the_sdk_tries_again_only_where_it_helps(client, upstream, text, fault, calls):
    """`x-should-retry` and `retry-after-ms` are what it goes by."""
    upstream.script(f"{fault};retry_after=0" if calls == 2 else fault)
    patient = client.with_options(max_retries=1)
    try:
        answer = await patient.chat.completions.create(model=MODEL, messages=ask(text))
        assert answer.choices[0].finish_reason == "stop"
    except openai.APIStatusError:
        assert calls == 1
    assert upstream.count == calls


@undisturbed
async def test_the_client_s_own_timeout(client, upstream, text):
    upstream.reset()
    upstream.script("latency_ms=60000")
    with pytest.raises(openai.APITimeoutError):
        await client.with_options(timeout=1).chat.completions.create(model=MODEL, messages=ask(text))
    await upstream.settle()
    assert upstream.calls[0].closed_by_peer_at is not None


async def test_the_sync_client(gateway, upstream, text):
    def work() -> tuple[str, str]:
        with OpenAI(base_url=f"{gateway.base_url}/v1", api_key="sk-of-the-client", max_retries=0) as client:
            whole = client.chat.completions.create(model=MODEL, messages=ask(text))
            stream = client.chat.completions.create(model=MODEL, messages=ask(text), stream=True)
            return whole.choices[0].message.content, "".join(c.choices[0].delta.content or "" for c in stream if c.choices)

    whole, streamed = await asyncio.to_thread(work)
    assert whole == streamed
    assert upstream.count == 1


async def test_embeddings(client, upstream, text):
    """It asks for base64 unless it is told otherwise, and gives numbers all the same."""
    one, two = text, text + "!"
    miss = await client.embeddings.create(model=MODEL, input=[one, two])
    hit = await client.embeddings.create(model=MODEL, input=[two, one])
    assert [call.body["encoding_format"] for call in upstream.calls] == ["base64"]
    assert [item.embedding for item in hit.data] == [item.embedding for item in miss.data][::-1]
    assert [item.index for item in hit.data] == [0, 1]
    assert (hit.usage, hit.model) == (miss.usage, miss.model)
    assert miss.usage.total_tokens > 0
    numbers = await client.embeddings.create(model=MODEL, input=one, encoding_format="float")
    assert numbers.data[0].embedding == miss.data[0].embedding
    ids = await client.embeddings.create(model=MODEL, input=[[1, len(text)], [2]], dimensions=3)
    assert [len(item.embedding) for item in ids.data] == [3, 3]
    with pytest.raises(openai.BadRequestError, match="empty item"):
        await client.embeddings.create(model=MODEL, input="")


async def test_completions(client, upstream, text):
    miss, hit = [await client.completions.create(model=MODEL, prompt=text, max_tokens=50) for _ in range(2)]
    assert text in miss.choices[0].text
    assert (miss.choices, miss.usage) == (hit.choices, hit.usage)
    stream = await client.completions.create(model=MODEL, prompt=text, max_tokens=50, stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == miss.choices[0].text
    assert upstream.count == 1
    with pytest.raises(openai.BadRequestError, match="suffix"):
        await client.completions.create(model=MODEL, prompt=text, suffix=".")


async def test_responses(client, upstream, text):
    miss, hit = [await client.responses.create(model=MODEL, input=text, instructions="Be brief.") for _ in range(2)]
    assert text[:40] in miss.output_text
    assert (miss.output_text, miss.usage, miss.status) == (hit.output_text, hit.usage, "completed")
    said, last = [], None
    async with client.responses.stream(model=MODEL, input=text, instructions="Be brief.") as stream:
        async for event in stream:
            said += [event.delta] if event.type == "response.output_text.delta" else []
            last = event
        whole = await stream.get_final_response()
    assert "".join(said) == miss.output_text == whole.output_text
    assert last.type == "response.completed"
    assert upstream.count == 1


async def test_a_live_response(client, upstream, text):
    upstream.script("chunk_ms=2")
    stream = await client.responses.create(model=MODEL, input=text, stream=True)
    kinds = [event.type async for event in stream]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    upstream.script("cut_after=2")
    with pytest.raises(openai.APIError, match="cut before its end"):
        async for _ in await client.responses.create(model=MODEL, input=text + "!", stream=True):
            pass


async def test_a_response_that_calls_and_one_with_a_structure(client, upstream, text):
    tool = {"type": "function", **TOOL["function"], "strict": False}
    upstream.script("use_tools")
    first = await client.responses.create(model=MODEL, input=text, tools=[tool])
    (call,) = first.output
    heard = {"type": "function_call_output", "call_id": call.call_id, "output": "2,850 km"}
    second = await client.responses.create(model=MODEL, input=[{"role": "user", "content": text}, call, heard], tools=[tool])
    assert second.output_text
    town = await client.responses.parse(model=MODEL, input=text, text_format=Town)
    assert isinstance(town.output_parsed, Town)
    with pytest.raises(openai.BadRequestError, match="no response is kept here"):
        await client.responses.create(model=MODEL, input=text, previous_response_id=first.id)
