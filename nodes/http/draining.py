"""Taking a node out of service over the admin API."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from nodes.http.authority import STATE
from nodes.http.calls import Call
from nodes.http.endpoint import Endpoints
from nodes.http.models import Model
from nodes.http.places import CLUSTER

ENDPOINTS = Endpoints("draining")


class Drain(Model):
    """How long clients have to finish."""

    timeout_s: float = Field(300.0, ge=0, le=86_400, examples=[300])


class DrainUnderWay(Model):
    """Clients that are still there."""

    connections: int = Field(ge=0)


@ENDPOINTS.post("/v1/drain", "cluster:write", CLUSTER, DrainUnderWay, reads="local")
async def drain(call: Call, body: Drain) -> dict[str, Any]:
    """Have this node take no new clients, and end when the last one has gone or the time is up."""
    draining = call.request.app[STATE].draining
    assert call.services is not None  # raises ApiError while there are none
    assert draining is not None
    draining.begin(body.timeout_s)
    return {"connections": call.services.connections.open}
