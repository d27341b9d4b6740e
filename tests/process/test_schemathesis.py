"""Whatever the OpenAPI document allows, and much that it does not, is answered: no request makes a fault of the gateway."""

import copy
import json
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode

ADMIN_KEY = "sk-sn-admin-of-the-tests"
PLACE_OF_THE_PROVIDER = {"cache_miss", "upstream_error", "upstream_timeout", "server_is_overloaded", "not_installed"}
"""Errors above 500 that are none of the gateway's."""
MODELS = ["demo", "demo", "nowhere/none"]
RUNS = [pytest.param(5, id="some"), pytest.param(300, id="many", marks=pytest.mark.long)]


def with_models(document: dict[str, Any]) -> dict[str, Any]:
    """The document, with models that answer: any other name is a 404, and all behind it would be left out."""
    document = copy.deepcopy(document)
    for item in document["paths"].values():
        for operation in item.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                properties = content["schema"].get("properties", {})
                if operation.get("tags") == ["models"] and "model" in properties:
                    properties["model"] = {"enum": MODELS}
    return document


@pytest.mark.hypothesis
@pytest.mark.parametrize("examples", RUNS)
def test_no_request_is_a_fault_of_ours(serve, examples):
    program = serve(SENTINEL_ADMIN_KEY=ADMIN_KEY, LOG_LEVEL="warn", SENTINEL_CACHE__SEMANTIC__ENABLED="false")
    key = {"authorization": f"Bearer {ADMIN_KEY}"}
    document = program.request("GET", "/openapi.json", **key).json
    schema = schemathesis.openapi.from_dict(with_models(document))
    schema.config.base_url = program.base_url
    asked: dict[str, set[int]] = {}
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.method == "head":  # as its GET, without the body
            continue
        modes = list(GenerationMode) if operation.body or list(operation.iter_parameters()) else [GenerationMode.POSITIVE]
        for mode in modes:
            fuzz(operation, mode, examples, key, asked)
    assert {path for path, _ in asked} == set(document["paths"])
    answered = {path for (path, _), statuses in asked.items() if any(200 <= status < 300 for status in statuses)}
    assert {"/v1/chat/completions", "/v1/messages", "/v1/query", "/admin/keys", "/metrics"} <= answered
    refused = {path for (path, _), statuses in asked.items() if 400 in statuses}
    assert {"/v1/chat/completions", "/v1/feedback", "/admin/cache/clear"} <= refused
    assert program.process.poll() is None
    program.stop()
    assert "internal_error" not in program.lines.read_text()
    assert "Traceback" not in program.errors.read_text()


def fuzz(operation: Any, mode: GenerationMode, examples: int, key: dict[str, str], asked: dict[Any, set[int]]) -> None:
    statuses = asked.setdefault((operation.path, mode), set())

    @hypothesis.settings(max_examples=examples)
    @hypothesis.given(operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        answer = case.call(headers=key, timeout=60)
        statuses.add(answer.status_code)
        if answer.status_code >= 500 and not allowed(answer.content):
            pytest.fail(f"{case.method} {case.formatted_path} {case.body!r}: {answer.status_code} {answer.content[:300]!r}")

    check()


def allowed(body: bytes) -> bool:
    error = json.loads(body)
    inner = error["error"] if isinstance(error.get("error"), dict) else error
    return (inner.get("code") or inner.get("type")) in PLACE_OF_THE_PROVIDER
