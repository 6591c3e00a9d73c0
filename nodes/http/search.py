"""A node's full-text index over the admin API: how far it is, and having it made anew."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from nodes.http.calls import Call
from nodes.http.endpoint import Endpoints
from nodes.http.errors import ApiError
from nodes.http.models import Model
from nodes.http.places import CLUSTER

ENDPOINTS = Endpoints("search")


class IndexStatus(Model):
    """All up to `position` is in it, and the log ends at `log`."""

    state: str = Field(description="off, missing (the library), waiting, indexing, rebuilding or failed.")
    position: int
    messages: int
    done: int = Field(description="Of what it does now, out of `total`.")
    total: int
    error: str | None
    log: int


class Started(Model):
    """It has begun."""

    started: bool


@ENDPOINTS.get("/v1/search", "cluster:read", CLUSTER, IndexStatus, reads="local")
async def status(call: Call) -> dict[str, Any]:
    """Tell how far this node's full-text index is."""
    node = call.services
    assert node.fulltext is not None
    return {**node.fulltext.status()._asdict(), "log": node.log.status().applied}


@ENDPOINTS.post(
    "/v1/search/rebuild", "cluster:write", CLUSTER, Started, reads="local", problems=("no_index",), once=False
)
async def rebuild(call: Call) -> dict[str, Any]:
    """Have this node's full-text index made anew.

    It answers at once, and the status tells how far it is.
    """
    index = call.services.fulltext
    assert index is not None
    if not index.rebuild():
        why = "it is switched off (fulltext.index)" if index.status().state == "off" else "its library is missing"
        text = f"this node has no full-text index: {why}"
        raise ApiError(409, "conflict", text, "pip install 'mailraft[search]'", code="no_index")
    return {"started": True}
