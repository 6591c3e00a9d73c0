"""What a node says of itself; and what the API is, in OpenAPI. Both are told before anything else works."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from nodes.http.authority import STATE
from nodes.http.calls import Call
from nodes.http.endpoint import ANYBODY, ANYBODY_KNOWN, Endpoints
from nodes.http.models import Model
from nodes.http.openapi import document
from nodes.http.places import CLUSTER
from nodes.logins.callers import permits

ENDPOINTS = Endpoints("status")
TOLD_TO_ALL = ("name", "ready", "phase", "feature_level")


class Status(Model):
    """Those of no cluster role are told the first few alone."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(examples=["n1"])
    ready: bool
    phase: str = Field(description="joining, starting, serving, stopping or quarantined.", examples=["serving"])
    feature_level: int | None = Field(description="Of the cell; null while the node has no log.", examples=[3])
    role: str | None = Field(None, examples=["leader"])
    leader: str | None = Field(None, examples=["n1"])
    reasons: list[str] = Field([], description="Why it is not ready.")


class OpenApi(Model):
    """A document of OpenAPI 3.1."""

    model_config = ConfigDict(extra="allow")

    openapi: str = Field(examples=["3.1.0"])


@ENDPOINTS.get("/v1/status", ANYBODY_KNOWN, CLUSTER, Status, reads="local")
async def show(call: Call) -> dict[str, Any]:
    """Tell how this node does.

    It answers at any time: while the node starts, stops, or has quarantined itself.
    """
    state = call.request.app[STATE]
    status = {**state.status(), "feature_level": state.log.feature_level if state.log is not None else None}
    if permits(call.caller, "cluster:read", None):
        return status
    return {name: status[name] for name in TOLD_TO_ALL}


@ENDPOINTS.get("/v1/openapi.json", ANYBODY, CLUSTER, OpenApi, reads="local")
async def describe(call: Call) -> dict[str, Any]:
    """Describe this API in OpenAPI 3.1."""
    return document()
