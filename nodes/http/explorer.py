"""Swagger UI over the API's own description, served by the node: nothing is fetched from elsewhere.

The page holds no secret and asks for none; what one tries out needs the token that one pastes into it. Its files come
with an optional package; without it the description alone is there (/v1/openapi.json).
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

from aiohttp import web

from nodes.http.calls import Call
from nodes.http.endpoint import ANYBODY, Bytes, Endpoints
from nodes.http.errors import ApiError
from nodes.http.places import CLUSTER

ENDPOINTS = Endpoints("explorer")
PACKAGE = "mkdocs_swagger_ui_tag"
FILES = {
    "swagger-ui.css": ("stylesheets/swagger-ui.css", "text/css"),
    "swagger-ui-bundle.js": ("javascripts/swagger-ui-bundle.js", "text/javascript"),
}
# its scripts and styles are files of ours, it asks this node alone, and no page of others may hold it
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>mailraft API</title><link rel="stylesheet" href="explorer/swagger-ui.css"></head>
<body><div id="explorer"></div>
<script src="explorer/swagger-ui-bundle.js"></script><script src="explorer/start.js"></script></body>
</html>
"""
START = 'SwaggerUIBundle({url: "/v1/openapi.json", dom_id: "#explorer", deepLinking: true, validatorUrl: null});\n'


@ENDPOINTS.get("/v1/explorer", ANYBODY, CLUSTER, Bytes("text/html"), reads="local", problems=("no_explorer",))
async def show(call: Call) -> web.StreamResponse:
    """Show this API in a browser, to read and to try out (Swagger UI)."""
    _folder()
    return web.Response(text=PAGE, content_type="text/html", headers=HEADERS)


@ENDPOINTS.get(
    "/v1/explorer/{file:swagger-ui.css|swagger-ui-bundle.js|start.js}",
    ANYBODY,
    CLUSTER,
    Bytes("text/*"),
    reads="local",
    problems=("no_explorer",),
)
async def send_file(call: Call) -> web.StreamResponse:
    """Send a part of that page."""
    if call.path["file"] == "start.js":
        return web.Response(text=START, content_type="text/javascript", headers=HEADERS)
    name, content_type = FILES[call.path["file"]]
    return web.FileResponse(_folder() / name, headers={**HEADERS, "Content-Type": content_type})


@functools.cache
def _folder() -> Path:
    """Where the files are; the package is found, not run. Raises ApiError."""
    found = importlib.util.find_spec(PACKAGE)
    places = found.submodule_search_locations if found is not None else None
    if not places:
        text = "this node has no explorer of the API"
        raise ApiError(404, "not_found", text, "pip install 'mailraft[explorer]'", code="no_explorer")
    return Path(places[0]) / "swagger-ui"
