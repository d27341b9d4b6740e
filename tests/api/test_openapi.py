"""`/openapi.json` tells of every route that there is, in schemas that are valid, and only to those who may read."""

from typing import Any

import jsonschema_rs
import pytest
from fastapi import APIRouter

from sentinel_gateway.api.openapi import Documentation
from tests.gateway import ADMIN_KEY, chat, one_provider, running_gateway

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def gateway(chaos, tmp_path_factory):
    async with running_gateway(tmp_path_factory.mktemp("documented"), config=one_provider(chaos.base_url)) as running:
        yield running


@pytest.fixture(scope="module")
async def document(gateway) -> dict[str, Any]:
    answer = await gateway.get("/openapi.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    return answer.json


async def test_openapi_lists_every_route(gateway, document):
    listed = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    models = {(method, path) for method in ("GET", "HEAD") for path in ("/v1/models", "/v1/models/{model}")}
    assert gateway.managed() | gateway.posts() | models | {("POST", "/v1/query")} == listed


async def test_what_is_listed_is_there(gateway, document):
    for path, item in document["paths"].items():
        for method in item:
            answer = await gateway.request(method.upper(), path.replace("{id}", "key_0123456789abcdef"), headers=gateway.admin)
            assert answer.status != 405, (method, path)
            if answer.status == 404 and method != "head":
                assert "Unknown path" not in answer.body.decode(), (method, path)


async def test_schemas_are_valid_and_references_lead_somewhere(document):
    for item in document["paths"].values():
        for operation in item.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                whole = content["schema"] | {"components": document["components"]}
                jsonschema_rs.validator_for(whole)
                if "messages" in content["schema"].get("required", []) and "max_tokens" not in content["schema"]["required"]:
                    jsonschema_rs.validate(whole, chat("Hello"))
    ids = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(ids) == len(set(ids))


async def test_public_is_what_is_public(document):
    public = {path for path, item in document["paths"].items() if item.get("get", {}).get("security") == []}
    assert public == {"/livez", "/healthz", "/ready", "/readyz", "/health"}


async def test_it_is_for_readers(gateway, tmp_path):
    async with running_gateway(tmp_path, config="keys: {required: true}\n", alone=False) as closed:
        assert (await closed.get("/openapi.json")).status == 401
        for scope, status in (("read", 200), ("inference", 403)):
            key = await closed.key(scopes=[scope])
            assert (await closed.get("/openapi.json", headers={"authorization": f"Bearer {key}"})).status == status
        assert (await closed.get("/openapi.json", headers={"x-api-key": ADMIN_KEY})).status == 200


def test_an_endpoint_without_a_schema_is_not_built():
    with pytest.raises(TypeError, match="these endpoints have no schema: /v1/new"):
        Documentation([APIRouter()], ["/v1/chat/completions", "/v1/new"], guard=None)
