"""The members of the cell over the admin API: who they are, adding, removing, handing over leadership.

Every change is an entry of the log, committed when this answers. Adding again what was added is no error.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from eventlog.log import EventLog
from eventlog.members import MEMBERS, Member, removed_names, rows
from nodes.http.calls import Call
from nodes.http.endpoint import Endpoints
from nodes.http.models import Model
from nodes.http.places import CLUSTER

ENDPOINTS = Endpoints("members")
Name = Annotated[str, Field(min_length=1, max_length=1024, examples=["n4"])]
HostPort = Annotated[str, Field(min_length=1, max_length=1024, examples=["192.0.2.4:7100"])]
ONCE = False  # nothing of it goes through the runtime; added again is no error, removed again says so
CHANGES = ("change_under_way", "members_changed", "bad_name", "bad_address", "was_a_member", "not_a_member")


class CellMember(Model):
    """A node of the cell. One that does not vote is a learner."""

    name: Name
    address: HostPort
    voter: bool


class Members(Model):
    """The cell's nodes."""

    leader: str | None = Field(examples=["n1"])
    members: list[CellMember]
    removed: list[str] = Field(description="Names that were nodes once, and are not used again.", examples=[["n2"]])


class NewMember(Model):
    """Its name, and where the others reach it (raft.listen)."""

    name: Name
    address: HostPort


@ENDPOINTS.get("/v1/members", "cluster:read", CLUSTER, Members)
async def show(call: Call) -> dict[str, Any]:
    """List the members of the cell."""
    return _json(call.services.log)


@ENDPOINTS.post("/v1/members", "cluster:write", CLUSTER, Members, reads="fresh", problems=CHANGES, once=ONCE)
async def add(call: Call, body: NewMember) -> dict[str, Any]:
    """Add a node, as a learner, which votes once it has caught up."""
    log, asked = call.services.log, call.context
    if (body.name, body.address) not in [(member.name, member.address) for member in log.members()]:
        await log.add_member(body.name, body.address, asked.by, asked.cause)
    return _json(log)


@ENDPOINTS.delete("/v1/members/{name}", "cluster:write", CLUSTER, Members, reads="local", problems=CHANGES, once=ONCE)
async def remove(call: Call) -> dict[str, Any]:
    """Remove a node."""
    log, asked = call.services.log, call.context
    await log.remove_member(call.path["name"], asked.by, asked.cause)
    return _json(log)


@ENDPOINTS.post(
    "/v1/members/{name}/lead", "cluster:write", CLUSTER, Members, reads="local", problems=CHANGES, once=False
)
async def lead(call: Call) -> dict[str, Any]:
    """Have the leader hand over to this member."""
    log = call.services.log
    await log.transfer_leadership(call.path["name"])
    return _json(log)


def _json(log: EventLog) -> dict[str, Any]:
    """What is committed; before the log says anything, what the configuration file does."""
    with log.snapshot() as snapshot:
        view = snapshot.view(MEMBERS)
        folded = [Member(name, address, voter) for name, (address, voter, *_) in rows(view)]
        removed = sorted(removed_names(view))
    members = [member._asdict() for member in folded or log.members()]
    return {"leader": log.status().leader, "members": members, "removed": removed}
