"""Bedrock's two ways to ask, over a real connection: signed, and with a key; and what its paths may hold."""

import pytest

from sentinel_gateway.errors import UpstreamLimited, UpstreamRefused
from sentinel_gateway.ports import UpstreamCall
from sentinel_gateway.providers._provider import ProviderConfig
from sentinel_gateway.providers._sigv4 import Credentials, Scope, Signable, sign
from sentinel_gateway.providers._translated import TranslatedProvider
from sentinel_gateway.providers.bedrock import Bedrock, Signer
from tests.native import BedrockVoice, Fault, NativeUpstream, event_message

pytestmark = pytest.mark.anyio

NOW = 1_700_000_000.0
CREDENTIALS = Credentials("AKIDEXAMPLE", "a-secret", "a-token")
FIELDS = {"messages": [{"role": "user", "content": "Where does the Danube rise?"}]}


@pytest.fixture
def bedrock(http):
    def make(upstream, *, signed=True, **settings):
        config = ProviderConfig("bedrock", upstream.base_url, **settings)
        signer = Signer(CREDENTIALS, "eu-west-1", lambda: NOW) if signed else None
        return TranslatedProvider(config, Bedrock(config, signer), http)

    return make


def call(model):
    return UpstreamCall(FIELDS, model, "sentinel-1")


@pytest.mark.parametrize(
    ("model", "part"),
    [
        ("amazon.nova-lite-v1:0", "amazon.nova-lite-v1%3A0"),
        ("arn:aws:bedrock:eu-west-1:1:inference-profile/eu.x", "arn%3Aaws%3Abedrock%3Aeu-west-1%3A1%3Ainference-profile%2Feu.x"),
    ],
)
async def test_a_request_is_signed_as_it_arrives(bedrock, model, part):
    async with NativeUpstream(BedrockVoice()) as upstream:
        await bedrock(upstream).complete(call(model))
        [asked] = upstream.calls
    assert asked.target == f"/model/{part}/converse"
    request = Signable("POST", asked.target, {"host": asked.headers["host"]}, asked.raw)
    expected = sign(request, CREDENTIALS, Scope("eu-west-1", "bedrock"), now=NOW)
    assert {name: asked.headers[name] for name in expected} == expected
    assert asked.headers["x-amz-security-token"] == "a-token"


async def test_a_key_goes_as_it_is(bedrock):
    async with NativeUpstream(BedrockVoice()) as upstream:
        provider = bedrock(upstream, signed=False, headers={"authorization": "Bearer bedrock-api-key"})
        async with await provider.open_stream(call("amazon.nova-lite-v1:0")) as stream:
            assert [chunk async for batch in stream for chunk in batch]
            assert stream.finished
        [asked] = upstream.calls
    assert asked.headers["authorization"] == "Bearer bedrock-api-key"
    assert asked.headers["accept"] == "application/vnd.amazon.eventstream"
    assert "x-amz-date" not in asked.headers


@pytest.mark.parametrize("model", ["", ".", "..", "../x", "a b", "a?b", "a#b", "a%2Fb", "\u00fc"])
async def test_no_name_of_a_model_leads_elsewhere(bedrock, model):
    async with NativeUpstream(BedrockVoice()) as upstream:
        with pytest.raises(UpstreamRefused, match="id or ARN") as caught:
            await bedrock(upstream).complete(call(model))
        assert upstream.calls == []
    assert caught.value.param == "model"


async def test_an_exception_within_a_stream(bedrock):
    async with NativeUpstream(BedrockVoice()) as upstream:
        throttled = event_message("throttlingException", {"message": "Too many tokens"}, kind="exception")
        upstream.script(Fault(cuts=2, says=throttled))
        async with await bedrock(upstream).open_stream(call("amazon.nova-lite-v1:0")) as stream:
            with pytest.raises(UpstreamLimited):
                async for batch in stream:
                    assert batch
        assert not stream.finished


def test_models_are_listed_by_the_other_host():
    config = ProviderConfig("bedrock", "https://bedrock-runtime.eu-west-1.amazonaws.com")
    listing = Bedrock(config, Signer(CREDENTIALS, "eu-west-1", lambda: NOW)).listing()
    assert (listing.host, listing.target) == ("bedrock.eu-west-1.amazonaws.com", "/foundation-models")
    assert "authorization" in listing.headers


@pytest.mark.parametrize("fields", [None, [], {}, {"modelSummaries": None}, {"modelSummaries": [None, {}, {"modelId": 7}]}])
def test_a_list_that_is_none(fields):
    assert Bedrock(ProviderConfig("bedrock", "http://x"), None).models(fields) == frozenset()
