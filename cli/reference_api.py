"""The reference page of the admin API: every endpoint that is declared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

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
    yield from ("", "What a problem's `code` says stands in [errors.md](errors.md).")


def _row(path: str, method: str, operation: dict[str, Any]) -> str:
    needs = {"": "nothing", "*": "anybody known"}.get(operation["x-permission"], f"`{operation['x-permission']}`")
    keyed = any(one["name"] == "Idempotency-Key" for one in operation["parameters"])
    summary = operation["summary"].replace("|", "\\|")
    return f"| `{method.upper()} {path}` | {summary} | {needs} | {'yes' if keyed else ''} |"
