"""The description of the admin API in OpenAPI 3.1, made of the declared endpoints; nothing of it is written by hand."""

from __future__ import annotations

import functools
import importlib.metadata
import re
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from nodes.http.endpoint import ANYBODY, ANYBODY_KNOWN, JSON_LINES, Answer, Bytes, Endpoint, Lines
from nodes.http.errors import CONTENT_TYPE
from nodes.http.models import Problem, line_of

JSON = "application/json"
REF = "#/components/schemas/{model}"
# what stands in paths: what it is, what it looks like, an example
_PATH: dict[str, tuple[str, str, str]] = {
    "address": ("An account's or alias's address.", "", "alice@example.test"),
    "domain": ("A domain.", "", "example.test"),
    "file": ("One of its files.", "", "start.js"),
    "first": ("The first position of a segment.", "^[0-9]{1,18}$", "1"),
    "id": ("The id, in hexadecimal.", "", "0193a1b2c3d4e5f60718293a4b5c6d7e"),
    "key": ("A key of the configuration.", "", "limits.recipients"),
    "last": ("The last position of a segment.", "^[0-9]{1,18}$", "1000"),
    "match": ("What the route is for: a domain, `*.DOMAIN`, `tenant NAME` or `default`.", "", "default"),
    "name": ("The name.", "", "example"),
    "place": ("An account's address, or a tenant's name for its public folders.", "", "alice@example.test"),
    "position": ("A position of the log.", "^[0-9]{1,18}$", "1"),
    "wanted": ("A host name, or a fingerprint or the beginning of one.", "", "mail.example.test"),
    "selector": ("A key's selector.", "", "2026a"),
}
_PARAMETER = re.compile(r"\{(\w+)(?::([^{}]*(?:\{[^{}]*\}[^{}]*)*))?\}")
_INFO = """Everything that the command line does goes through this API, at any node of the cell, over TLS.

Who asks shows an administrator's certificate of the cell, or a token (`Authorization: Bearer TOKEN`). What did not
happen is answered with a problem (RFC 9457), whose `code` never changes (docs/reference/errors.md has them all);
`category` says whether another node may do it ("rejected", "not_ready", "quarantined") or whether it may have been done
("unknown"), `retry` whether the same may be asked again, and `severity` whose concern it is."""


@functools.cache
def document() -> dict[str, Any]:
    """The whole description. Never changed by who is given it."""
    from nodes.http.admin import endpoints  # which imports every module of endpoints, and one of those this one

    found = endpoints()
    paths: dict[str, dict[str, Any]] = {}
    for one in found:
        paths.setdefault(openapi_path(one.path), {})[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mailraft",
            "version": importlib.metadata.version("mailraft"),
            "description": _INFO,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": topic} for topic in dict.fromkeys(one.topic for one in found)],
        "security": [{"token": []}, {"certificate": []}],
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": _schemas(found), "securitySchemes": _SECURITY, "responses": {"Problem": _PROBLEM}},
    }


_SECURITY = {
    "token": {"type": "http", "scheme": "bearer"},
    "certificate": {"type": "mutualTLS", "description": "An administrator's, of the cell's CA."},
}
_PROBLEM = {
    "description": "It was not done, and why (RFC 9457).",
    "content": {CONTENT_TYPE: {"schema": {"$ref": REF.format(model="Problem")}}},
}


def openapi_path(path: str) -> str:
    """A path of the router without the patterns of its parameters."""
    return _PARAMETER.sub(r"{\1}", path)


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": endpoint.name,
        "tags": [endpoint.topic],
        "summary": endpoint.summary,
        "description": _description(endpoint),
        "x-permission": endpoint.permission,
        "parameters": [*_path_parameters(endpoint), *_query_parameters(endpoint), *_headers(endpoint)],
        "responses": {
            str(endpoint.status): _answer(endpoint.answer),
            "default": {"$ref": "#/components/responses/Problem"},
        },
    }
    if endpoint.permission == ANYBODY:
        found["security"] = []
    if endpoint.body is not None:
        found["requestBody"] = _request_body(endpoint.body)
    return found


def _description(endpoint: Endpoint) -> str:
    needs = {ANYBODY: "Needs nothing.", ANYBODY_KNOWN: "Needs any certificate or token."}
    lines = [endpoint.text, needs.get(endpoint.permission, f"Needs `{endpoint.permission}` of {endpoint.place.text}.")]
    if endpoint.problems:
        lines.append("Problems of its own: " + ", ".join(f"`{code}`" for code in endpoint.problems) + ".")
    return "\n\n".join(lines)


def _path_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    found = []
    for name, pattern in _PARAMETER.findall(endpoint.path):
        text, known_pattern, example = _PATH[name]
        schema: dict[str, Any] = {"type": "string", "minLength": 1}
        if known_pattern:
            schema["pattern"] = known_pattern
        elif re.fullmatch(r"[a-z|.-]+", pattern):
            schema["enum"] = pattern.split("|")
            example = schema["enum"][0]
        found.append(
            {"name": name, "in": "path", "required": True, "description": text, "schema": schema, "example": example}
        )
    return found


def _query_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    if endpoint.query is None:
        return []
    schema = endpoint.query.model_json_schema()
    required = schema.get("required", [])
    return [
        {"name": name, "in": "query", "required": name in required, "schema": _without_null(part)}
        | ({"description": part["description"]} if "description" in part else {})
        for name, part in schema["properties"].items()
    ]


def _headers(endpoint: Endpoint) -> list[dict[str, Any]]:
    found = []
    if endpoint.made_of is not None and endpoint.method != "GET":
        text = f"The ETag that {_shown_by(endpoint)} had: what has changed since is left alone (412)."
        found.append(_header("If-Match", text, {"type": "string"}))
    if endpoint.takes_key:
        text = "The same for a request that is sent again: it is carried out once, and known for a day."
        schema = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"}
        found.append(_header("Idempotency-Key", text, schema))
    return found


def _shown_by(endpoint: Endpoint) -> str:
    """Where the ETag of what an endpoint changes comes from."""
    from nodes.http.admin import endpoints

    shows = [one for one in endpoints() if one.method == "GET" and one.made_of is endpoint.made_of]
    return " or ".join(f"`GET {openapi_path(one.path)}`" for one in shows)


def _header(name: str, text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "description": text, "schema": schema}


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter is there or not; it is never null."""
    if "anyOf" not in schema:
        return {name: part for name, part in schema.items() if name != "title"}
    rest = [part for part in schema["anyOf"] if part != {"type": "null"}]
    return dict(rest[0]) if len(rest) == 1 else {"anyOf": rest}


def _request_body(body: type[BaseModel] | Bytes) -> dict[str, Any]:
    if isinstance(body, Bytes):
        return {"required": True, "content": {body.content_type: {"schema": {"type": "string", "format": "binary"}}}}
    required = any(field.is_required() for field in body.model_fields.values())
    content = {JSON: {"schema": {"$ref": REF.format(model=body.__name__)}}}
    if (line := line_of(body)) is not None:
        content |= {one: {"schema": {"$ref": REF.format(model=line.__name__)}} for one in JSON_LINES}
    return {"required": required, "content": content}


def _answer(answer: Answer) -> dict[str, Any]:
    if isinstance(answer, Bytes):
        return {
            "description": "Bytes.",
            "content": {answer.content_type: {"schema": {"type": "string", "format": "binary"}}},
        }
    if isinstance(answer, Lines):
        schema = {"$ref": REF.format(model=answer.line.__name__)}
        text = "Lines of JSON, each of them like this; they come while it is done."
        return {"description": text, "content": {one: {"schema": schema} for one in JSON_LINES}}
    text = (answer.__doc__ or "").strip().partition("\n")[0]
    return {"description": text, "content": {JSON: {"schema": {"$ref": REF.format(model=answer.__name__)}}}}


def _schemas(found: list[Endpoint]) -> dict[str, Any]:
    models: dict[type[BaseModel], None] = {Problem: None}
    for one in found:
        answer = one.answer.line if isinstance(one.answer, Lines) else one.answer
        for model in (one.body, answer):
            if isinstance(model, type):
                models[model] = None
    _, schema = models_json_schema([(model, "validation") for model in models], ref_template=REF)
    defined: dict[str, Any] = schema["$defs"]
    return defined
