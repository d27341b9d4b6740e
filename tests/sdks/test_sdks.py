"""What users of each client rely on. `make test-sdks` runs it; the programs beside it are the clients' side.

The upstream's call log and the gateway's own count say what happened, so that it shows where a client doesn't.
"""

import ast
import re
import time
from typing import NamedTuple

import pytest

from tests.sdks.conftest import CLIENTS, HERE, Raised

pytestmark = pytest.mark.sdks

QUESTION = "Wie lang ist die Donau? Grüße, 漢字, 🙂"
TOWN = {"name": str, "people": int}

LACKS = {
    ("dspy", "leave"): "nothing closes the stream of a program that is left",
    ("dspy", "demo"): "asks for structure only from models that it knows",
    ("instructor", "leave"): "keeps the connection of a stream that is left until it is collected",
    ("instructor", "tools"): "runs no tools; its structured answers are tool calls",
    ("llama-index", "leave"): "keeps the connection of a stream that is left until it is collected",
    ("llm", "hurry"): "has no setting for time",
    **{
        (client, "models"): "does not list models"
        for client in (
            *("dspy", "instructor", "langchain-js", "langchain-python", "llama-index", "llm", "pydantic-ai"),
            *("vercel-ai", "vercel-ai-anthropic", "vercel-ai-openai"),
        )
    },
}
"""What a client can't do, or doesn't, and why."""


class Errors(NamedTuple):
    """The class of each error, as its client names it."""

    bad_request: str
    unknown_model: str
    rate_limit: str
    timeout: str
    cut: str


OPENAI = Errors(
    "openai.BadRequestError", "openai.NotFoundError", "openai.RateLimitError", "openai.APITimeoutError", "openai.APIError"
)
ERRORS = {
    "anthropic-js": Errors("BadRequestError", "NotFoundError", "RateLimitError", "APIConnectionTimeoutError", "APIError"),
    "anthropic-python": Errors(
        "anthropic.BadRequestError",
        "anthropic.NotFoundError",
        "anthropic.RateLimitError",
        "anthropic.APITimeoutError",
        "anthropic.APIStatusError",
    ),
    "dspy": Errors(
        "dspy.LMInvalidRequestError",
        "dspy.LMUnsupportedModelError",
        "dspy.LMRateLimitError",
        "dspy.LMTransportError",
        "dspy.LMProviderError",
    ),
    "instructor": OPENAI._replace(
        rate_limit="instructor.InstructorRetryException", timeout="instructor.InstructorRetryException"
    ),
    "langchain-js": Errors("BadRequestError", "NotFoundError", "RateLimitError", "TimeoutError", "APIError"),
    "langchain-python": Errors(
        "langchain_openai.OpenAIInvalidRequestError",
        "langchain_openai.OpenAIModelNotFoundError",
        "langchain_openai.OpenAIRateLimitError",
        "langchain_openai.OpenAITimeoutError",
        "openai.APIError",
    ),
    "llama-index": OPENAI,
    "llm": Errors(*["program.Failed"] * 5),
    "openai-js": Errors("BadRequestError", "NotFoundError", "RateLimitError", "APIConnectionTimeoutError", "APIError"),
    "openai-python": OPENAI,
    "pydantic-ai": Errors(
        "pydantic_ai.ModelRequestRejectedError",
        "pydantic_ai.ModelNotFoundError",
        "pydantic_ai.ModelRateLimitError",
        "pydantic_ai.ModelTimeoutError",
        "pydantic_ai.ModelAPIError",
    ),
    "vercel-ai": Errors(*["AI_APICallError"] * 3, "TimeoutError", "AI_StreamProviderError"),
    "vercel-ai-anthropic": Errors(*["AI_APICallError"] * 3, "TimeoutError", "AI_StreamProviderError"),
    "vercel-ai-openai": Errors(*["AI_APICallError"] * 3, "TimeoutError", "AI_StreamProviderError"),
}


OPENAI_S_OWN = ["openai-python", "openai-js"]
"""The clients that speak OpenAI's other endpoints here."""


STREAMS_TOOLS = [
    *((client, "stream_tools") for client in ("anthropic-js", "anthropic-python", "openai-js", "openai-python")),
    *((client, "stream_tools") for client in ("vercel-ai", "vercel-ai-anthropic", "vercel-ai-openai")),
    *((client, "response_tools") for client in OPENAI_S_OWN),
]
"""Each client's own way to stream calls of tools, through each face."""


def those_that(function: str, *, but: str = "") -> pytest.MarkDecorator:
    """Run the test with each client whose program has this function."""
    able = [client for client in CLIENTS if (client, function) not in LACKS and client != but]
    return pytest.mark.parametrize("sdk", able, indirect=True)


def fails(sdk, what: str, *, model: str = "gpt-4o-mini") -> Raised:
    with pytest.raises(Raised) as caught:
        sdk.do(what, QUESTION, model=model)
    return caught.value


@pytest.mark.parametrize("client", CLIENTS)
def test_the_programs_are_complete(client):
    """What is not tested stands in LACKS."""
    (program,) = (HERE / client).glob("program.*")
    text = program.read_text()
    if program.suffix == ".py":
        nodes = ast.parse(text).body
        functions = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    else:
        functions = set(re.findall(r"^export (?:async )?function (\w+)", text, re.MULTILINE))
    all_of_them = {"whole", "stream", "tools", "structured", "hurry", "leave", "models"}
    assert functions & all_of_them == {name for name in all_of_them if (client, name) not in LACKS}


@those_that("whole")
def test_the_same_again_is_a_hit(sdk, upstream, gateway):
    before = gateway.hits
    first, second = sdk.do("whole", QUESTION), sdk.do("whole", QUESTION)
    assert first["text"].startswith("mock answer")
    assert QUESTION in first["text"]
    assert (first["text"], first["tokens"]) == (second["text"], second["tokens"])
    assert first["tokens"] > 0
    assert [answer["cache"] for answer in (first, second) if "cache" in answer] in ([], ["miss", "exact"])
    assert upstream.count == 1
    assert gateway.hits == before + 1


@those_that("whole")
def test_the_demo_answers(sdk, upstream):
    answer = sdk.do("whole", QUESTION, model="demo")
    assert answer["text"].startswith(f"You asked: {QUESTION}")
    assert answer["tokens"] > 0
    assert upstream.count == 0


@those_that("stream", but="dspy")
def test_a_stream_says_what_the_whole_answer_says(sdk, upstream):
    upstream.script("chunk_ms=20")
    streamed, whole, again = sdk.do("stream", QUESTION), sdk.do("whole", QUESTION), sdk.do("stream", QUESTION)
    assert len(streamed["pieces"]) > 1
    assert "".join(streamed["pieces"]) == "".join(again["pieces"]) == whole["text"]
    assert [stream["tokens"] for stream in (streamed, again) if "tokens" in stream] in ([], [whole["tokens"]] * 2)
    assert upstream.count == 1


@pytest.mark.parametrize("sdk", ["dspy"], indirect=True)
def test_a_field_is_streamed(sdk, upstream):
    """DSPy streams fields of a program's answer instead of a model's answer."""
    upstream.script("chunk_ms=20")
    streamed, again = sdk.do("stream", QUESTION), sdk.do("stream", QUESTION)
    assert len(streamed["pieces"]) > 1
    assert "".join(streamed["pieces"]).strip('"') == streamed["text"] == again["text"]
    assert upstream.count == 1


@those_that("stream", but="dspy")
def test_characters_may_be_torn(sdk, upstream):
    upstream.script("split_utf8")
    streamed = "".join(sdk.do("stream", QUESTION)["pieces"])
    assert "Grüße, 漢字 und 🙂🙃" in streamed or "Grüße, 漢字, 🙂" in streamed
    assert streamed == sdk.do("whole", QUESTION)["text"]
    assert upstream.calls[0]["fault"] == "split_utf8"
    assert upstream.count == 1


@those_that("tools")
def test_tools_are_called(sdk, upstream):
    upstream.script("use_tools", times=2)
    first = sdk.do("tools", QUESTION)
    calls = upstream.calls
    assert len(first["called"]) == 1
    assert re.search("river.*mock", str(first["called"][0]))
    if first["text"] is not None:
        result = calls[1]["body"]["messages"][-1]
        assert (result["role"], result["content"]) == ("tool", "2,850 km")
        assert first["text"].startswith("mock answer")
    assert sdk.do("tools", QUESTION) == first
    assert upstream.count == len(calls), "the second round is answered from the cache"


@pytest.mark.parametrize(("sdk", "what"), STREAMS_TOOLS, indirect=["sdk"])
def test_tools_are_called_in_a_stream(sdk, upstream, what):
    upstream.script("use_tools;chunk_ms=5", times=2)
    first = sdk.do(what, QUESTION)
    assert len(first["called"]) == 1
    assert re.search("river.*mock", str(first["called"][0]))
    assert len(first["pieces"]) > 1
    assert "".join(first["pieces"]).startswith("mock answer")
    calls = upstream.calls
    assert [call["body"]["stream"] for call in calls] == [True, True]
    result = calls[1]["body"]["messages"][-1]
    assert (result["role"], result["content"]) == ("tool", "2,850 km")
    again = sdk.do(what, QUESTION)
    assert (again["called"], "".join(again["pieces"])) == (first["called"], "".join(first["pieces"]))
    assert upstream.count == 2, "both rounds are answered from the cache"


@those_that("structured")
def test_an_answer_has_a_structure(sdk, upstream):
    town = sdk.do("structured", QUESTION)
    assert {name: type(value) for name, value in town.items()} == TOWN
    assert town["name"].startswith("mock")
    assert sdk.do("structured", QUESTION) == town
    assert upstream.count == 1


@those_that("demo")
def test_the_demo_has_a_structure(sdk):
    town = sdk.do("structured", QUESTION, model="demo")
    assert {name: type(value) for name, value in town.items()} == TOWN


@those_that("whole")
def test_a_bad_request_is_told(sdk, upstream):
    upstream.script("err=400")
    error = fails(sdk, "whole")
    assert error.kinds[0] == ERRORS[sdk.name].bad_request
    assert "mock error 400" in error.message
    assert upstream.count == 1


@those_that("whole")
def test_an_unknown_model_is_told(sdk):
    error = fails(sdk, "whole", model="demo/none")
    assert error.kinds[0] == ERRORS[sdk.name].unknown_model
    assert "the demo serves only" in error.message


@those_that("hurry")
def test_a_rate_limit_is_told(sdk, upstream):
    upstream.script("err=429;retry_after=1")
    assert fails(sdk, "hurry").kinds[0] == ERRORS[sdk.name].rate_limit
    assert upstream.count == 1


@those_that("whole")
def test_it_asks_again_after_a_rate_limit(sdk, upstream):
    upstream.script("err=429;retry_after=1")
    start = time.monotonic()
    answer = sdk.do("whole", QUESTION)
    waited = time.monotonic() - start
    assert answer["text"].startswith("mock answer")
    assert [call["status"] for call in upstream.calls] == [429, 200]
    assert waited >= 1


@those_that("hurry")
def test_it_waits_no_longer_than_it_was_told(sdk, upstream):
    upstream.script("latency_ms=20000")
    assert fails(sdk, "hurry").kinds[0] == ERRORS[sdk.name].timeout
    assert upstream.count == 1
    assert upstream.hung_up()


@those_that("stream")
def test_a_stream_that_breaks_is_no_answer(sdk, upstream):
    upstream.script("cut_after=2")
    assert fails(sdk, "stream").kinds[0] == ERRORS[sdk.name].cut
    assert upstream.count == 1


@those_that("leave")
def test_a_stream_that_is_left_ends_upstream(sdk, upstream):
    upstream.script("chunk_ms=300")
    assert sdk.do("leave", QUESTION)
    assert upstream.hung_up()


DIALECTS = ("anthropic", "gemini", "bedrock")
FACES = ("anthropic-js", "anthropic-python", "openai-js", "openai-python", "vercel-ai", "vercel-ai-anthropic", "vercel-ai-openai")


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("sdk", FACES, indirect=True)
def test_a_provider_of_another_dialect_answers(sdk, natives, dialect):
    native, question = natives.of(dialect), f"Is it {dialect}, {sdk.name}?"
    before, model = len(native.calls), f"to-{dialect}/{native.voice.model}"
    streamed = sdk.do("stream", question, model=model)
    assert question in "".join(streamed["pieces"])
    assert sdk.do("whole", question, model=model)["text"] == "".join(streamed["pieces"])
    assert len(native.calls) == before + 1


@pytest.mark.parametrize("sdk", ["anthropic-js", "anthropic-python"], indirect=True)
def test_what_a_provider_did_by_itself_is_told(sdk, natives):
    native, question = natives.of("anthropic"), f"Who cites, {sdk.name}?"
    before = len(native.calls)
    answers = sdk.do("searched", question, model=f"to-anthropic/{native.voice.model}")
    for reason, blocks in answers:
        assert reason == "pause_turn"
        assert [{name: block[name] for name in said} for block, said in zip(blocks, native.voice.searched, strict=True)] == (
            native.voice.searched
        )
    assert len(native.calls) == before + 1
    assert native.calls[-1].headers["anthropic-beta"] == "some-beta-2026-01-01"


@pytest.mark.parametrize("sdk", OPENAI_S_OWN, indirect=True)
def test_of_embeddings_only_what_is_not_known_is_asked_for(sdk, upstream):
    """Both ask for base64 unless they are told otherwise, and give numbers."""
    first, second = sdk.do("embeddings", QUESTION, "Inn"), sdk.do("embeddings", "Inn", "Ilz", QUESTION)
    assert [call["body"]["input"] for call in upstream.calls] == [[QUESTION, "Inn"], ["Ilz"]]
    assert {call["body"]["encoding_format"] for call in upstream.calls} == {"base64"}
    assert [second["vectors"][0], second["vectors"][2]] == first["vectors"][::-1]
    assert len(first["vectors"][0]) == 8
    assert second["tokens"] > first["tokens"] > 0


@pytest.mark.parametrize("what", ["completion", "response"])
@pytest.mark.parametrize("sdk", OPENAI_S_OWN, indirect=True)
def test_openai_s_other_endpoints(sdk, upstream, what):
    first, again = sdk.do(what, QUESTION), sdk.do(what, QUESTION)
    assert first["text"].startswith("mock answer")
    assert "".join(first["pieces"]) == again["text"] == first["text"]
    assert first.get("same", True)
    assert first["tokens"] == again["tokens"] > 0
    assert upstream.count == 1


@pytest.mark.parametrize("sdk", OPENAI_S_OWN, indirect=True)
def test_a_response_that_breaks_is_no_answer(sdk, upstream):
    upstream.script("cut_after=2")
    assert fails(sdk, "response_cut").kinds[0] == ERRORS[sdk.name].cut


@those_that("models")
def test_models_are_listed(sdk):
    assert {"mock/mock-model", "demo"} <= set(sdk.do("models"))


@pytest.mark.parametrize("sdk", ["anthropic-js", "anthropic-python"], indirect=True)
def test_tokens_are_counted(sdk, upstream):
    assert sdk.do("count", QUESTION) > 10
    assert upstream.count == 0
