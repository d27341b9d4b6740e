"""`/openapi.json` tells of every route that there is, in schemas that are valid, and only to those who may read."""

import asyncio
import threading
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from fastapi import APIRouter

from sentinel_gateway.api import reference
from sentinel_gateway.api.openapi import Documentation
from tests.gateway import ADMIN_KEY, chat, one_provider, running_gateway, until

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
    own = {("POST", "/v1/query"), ("POST", "/v1/query/batch"), ("POST", "/v1/predict")}
    assert gateway.managed() | gateway.posts() | models | own == listed


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
    probes = {"/livez", "/healthz", "/ready", "/readyz", "/health"}
    assert public == probes | {"/dashboard/sign-in", "/dashboard/static/{name}"}


async def test_what_an_operation_needs_is_what_is_asked_for(document, tmp_path):
    """By a key of each scope: an operation that names another role refuses it, and one that names its own doesn't."""
    refused = {"/admin/stats": "admin-key", "/admin/keys": "admin", "/costs": "read", "/v1/models": "inference"}
    async with running_gateway(tmp_path, config="keys: {required: true}\n", alone=False) as closed:
        for scope in ("read", "inference", "admin"):
            key = {"authorization": f"Bearer {await closed.key(scopes=[scope])}"}
            for path, role in refused.items():
                [way, _] = document["paths"][path]["get"]["security"]
                assert way == {"bearer": [role]}
                assert ((await closed.get(path, headers=key)).status == 403) == (scope != role), (scope, path)


async def test_it_is_for_readers(gateway, tmp_path):
    async with running_gateway(tmp_path, config="keys: {required: true}\n", alone=False) as closed:
        keys = {scope: await closed.key(scopes=[scope]) for scope in ("read", "inference")}
        for path in ("/openapi.json", "/docs"):
            assert (await closed.get(path)).status == 401
            for scope, status in (("read", 200), ("inference", 403)):
                assert (await closed.get(path, headers={"authorization": f"Bearer {keys[scope]}"})).status == status
            assert (await closed.get(path, headers={"x-api-key": ADMIN_KEY})).status == 200


class Page(HTMLParser):
    """What a browser would make of it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.summaries: list[str] = []
        self.styles: list[str] = []
        self._within = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in {"summary", "style"}:
            self._within = tag
            self.summaries += [""] * (tag == "summary")

    def handle_endtag(self, tag):
        if tag == self._within:
            self._within = ""

    def handle_data(self, data):
        if self._within == "summary":
            self.summaries[-1] += data
        elif self._within == "style":
            self.styles.append(data)


@pytest.fixture(scope="module")
async def page(gateway) -> Page:
    return Page((await gateway.get("/docs")).body.decode())


async def test_the_page_has_every_operation_with_what_it_needs_and_every_schema(document, page):
    plain = [one.replace("GET, HEAD", "GET").split(" ", 2) for one in page.summaries]
    told = {(method, path) for method, path, _ in plain}
    assert told == {(method.upper(), path) for path, item in document["paths"].items() for method in item if method != "head"}
    needs = {(method, path): rest for method, path, rest in plain}
    for asked, words in {
        ("GET", "/livez"): "open to anybody",
        ("GET", "/costs"): "scope read",
        ("POST", "/v1/chat/completions"): "scope inference",
        ("POST", "/admin/keys"): "scope admin",
        ("POST", "/admin/reload"): "the admin key",
    }.items():
        assert needs[asked].startswith(words)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {f"schema-{name}" for name in document["components"]["schemas"]} <= set(ids)
    links = {attributes["href"] for tag, attributes in page.tags if tag == "a"}
    assert links - {f"#{one}" for one in ids} == {"/openapi.json"}


async def test_the_page_runs_nothing_fetches_nothing_and_styles_itself_alone(gateway, page):
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "img", "iframe", "object", "form", "base"})
    names = {name for _, attributes in page.tags for name in attributes}
    assert names <= {"lang", "charset", "name", "content", "id", "href", "class", "tabindex", "scope"}
    answer = await gateway.get("/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    [style] = page.styles
    assert policy == {
        "default-src": "'none'",
        "style-src": f"'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert answer.headers["x-content-type-options"] == "nosniff"
    head = await gateway.request("HEAD", "/docs")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == answer.headers["content-length"]


def test_the_page_shows_what_a_schema_says_and_makes_no_markup_of_it():
    schema = {
        "type": "object",
        "required": ["kind"],
        "properties": {
            "kind": {"enum": ["<b>", "x"], "description": "Not `<script>`."},
            "parts": {"type": "array", "items": {"anyOf": [{"$ref": "#/components/schemas/Part"}, {"type": "null"}]}},
            "nested": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1, "default": 2}}},
        },
    }
    shown = reference.page(
        {"info": {"title": "a<b", "version": "1"}, "paths": {}, "components": {"schemas": {"Part": {}, "Whole": schema}}}
    )
    assert "<title>a&lt;b 1</title>" in shown
    assert "<code>kind</code><td><code>&quot;&lt;b&gt;&quot;</code> or <code>&quot;x&quot;</code><td>yes<td>" in shown
    assert "Not <code>&lt;script&gt;</code>." in shown
    assert '<code>parts</code><td>list of <a href="#schema-Part">Part</a> or null<td><td>' in shown
    assert "<code>nested.n</code><td>integer<td><td><i>default 2, minimum 1</i>" in shown


async def test_the_event_loop_does_not_build_it_and_it_is_built_once():
    began, may_end = [], threading.Event()

    class Building(Documentation):
        def document(self) -> dict[str, Any]:
            began.append(threading.current_thread())
            assert may_end.wait(10)
            return {"info": {"title": "Sentinel", "version": str(len(began))}, "paths": {}, "components": {"schemas": {}}}

    documentation = Building([], [], guard=None)
    asking = [asyncio.create_task(ask()) for ask in (documentation.show, documentation.read)]
    await until(lambda: began)
    may_end.set()
    shown, read = await asyncio.gather(*asking)
    assert msgspec.json.decode(shown.body)["info"]["version"] == "1"
    assert "<title>Sentinel 1</title>" in read.body.decode()
    assert [thread is threading.main_thread() for thread in began] == [False]


def test_an_endpoint_without_a_schema_is_not_built():
    with pytest.raises(TypeError, match="these endpoints have no schema: /v1/new"):
        Documentation([APIRouter()], ["/v1/chat/completions", "/v1/new"], guard=None)
