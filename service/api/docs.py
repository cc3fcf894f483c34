"""The page `/docs`: every route in plain HTML, made from the schema. It loads nothing else, from wherever."""

import json
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from hashlib import sha256
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from service import patterns
from service.api.access import Reader
from service.api.strict_route import StrictRoute

router = APIRouter(include_in_schema=False, route_class=StrictRoute)

STYLE = """
body{margin:0;font:16px/1.5 system-ui,sans-serif;color:#1c2024;background:#fff}
main{max-width:62rem;margin:0 auto;padding:1.5rem}
h1{margin:.2rem 0}h2{margin:2.5rem 0 .5rem;border-bottom:1px solid #d8dee4}
code,pre{font:14px/1.45 ui-monospace,monospace}
pre{background:#f4f6f8;padding:.7rem;overflow-x:auto;border-radius:.3rem}
nav ul{columns:16rem;padding-left:0;list-style:none}
a{color:#0b57a4;text-decoration:none}a:hover{text-decoration:underline}
section{margin:1.6rem 0}section h3{margin:0 0 .3rem;font-size:1rem}
.method{display:inline-block;min-width:4.2rem;font-weight:700}
table{border-collapse:collapse;width:100%;font-size:.9rem;margin:.5rem 0}
caption{text-align:left;font-weight:600;padding:.3rem 0}
td{vertical-align:top;padding:.25rem .6rem .25rem 0;border-top:1px solid #e4e8ec}
td:first-child{width:24%}td:last-child{width:42%}
.muted{color:#5c6670}
@media(prefers-color-scheme:dark){body{color:#e4e8ec;background:#14171a}pre{background:#20252a}
a{color:#7db7ff}h2,td{border-color:#343b42}.muted{color:#9aa5b0}}
"""

POLICY = (
    "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; "
    f"style-src 'sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}'"
)

BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "maxProperties": "at most {} entries",
}

Schema = Mapping[str, Any]


@router.get("/docs")
def show_docs(request: Request, _: Reader) -> HTMLResponse:
    base = f"http://{request.headers['host']}"
    return HTMLResponse(page(request.app.openapi(), base), headers={"Content-Security-Policy": POLICY})


def page(described: Schema, base: str) -> str:
    """described: an OpenAPI document. base: the address in the examples."""
    title = escape(f"{described['info']['title']} {described['info']['version']}")
    groups: dict[str, list[tuple[str, str, Schema]]] = {}
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            group = (operation.get("tags") or ["other"])[0]
            groups.setdefault(group, []).append((method.upper(), path, operation))
    contents = "".join(
        f'<li><a href="#{_anchor(method, path)}"><code>{method} {escape(path)}</code></a></li>'
        for routes in groups.values()
        for method, path, _ in routes
    )
    body = "".join(
        f"<h2>{escape(group)}</h2>{''.join(_route(described, base, *route) for route in routes)}"
        for group, routes in groups.items()
    )
    introduction = escape(described["info"].get("description", ""))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body><main><h1>{title}</h1><p>{introduction}</p>"
        "<p>Every request but <code>GET /healthz</code> needs <code>Authorization: Bearer TOKEN</code>. Errors are "
        "<code>application/problem+json</code> (RFC 9457) and name every wrong field at once. "
        'The schema itself is at <a href="/openapi.json">/openapi.json</a>.</p>'
        f"<nav><ul>{contents}</ul></nav>{body}</main></body></html>"
    )


def _route(described: Schema, base: str, method: str, path: str, operation: Schema) -> str:
    body = operation.get("requestBody", {}).get("content", {})
    schema = _resolved(described, next(iter(body.values()))["schema"]) if body else None
    text = operation.get("description") or operation.get("summary", "")
    parts = [
        f'<section id="{_anchor(method, path)}">',
        f'<h3><code><span class="method">{method}</span>{escape(path)}</code></h3>',
        "".join(f"<p>{escape(paragraph)}</p>" for paragraph in text.split("\n\n")),
        _table("Parameters", [_parameter(described, each) for each in operation.get("parameters", ())]),
        _table("Body", list(_fields(described, schema)) if schema else []),
        f"<pre><code>{escape(_curl(described, base, method, _asked(path, operation), body, schema))}</code></pre>",
        f'<p class="muted">Answers {escape(_statuses(operation))}, or a problem</p></section>',
    ]
    return "".join(parts)


def _parameter(described: Schema, parameter: Schema) -> tuple[str, ...]:
    schema = _resolved(described, parameter.get("schema", {}))
    told = parameter.get("description") or schema.get("description", "")
    default = "required" if parameter.get("required") else _default(schema)
    kind = _type(described, schema).removesuffix(" or null")  # a query can leave out a value, and not say null
    return parameter["name"], parameter["in"], kind, default, _described(told, schema)


def _fields(described: Schema, schema: Schema, prefix: str = "") -> Iterator[tuple[str, ...]]:
    """A row for each field of an object, and of the objects in it, with dotted names."""
    for name, raw in schema.get("properties", {}).items():
        field = _resolved(described, raw)
        default = "required" if name in schema.get("required", ()) else _default(field)
        variants = [_resolved(described, each) for each in field.get("oneOf", field.get("anyOf", ()))]
        objects = [each for each in [field, *variants] if each.get("properties")]
        if objects and default != "required":
            default = "optional"  # the defaults of its fields follow
        yield f"{prefix}{name}", _type(described, field), default, _described(field.get("description", ""), field)
        for each in objects:
            yield from _fields(described, each, f"{prefix}{name}.")


def _table(caption: str, rows: list[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    lines = "".join(
        f"<tr><td><code>{escape(name)}</code></td>{''.join(f'<td>{escape(cell)}</td>' for cell in rest)}</tr>"
        for name, *rest in rows
    )
    return f"<table><caption>{escape(caption)}</caption>{lines}</table>"


def _type(described: Schema, schema: Schema | bool) -> str:
    if isinstance(schema, bool):
        return "any"  # JSON Schema says `true` where everything is taken
    schema = _resolved(described, schema)
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            kinds = [_type(described, each) for each in schema[choice]]
            return " or ".join(dict.fromkeys(kinds))
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_type(described, schema.get('items', {}))}"
    values = schema.get("additionalProperties")
    if kind == "object" and not schema.get("properties") and isinstance(values, dict):  # true: of anything
        return f"object of {_type(described, values)}"
    return str(kind)


def _default(schema: Schema) -> str:
    return "optional" if schema.get("default") is None else f"default {json.dumps(schema['default'])}"


def _described(told: str, schema: Schema) -> str:
    """The description, and the bounds of the value or of what it may be."""
    bounds: list[str] = []
    for each in [schema, *schema.get("anyOf", ())]:
        bounds += [words.format(_bound(each[name])) for name, words in BOUNDS.items() if name in each]
        if "pattern" in each:
            bounds.append(patterns.WORDS.get(each["pattern"], f"matches {each['pattern']}"))
    return "; ".join(filter(None, [told, ", ".join(dict.fromkeys(bounds))]))


def _bound(value: Any) -> str:
    """As a person writes it: OpenAPI makes a float of every number."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _asked(path: str, operation: Schema) -> str:
    """The path with what a query must say, for a person to fill in."""
    needed = [
        each["name"] for each in operation.get("parameters", ()) if each["in"] == "query" and each.get("required")
    ]
    query = "&".join(f"{name}={{{name}}}" for name in needed)
    return f"{path}?{query}" if query else path


def _curl(described: Schema, base: str, method: str, path: str, body: Schema, schema: Schema | None) -> str:
    words = ["curl"]
    if method != "GET":
        words.append(f"-X {method}")
    words.append('-H "Authorization: Bearer $TRAINBOX_TOKEN"')
    if schema is not None:
        words.append(f"-H 'Content-Type: {next(iter(body))}'")
        binary = schema.get("format") == "binary"
        words.append("-T FILE" if binary else f"-d '{json.dumps(_example(described, schema))}'")
    address = base + re.sub("{(.*?)}", lambda name: name[1].upper(), path)
    return " \\\n  ".join([*words, f"'{address}'" if "?" in address else address])


def _example(described: Schema, schema: Schema) -> Any:
    """A small value of the schema: of an object what is required, or else its first field."""
    schema = _resolved(described, schema)
    if schema.get("examples"):
        return schema["examples"][0]
    if "properties" in schema:
        names = schema.get("required") or list(schema["properties"])[:1]
        return {name: _example(described, schema["properties"][name]) for name in names}
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return _example(described, schema[choice][0])
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") == "array":
        return [_example(described, schema.get("items", {}))]
    number = schema.get("minimum", 1)
    return {"integer": number, "number": number, "boolean": True, "object": {}}.get(schema.get("type", ""), "NAME")


def _statuses(operation: Schema) -> str:
    return ", ".join(sorted(status for status in operation.get("responses", {}) if status != "default"))


def _resolved(described: Schema, schema: Schema) -> Schema:
    """The schema that a reference stands for, with what stands beside the reference."""
    while "$ref" in schema:
        target = described["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema


def _anchor(method: str, path: str) -> str:
    return escape(f"{method.lower()}{path.replace('/', '-').replace('{', '').replace('}', '')}")
