"""The mock in Anthropic's words, asked by a gateway that has it for a provider of that dialect."""

import json

import pytest

from bench.chaos import ChaosUpstream
from tests.gateway import chat, running_gateway

pytestmark = pytest.mark.anyio

ASKED = chat("Which spade fits a small clay bed?", "claude/mock-model", temperature=0)


@pytest.fixture(scope="module")
async def upstream(anyio_backend):
    async with ChaosUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
async def gateway(upstream, tmp_path_factory):
    told = {"dialect": "anthropic", "base_url": upstream.base_url, "api_key": "k", "models": ["mock-model"]}
    async with running_gateway(tmp_path_factory.mktemp("gateway"), config=json.dumps({"providers": {"claude": told}})) as gateway:
        yield gateway


async def test_whole_and_streamed_say_the_same(gateway, upstream):
    upstream.script("chunks=10;tokens=30", times=2)
    whole = await gateway.ask(ASKED, x_bypass_cache="true")
    streamed = await gateway.ask({**ASKED, "stream": True, "stream_options": {"include_usage": True}}, x_bypass_cache="true")
    assert [call.path for call in upstream.calls] == ["/v1/messages"] * 2
    assert (whole.status, streamed.status) == (200, 200), whole.body
    (choice,) = whole.json["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["content"] == streamed.sse.text() != ""
    assert whole.json["usage"]["completion_tokens"] == streamed.sse.usages[0]["completion_tokens"] == 30
    assert upstream.calls[-1].chunks_sent == 10
    assert streamed.sse.done


@pytest.mark.parametrize("fault", ["cut_after=2", "rst_after=2", "cut_after=0"])
async def test_its_streams_break_off(gateway, upstream, fault):
    upstream.reset()
    upstream.script(f"{fault};chunks=10;tokens=30")
    streamed = await gateway.ask({**ASKED, "stream": True}, x_bypass_cache="true")
    if fault == "cut_after=0":
        assert (streamed.status, streamed.error["code"]) == (502, "upstream_error")
    else:
        assert streamed.sse.error["code"] == "upstream_error"
        assert not streamed.sse.done
    assert upstream.calls[-1].chunks_sent == int(fault[-1])


async def test_what_is_no_request_is_refused(gateway, upstream):
    async with gateway.session.post(f"{upstream.base_url}/messages", data=b"{") as answer:
        assert answer.status == 400
