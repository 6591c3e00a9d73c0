"""The event log over the admin API: records by position, following the end, proof and refold.

A password's sealed verifiers are never shown. Proof and refold run in a process of their own (nodes/jobs.py), so that a
node that is asked for them goes on serving. Whoever belongs to a tenant sees its events, and of others not even that
there are any (nodes/http/log_views.py).
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web
from pydantic import ConfigDict, Field

from eventlog.log import EventLog
from eventlog.store import Snapshot
from nodes.heads import signed_head
from nodes.http.authority import STATE
from nodes.http.calls import Call
from nodes.http.endpoint import Endpoints
from nodes.http.errors import bad_request, no_position
from nodes.http.log_views import is_shown, own_selection, record_shown, stream_own_records
from nodes.http.models import MOST_NUMBER, Model, Page, PageQuery, Query
from nodes.http.pages import page
from nodes.http.places import CLUSTER, OWN
from nodes.http.streams import JobLine, lines_of, stream_job
from nodes.log_selection import Selection, selection
from nodes.what_if import RuleError, read_rule

ENDPOINTS = Endpoints("log")
MOST_RECORDS = 1000
MOST_WAIT_S = 20
POSITIONS = r"^([0-9]{1,19}(,[0-9]{1,19}){0,99})?$"


class LogQuery(Query):
    """The last ones; or those after a position, waiting for the first if there is none."""

    last: int = Field(20, ge=0, le=MOST_RECORDS, description="How many of the last.")
    after: int | None = Field(None, ge=0, le=MOST_NUMBER, description="Those after this position instead.")
    wait_s: int = Field(0, ge=0, le=MOST_WAIT_S)
    wanted: str = Field("{}", max_length=8192, description="A selection, as JSON: only those that it asks for.")


class Record(Model):
    """What stands at a position, and what the fold said of it."""

    model_config = ConfigDict(extra="allow")

    position: int = Field(examples=[12])
    kind: str = Field(description="record, no-op or missing.", examples=["record"])


class Records(Model):
    """The position to go on after."""

    records: list[Record]
    position: int


class Wanted(Model):
    """What a record must have; what is left out asks for nothing. `newest` keeps only that many, the last ones."""

    types: list[str] = Field([], examples=[["Message*"]])
    streams: list[str] = Field([], description="Ids.")
    account: str | None = Field(None, description="Done by it, or to it.", examples=["alice@example.test"])
    by: str | None = Field(None, description="A part of who did it: kind, name, address of the client.")
    outcome: str | None = Field(None, examples=["committed"])
    first: int | None = None
    last: int | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    newest: int | None = None


class RecordLine(JobLine):
    """A record, or the result: how many."""

    record: Record | None = None


class WhatIf(Model):
    """A rule: `quota` (account, limit), `alias` (address, targets), `refuse` (recipient, sender), lists of objects."""

    rule: dict[str, Any] = Field(examples=[{"refuse": [{"recipient": "*@example.test", "sender": "*@spam.test"}]}])
    selection: dict[str, Any] = Field({}, examples=[{}])


class Difference(JobLine):
    """What the rule would have changed, or the result: how much of each kind."""

    difference: dict[str, Any] | None = None


class AnchorQuery(Query):
    """The newest where none is given."""

    position: int | None = Field(None, ge=0, le=MOST_NUMBER)


class SignedHead(Model):
    """The chain at a position, signed with the key of this node's certificate."""

    model_config = ConfigDict(extra="allow")


class Heads(Page):
    """Heads that this node has signed and keeps, the oldest first."""

    heads: list[SignedHead]


class ProofQuery(Query):
    """A verification gives the chain at these positions too."""

    at: str = Field("", pattern=POSITIONS, description="Positions, separated by commas.")


@ENDPOINTS.get("/v1/log", "log:read", OWN, Records, reads="local")
async def read(call: Call, query: LogQuery) -> dict[str, Any]:
    """Read the last records, or those after a position, waiting for the first if there is none."""
    log, after = call.services.log, query.after
    if after is None:
        after = max(0, _position(log) - query.last)
    elif query.wait_s:
        await _wait_beyond(log, after, query.wait_s)
    with log.snapshot() as snapshot:
        end = min(snapshot.position, after + MOST_RECORDS)
        wanted = _selection(call, snapshot, _json(query.wanted))
        tenant, found = call.caller.tenant, snapshot.records(after + 1, end)
        shown = [record_shown(tenant, snapshot, one) for one in found if is_shown(tenant, snapshot, one, wanted)]
    return {"records": [one for one in shown if one is not None], "position": end}


@ENDPOINTS.post("/v1/log/records", "log:read", OWN, lines_of(RecordLine), reads="local")
async def records(call: Call, body: Wanted) -> web.StreamResponse:
    """Send every record that a selection asks for, then how many they are."""
    wanted = body.model_dump(exclude_unset=True)
    with call.services.log.snapshot() as snapshot:
        _selection(call, snapshot, wanted)  # what is wrong with it is said before the answer begins
    if call.caller.tenant is not None:
        return await stream_own_records(call, call.caller.tenant, json.dumps(wanted))
    return await stream_job(call, "records", json.dumps(wanted))


@ENDPOINTS.post("/v1/log/what-if", "log:read", CLUSTER, lines_of(Difference), reads="local")
async def what_if(call: Call, body: WhatIf) -> web.StreamResponse:
    """Tell what a rule would have changed in the past."""
    with call.services.log.snapshot() as snapshot:
        _selection(call, snapshot, body.selection)
    try:
        read_rule(body.rule)
    except RuleError as error:
        raise bad_request(str(error)) from None
    return await stream_job(call, "what-if", json.dumps({"rule": body.rule, "selection": body.selection}))


@ENDPOINTS.get("/v1/log/anchor", "log:read", OWN, SignedHead, problems=("no_such_position",))
async def anchor(call: Call, query: AnchorQuery) -> dict[str, Any]:
    """Sign the chain at a position."""
    with call.services.log.snapshot() as snapshot:
        stored = snapshot.record(snapshot.position if query.position is None else query.position)
        if stored is None or stored.chain is None:
            raise no_position(query.position or 0, snapshot.position)
    return signed_head(call.services.config, stored.position, stored.at_ms, stored.chain)


@ENDPOINTS.get("/v1/log/heads", "log:read", OWN, Heads, reads="local")
async def heads(call: Call, query: PageQuery) -> dict[str, Any]:
    """List the heads that this node has signed and keeps."""
    _ = call.services  # raises ApiError while the node is not ready
    keeper = call.request.app[STATE].heads
    assert keeper is not None
    found, following = page(keeper.positions(), lambda position: (position,), query, keeper.kept)
    return {"heads": [one for one in found if one is not None], "next": following}


@ENDPOINTS.get("/v1/log/{position:\\d{1,30}}", "log:read", OWN, Record, problems=("no_such_position",))
async def show(call: Call) -> dict[str, Any]:
    """Show what stands at a position."""
    position = int(call.path["position"])
    with call.services.log.snapshot() as snapshot:
        stored = snapshot.record(position) if 1 <= position <= snapshot.position else None
        shown = record_shown(call.caller.tenant, snapshot, stored) if stored is not None else None
        if shown is None:
            raise no_position(position, snapshot.position)
        return shown


@ENDPOINTS.post("/v1/log/verify", "log:read", CLUSTER, lines_of(), reads="local")
async def verify(call: Call, query: ProofQuery) -> web.StreamResponse:
    """Prove this node's chain from the start."""
    return await stream_job(call, "verify", query.at)


@ENDPOINTS.post("/v1/log/rebuild", "log:read", CLUSTER, lines_of(), reads="local")
async def rebuild(call: Call) -> web.StreamResponse:
    """Fold this node's log from zero and compare the tables with those that are served."""
    return await stream_job(call, "rebuild")


def _json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise bad_request("wanted: must be a JSON object")
    return value


def _selection(call: Call, snapshot: Snapshot, wanted: dict[str, Any]) -> Selection:
    try:
        if call.caller.tenant is not None:
            own_selection(call.caller.tenant, snapshot, wanted)
        return selection(snapshot, wanted)
    except ValueError as error:
        raise bad_request(str(error)) from None


def _position(log: EventLog) -> int:
    with log.snapshot() as snapshot:
        return snapshot.position


async def _wait_beyond(log: EventLog, position: int, wait_s: float) -> None:
    grown = asyncio.Event()

    def on_applied(_applied: Any) -> None:
        grown.set()

    forget = log.subscribe(None, on_applied)
    try:
        if _position(log) <= position:
            async with asyncio.timeout(wait_s):
                await grown.wait()
    except TimeoutError:
        pass
    finally:
        forget()
