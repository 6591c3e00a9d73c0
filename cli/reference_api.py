"""The reference page of the admin API: every endpoint that is declared, and every code that a problem can have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from actors.errors import CommandRefused

MODULES = ("actors.errors", "actors.requests", "actors.turns")  # where refusals are defined
HTTP_METHODS = ("get", "post", "put", "patch", "delete")


def api_lines() -> Iterator[str]:
    """The page's lines, from what a node serves as /v1/openapi.json."""
    from nodes.http.openapi import document

    found = document()
    yield from ("# The admin API", "")
    yield "What it takes and gives stands in `/v1/openapi.json` of each node; its use, in [docs/api.md](../api.md)."
    for tag in found["tags"]:
        yield from ("", f"## {tag['name']}", "", "| | | needs | takes a key |", "|---|---|---|---|")
        for path, methods in found["paths"].items():
            yield from (
                _row(path, method, methods[method])
                for method in HTTP_METHODS
                if method in methods and tag["name"] in methods[method]["tags"]
            )
    yield from ("", "## Codes of refusals", "", "| `code` | |", "|---|---|")
    yield from (f"| `{code}` | {text} |" for code, text in sorted(_codes().items()))


def _row(path: str, method: str, operation: dict[str, Any]) -> str:
    needs = {"": "nothing", "*": "anybody known"}.get(operation["x-permission"], f"`{operation['x-permission']}`")
    keyed = any(one["name"] == "Idempotency-Key" for one in operation["parameters"])
    summary = operation["summary"].replace("|", "\\|")
    return f"| `{method.upper()} {path}` | {summary} | {needs} | {'yes' if keyed else ''} |"


def _codes() -> dict[str, str]:
    """Of every way in which a command can be refused, by its class."""
    found, left = dict[str, str](), [CommandRefused]
    while left:
        for one in left.pop().__subclasses__():
            left.append(one)
            if one.__module__ in MODULES:
                found[one.code] = (one.__doc__ or "").strip().partition("\n")[0].partition(" (")[0]
    return found
