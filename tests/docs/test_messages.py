"""docs/messages.md says what a gateway does: its commands are run, in their order."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sentinel_gateway.api.wire.anthropic_errors import OVERLOADED, TYPES
from tests.docs.test_idempotency import said
from tests.process.conftest import Program

PAGE = (Path(__file__).parents[2] / "docs" / "messages.md").read_text()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory) -> Iterator[Program]:
    """As it comes, with the demo alone."""
    program = Program(tmp_path_factory.mktemp("gateway"), {})
    yield program
    program.stop()


def test_the_commands_answer_what_the_page_shows(gateway):
    message, _, count = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    shown, error, counted = [json.loads(block) for block in re.findall(r"```json\n(.*?)\n```", PAGE, re.DOTALL)]
    status, head, body = said(message.replace("http://127.0.0.1:8080", gateway.base_url))
    assert status == 200
    assert "request-id: req_" in head
    assert shown.items() <= json.loads(body).items()
    status, _, body = said(message.replace("http://127.0.0.1:8080", gateway.base_url).replace('"max_tokens": 100, ', ""))
    assert (status, json.loads(body)["error"]) == (400, error["error"])
    status, _, body = said(count.replace("http://127.0.0.1:8080", gateway.base_url).replace("curl http", "curl -i http"))
    assert (status, json.loads(body)) == (200, counted)


def test_the_types_of_errors_are_those_of_the_code():
    assert {word for word in re.findall(r"`(\w+)`", PAGE) if word.endswith("_error") or word == "request_too_large"} >= set(
        TYPES.values()
    ) - {"billing_error"}
    assert f"| {OVERLOADED} | `{TYPES[OVERLOADED]}` |" in PAGE
