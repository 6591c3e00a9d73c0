"""The feature level of the cell, over the admin API: what may be written, and raising it after an upgrade."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from eventlog import levels
from nodes.http.calls import Call
from nodes.http.endpoint import Endpoints
from nodes.http.models import Model
from nodes.http.places import CLUSTER

ENDPOINTS = Endpoints("upgrade")


class Level(Model):
    """The feature level that was, and is."""

    before: int = Field(examples=[2])
    level: int = Field(examples=[3])


@ENDPOINTS.post("/v1/cluster/upgrade", "cluster:write", CLUSTER, Level, problems=("feature_level",), once=False)
async def upgrade(call: Call) -> dict[str, Any]:
    """Raise the feature level to what this node's program knows.

    Refused, naming them, while members do not know it.
    """
    log, who = call.services.log, call.context
    before = log.feature_level
    if before < levels.NEWEST:
        await log.raise_feature_level(levels.NEWEST, who.by, who.cause, who.timeout_s)
    return {"before": before, "level": max(before, levels.NEWEST)}
