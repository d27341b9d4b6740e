"""`GET /docs`: the OpenAPI document as a page to read: routes, scopes, parameters, schemas.

A page of our own, made here: Swagger UI and Scalar weigh megabytes and run scripts. This one runs none and fetches nothing.
"""

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from hashlib import sha256
from html import escape
from typing import Any, Final

import msgspec

from sentinel_gateway.api.wire.schemas import Schema

BOUNDS: Final = (
    "default",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "pattern",
)
"""Keywords of JSON Schema that are shown as they are."""
FIRST: Final = "models"
"""The tag that most readers come for."""
STYLE: Final = """
:root{color-scheme:light dark;--dim:#57606a;--rule:#d0d7de;--link:#0550ae}
@media (prefers-color-scheme:dark){:root{--dim:#9198a1;--rule:#30363d;--link:#79c0ff}}
*{box-sizing:border-box}
body{margin:0;font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
main{max-width:72rem;margin:0 auto;padding:1rem}a{color:var(--link)}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem;border-bottom:1px solid var(--rule)}h3,h4{font-size:1rem;margin-bottom:0}
details{border-bottom:1px solid var(--rule)}summary{padding:.4rem 0;cursor:pointer}
summary b{display:inline-block;min-width:4.8rem;font-size:.8rem}
summary i,summary span{color:var(--dim);font-size:.9rem}
summary i{border:1px solid var(--rule);border-radius:.3rem;padding:0 .3rem;font-style:normal;white-space:nowrap}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem}
th,td{padding:.2rem .8rem .2rem 0;text-align:left;vertical-align:top;overflow-wrap:normal}
thead th{color:var(--dim);font-weight:600}
tbody th{font-weight:400;white-space:nowrap}td:last-child{min-width:14rem}
"""
POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing is fetched, nothing runs, nobody frames it; of styles there is but the one above."""
SCOPES: Final = {
    "": "open to anybody",
    "inference": "scope inference",
    "read": "scope read",
    "admin": "scope admin",
    "admin-key": "the admin key",
}
"""What is shown of the role that an operation's security names."""


def page(document: Mapping[str, Any]) -> str:
    """An OpenAPI document as HTML, with `POLICY` for its header."""
    groups: dict[str, list[str]] = {}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method != "head":
                methods = "GET, HEAD" if method == "get" and "head" in item else method.upper()
                groups.setdefault(operation["tags"][0], []).append(_operation(methods, path, operation))
    tags = sorted(groups, key=lambda tag: tag != FIRST)
    title = f"{escape(document['info']['title'])} {escape(document['info']['version'])}"
    links = " ".join(f'<a href="#{escape(tag)}">{escape(tag)}</a>' for tag in [*tags, "schemas"])
    body = "".join(f'<h2 id="{escape(tag)}">{escape(tag)}</h2>{"".join(groups[tag])}' for tag in tags)
    schemas = "".join(_named(name, schema) for name, schema in sorted(document["components"]["schemas"].items()))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style><main><h1>{title}</h1>'
        "<p>Keys go in <code>Authorization: Bearer</code> or <code>x-api-key</code>. The same for programs: "
        f'<a href="/openapi.json">/openapi.json</a>.</p><nav>{links}</nav>{body}'
        f'<h2 id="schemas">schemas</h2>{schemas}</main></html>\n'
    )


def _operation(methods: str, path: str, operation: Mapping[str, Any]) -> str:
    role = next((role for way in operation["security"] for roles in way.values() for role in roles), "")
    parts = []
    if parameters := operation.get("parameters"):
        rows = [_row(each["name"], each["schema"], required=each["required"], place=each["in"]) for each in parameters]
        parts.append(f"<h4>Parameters</h4>{_table(rows)}")
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(f"<h4>Body, {escape(media_type)}</h4>{_shape(content['schema'])}")
    for status, response in operation["responses"].items():
        title = "Errors" if status == "default" else f"Answer, {escape(status)}"
        shapes = [f"{escape(kind)}: {_shape(content.get('schema', {}))}" for kind, content in response.get("content", {}).items()]
        parts.append(f"<h4>{title}</h4>{''.join(f'<div>{shape}</div>' for shape in shapes)}")
    about = f"<span>{_inline(operation.get('description', ''))}</span>"
    head = f"<b>{methods}</b> <code>{escape(path)}</code> <i>{SCOPES[role]}</i> {about}"
    return f'<details id="{escape(operation["operationId"])}"><summary>{head}</summary>{"".join(parts)}</details>'


def _named(name: str, schema: Schema) -> str:
    return f'<h3 id="schema-{escape(name)}">{escape(name)}</h3>{_prose(schema.get("description", ""))}{_shape(schema)}'


def _prose(text: str) -> str:
    """What stands in backquotes is code."""
    return f"<p>{_inline(text)}</p>" if text else ""


def _inline(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _shape(schema: Schema) -> str:
    """A table of its members, or where it has none its type."""
    rows = list(_members(schema))
    return _table(rows) if rows else _type(schema)


def _table(rows: list[str]) -> str:
    heads = "<thead><tr><th>name<th>type<th>required<th>about</thead>"
    return f'<div class="wide" tabindex="0"><table>{heads}<tbody>{"".join(rows)}</tbody></table></div>'


def _members(schema: Schema, above: str = "") -> Iterator[str]:
    """A row for each member, and for those of the objects within it. What has a name is described under that alone."""
    for alternative in schema.get("anyOf", ()):
        yield from _members(alternative, above)
    if "items" in schema:
        yield from _members(schema["items"], f"{above}[]")
    for name, each in schema.get("properties", {}).items():
        path = f"{above}.{name}" if above else name
        yield _row(path, each, required=name in schema.get("required", ()))
        yield from _members(each, path)


def _row(name: str, schema: Schema, *, required: bool, place: str = "") -> str:
    bounds = ", ".join(f"{word} {msgspec.json.encode(schema[word]).decode()}" for word in BOUNDS if word in schema)
    about = " ".join(filter(None, (_inline(schema.get("description", "")), f"<i>{escape(bounds)}</i>" if bounds else "")))
    shown = f"{_type(schema)}, in {place}" if place else _type(schema)
    return f'<tr><th scope="row"><code>{escape(name)}</code><td>{shown}<td>{"yes" if required else ""}<td>{about}'


def _type(schema: Schema) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#schema-{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(map(_type, schema["anyOf"]))
    if values := schema.get("enum") or [schema[word] for word in ("const",) if word in schema]:
        return " or ".join(f"<code>{escape(msgspec.json.encode(value).decode())}</code>" for value in values)
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if isinstance(of := schema.get("additionalProperties"), Mapping) and of:
        return f"object of {_type(of)}"
    return escape(str(schema.get("type", "anything")))
