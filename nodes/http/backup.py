"""Segments of the log, and tables, over the admin API, for backups of a cell that runs.

Made by a process of its own (nodes/jobs.py), so that the node goes on serving; they leave it unencrypted inside TLS:
the key of a backup stays with the one who makes it.
"""

from __future__ import annotations

from aiohttp import web
from pydantic import Field

from eventlog.segments import SEGMENT_BYTES
from nodes.http.calls import Call
from nodes.http.endpoint import Bytes, Endpoints
from nodes.http.errors import bad_request, no_position
from nodes.http.models import MOST_NUMBER, Query
from nodes.http.places import CLUSTER
from nodes.http.streams import stream_bytes

ENDPOINTS = Endpoints("backup")


class SegmentQuery(Query):
    """Two positions, the first of them not the greater."""

    first: int = Field(ge=1, le=MOST_NUMBER)
    last: int = Field(ge=1, le=MOST_NUMBER)
    most_bytes: int = Field(SEGMENT_BYTES, ge=1, le=MOST_NUMBER)


@ENDPOINTS.post("/v1/log/segment", "backup:read", CLUSTER, Bytes(), reads="local", problems=("no_such_position",))
async def segment(call: Call, query: SegmentQuery) -> web.StreamResponse:
    """Send the positions from `first` on as one segment: to `last`, or until it holds `most_bytes`."""
    if query.first > query.last:
        raise bad_request("first, last: two positions, the first of them not the greater")
    with call.services.log.snapshot() as snapshot:
        if query.last > snapshot.position:
            raise no_position(query.last, snapshot.position)
    return await stream_bytes(call, "segment", str(query.first), str(query.last), str(query.most_bytes))


@ENDPOINTS.post("/v1/log/tables", "backup:read", CLUSTER, Bytes(), reads="local")
async def tables(call: Call) -> web.StreamResponse:
    """Send the tables as of a position that is folded here, which their header names (eventlog/backup_tables.py)."""
    return await stream_bytes(call, "tables")
