"""docs/openai.md says what a gateway does: its commands are run, in their order."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sentinel_gateway.api.wire.responses_request import NEED_MEMORY, TOO_MUCH
from sentinel_gateway.core.embeddings import MAX_IDS, MAX_ITEMS
from tests.docs.test_idempotency import said
from tests.process.conftest import Program

PAGE = (Path(__file__).parents[2] / "docs" / "openai.md").read_text()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory) -> Iterator[Program]:
    """As it comes, with the demo alone."""
    program = Program(tmp_path_factory.mktemp("gateway"), {})
    yield program
    program.stop()


def section(heading: str) -> str:
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def answers(heading: str, gateway) -> list[tuple[int, str, bytes]]:
    """Status, head and body of what each command of a section is answered."""
    commands = re.findall(r"```sh\n(.*?)```", section(heading), re.DOTALL)
    return [
        said(command.replace("curl http", "curl -i http").replace("http://127.0.0.1:8080", gateway.base_url))
        for command in commands
    ]


def test_embeddings(gateway):
    (first, head, _), (second, told, _) = answers("Embeddings", gateway)
    assert (first, second) == (200, 200)
    assert "x-cache-items: 0/2" in head
    [shown] = re.findall(r"```\n(x-cache.*?)\n```", section("Embeddings"), re.DOTALL)
    assert set(shown.splitlines()) <= set(told.splitlines())


def test_completions(gateway):
    ((status, _, body),) = answers("Completions", gateway)
    [shown] = re.findall(r"```json\n(.*?)\n```", section("Completions"), re.DOTALL)
    told, answer = json.loads(shown), json.loads(body)
    assert status == 200
    assert answer["object"] == told["object"]
    assert told["choices"][0].items() <= answer["choices"][0].items()


def test_what_completions_refuse_is_named(gateway):
    for field, value in {"suffix": ".", "echo": True, "logprobs": 1, "best_of": 2, "prompt": ["a", "b"]}.items():
        assert f"`{field}`" in section("Completions")
        asked = {"model": "demo", "prompt": "Say hello.", field: value}
        assert gateway.request("POST", "/v1/completions", asked).status == 400


def test_responses(gateway):
    ((status, _, body),) = answers("Responses", gateway)
    [shown] = re.findall(r"```json\n(.*?)\n```", section("Responses"), re.DOTALL)
    assert status == 200
    assert json.loads(shown).items() <= json.loads(body).items()


@pytest.mark.parametrize("field", [*NEED_MEMORY, *TOO_MUCH, "truncation", "include"])
def test_what_responses_refuse_is_named(gateway, field):
    assert f"`{field}" in section("Responses")
    value = {"include": ["message.output_text.logprobs"], "top_logprobs": 1, "max_tool_calls": 1, "prompt": {"id": "p"}}
    value |= dict.fromkeys(("store", "background"), True)
    asked = {"model": "demo", "input": "Hi", field: value.get(field, "auto")}
    refused = gateway.request("POST", "/v1/responses", asked)
    assert (refused.status, refused.json["error"]["param"]) == (400, field)


def test_the_figures_are_those_of_the_code():
    assert f"up to {MAX_ITEMS:,} texts" in PAGE
    assert f"up to {MAX_IDS:,} ids" in PAGE
