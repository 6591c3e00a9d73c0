"""How the cell does: every node as this one hears of it, and the parts of this one."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from nodes.http.authority import STATE
from nodes.http.calls import Call
from nodes.http.endpoint import Endpoints
from nodes.http.errors import ApiError
from nodes.http.models import Model
from nodes.http.places import CLUSTER

ENDPOINTS = Endpoints("health")


class Quorum(Model):
    """Voters: how many there are, are heard of (this node among them), and are needed to write anything."""

    voters: int = Field(examples=[3])
    heard: int = Field(examples=[3])
    needed: int = Field(examples=[2])
    has: bool


class NodeHealth(Model):
    """What a node last said of itself; null where it is not heard of."""

    name: str = Field(examples=["n1"])
    voter: bool
    heard: bool
    heard_s_ago: float | None = Field(description="Null for the node that answers.", examples=[0.4])
    ready: bool | None
    role: str | None = Field(examples=["follower"])
    leader: str | None = Field(description="Whom it takes for the leader.", examples=["n2"])
    term: int | None
    commit: int | None
    applied: int | None
    lag: int | None = Field(description="Positions that others know to be committed and it has not folded.")
    disk_free_bytes: int | None
    clock_off_s: float | None = Field(description="Ahead of the middle of the nodes' clocks.", examples=[0.012])
    down: dict[str, str] = Field(description="Why, by part.", examples=[{"filters": "clamav is down"}])
    addresses: dict[str, str] = Field(description="Where it listens.", examples=[{"admin": "192.0.2.4:8443"}])


class PartHealth(Model):
    """A part of the node that answers. Where a critical one is down the node is not ready."""

    name: str = Field(examples=["full-text index"])
    critical: bool
    needs: list[str] = Field(description="The parts without which it can not work.", examples=[["fold"]])
    without_it: str = Field(description="What happens while it is down.")
    standing: Literal["up", "down", "off", "unknown"]
    reason: str


class Health(Model):
    """healthy; degraded: mail flows, and something is amiss; critical: nothing can be written."""

    status: Literal["healthy", "degraded", "critical"]
    means: str
    seen_by: str = Field(examples=["n1"])
    leader: str | None = Field(examples=["n2"])
    term: int
    quorum: Quorum
    problems: list[str]
    nodes: list[NodeHealth]
    parts: list[PartHealth]


@ENDPOINTS.get("/v1/health", "cluster:read", CLUSTER, Health, reads="local")
async def show(call: Call) -> dict[str, Any]:
    """Tell how the whole cell does, as this node sees it.

    It needs no majority: nodes tell each other every second how they do, beside the log.
    """
    cell = call.request.app[STATE].cell
    if cell is None:
        raise ApiError(503, "not_ready", "this node takes no part in its cell now", "another node; or GET /v1/status")
    return cell.report()
