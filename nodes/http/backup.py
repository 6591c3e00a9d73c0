"""Segments of the log, and tables, over the admin API, for backups of a cell that runs.

Made by a process of its own (nodes/jobs.py), so that the node goes on serving; they leave it unencrypted inside TLS:
the key of a backup stays with the one who makes it.
"""

from __future__ import annotations

import contextlib

from aiohttp import web

from eventlog.segments import SEGMENT_BYTES
from nodes import jobs
from nodes.http.admin import number_query, services
from nodes.http.errors import bad_request, no_position

ROUTES = web.RouteTableDef()


@ROUTES.post("/v1/log/segment")
async def segment(request: web.Request) -> web.StreamResponse:
    """?first=P&last=Q&most_bytes=N: the positions from P on, as one segment: to Q, or until it holds N bytes."""
    found = services(request)
    most_bytes = number_query(request, "most_bytes", SEGMENT_BYTES)
    first, last = number_query(request, "first", None), number_query(request, "last", None)
    if first is None or last is None or not 0 < first <= last:
        raise bad_request("first, last: two positions, the first of them not the greater")
    with found.log.snapshot() as snapshot:
        if last > snapshot.position:
            raise no_position(last, snapshot.position)
    return await _stream(request, "segment", str(first), str(last), str(most_bytes))


@ROUTES.post("/v1/log/tables")
async def tables(request: web.Request) -> web.StreamResponse:
    """The tables as of a position that is folded here, which their header names (eventlog/backup_tables.py)."""
    return await _stream(request, "tables")


async def _stream(request: web.Request, job: str, *arguments: str) -> web.StreamResponse:
    node = services(request).config.node
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    async with jobs.started(job, node.data_dir, node.cluster_id, *arguments) as process:
        # a client that goes away is no fault; one that gets less than the whole sees that it is not
        with contextlib.suppress(ConnectionResetError):
            await response.prepare(request)
            while data := await jobs.output(process):
                await response.write(data)
            await response.write_eof()
    return response
