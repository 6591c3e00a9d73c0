"""The archive of the log over the admin API: let positions leave the databases, how far this node is, its segments.

A segment that a node has lost is fetched from another by the command line, and proven here before it counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from pathlib import Path
from typing import Any

from aiohttp import web

from actors.custody import CUSTODY, ArchiveLog, archived_to
from actors.errors import NotAllowed
from eventlog.archived import Segment
from eventlog.custody import ArchivedSegment
from eventlog.erasure import ErasureError
from eventlog.segment_frames import SegmentError
from eventlog.segments import PARTIAL, SEGMENT_BYTES
from nodes import jobs
from nodes.http.admin import catch_up, context, count_field, json_body, services
from nodes.http.errors import ApiError, bad_request
from nodes.http.log import stream_job
from nodes.log_selection import last_before
from nodes.services import Services

ROUTES = web.RouteTableDef()
MOST_FILE_BYTES = 1 << 30
COPY_BYTES = 256 * 1024
SEGMENT = r"/v1/log/archive/{first:\d{1,18}}-{last:\d{1,18}}"


@ROUTES.get("/v1/log/archive")
async def status(request: web.Request) -> web.Response:
    """How far this node is, and which segments it has."""
    archivist, archive = services(request).log.archivist, services(request).log.store.archive
    files = [
        {"first": one.first, "last": one.last, "size_bytes": _size(archive.path(one))} for one in archivist.segments()
    ]
    return web.json_response({**archivist.status()._asdict(), "files": files})


@ROUTES.post("/v1/log/archive")
async def create(request: web.Request) -> web.Response:
    """{"before": position} or {"before_ms": time}, "segment_bytes", "dry_run": positions before it may leave.

    Answers with the segments that were committed, at most so many at once: where "last" is not reached, once more.
    """
    body = await json_body(request)
    node, dry_run = services(request), body.get("dry_run") is True
    if await catch_up(request) and not dry_run:
        raise ApiError(503, "not_ready", "no majority of the cell answers, so nothing was archived")
    first, last = _range(node, body)
    size_bytes = count_field(body, "segment_bytes") or SEGMENT_BYTES
    segments = await _plan(node, first, last, size_bytes) if first <= last else ()
    position = 0
    if segments and not dry_run:
        try:
            position = (await node.runtime.ask(CUSTODY, ArchiveLog(segments), context(request))).position
        except NotAllowed as refusal:
            raise ApiError(409, "conflict", f"it changed meanwhile: {refusal}", "the command again") from None
    found = [{"first": one.first, "last": one.last} for one in segments]
    return web.json_response({"first": first, "last": last, "segments": found, "position": position})


@ROUTES.post("/v1/log/archive/verify")
async def verify(request: web.Request) -> web.StreamResponse:
    """Lines of JSON: {"progress": [done, total]}, then {"result": {"segments", "last", "damaged"}}."""
    return await stream_job(request, "archive-verify")


@ROUTES.post("/v1/log/archive/compact")
async def compact(request: web.Request) -> web.Response:
    """Writes this node's database anew, so that its file holds no room that is free; answers when it has done so."""
    log = services(request).log
    file = log.store.path / "data.mdb"
    before_bytes = file.stat().st_size
    try:
        await log.eraser.rewrite()
    except ErasureError as error:
        raise ApiError(503, "failed", str(error), "room on its disk; it is tried again") from None
    return web.json_response({"before_bytes": before_bytes, "after_bytes": file.stat().st_size})


@ROUTES.get(SEGMENT)
async def send(request: web.Request) -> web.StreamResponse:
    """A segment as this node has it."""
    segment = _segment(request)
    return web.FileResponse(services(request).log.store.archive.path(segment))


@ROUTES.put(SEGMENT)
async def install(request: web.Request) -> web.Response:
    """A segment that another node made (/v1/log/segment), for one that is missing or damaged here.

    Refused if it is not what the chain says.
    """
    segment, log = _segment(request), services(request).log
    partial = log.store.archive.path(segment).with_suffix(f".sent-{os.urandom(4).hex()}{PARTIAL}")
    log.store.archive.folder.mkdir(mode=0o700, exist_ok=True)
    try:
        await _receive(request, partial)
        await log.archivist.install(segment, partial)
    except SegmentError as error:
        raise ApiError(422, "refused", str(error), "the segment of another node") from None
    finally:
        partial.unlink(missing_ok=True)
    return web.json_response({"first": segment.first, "last": segment.last})


async def _receive(request: web.Request, path: Path) -> None:
    received = 0
    with path.open("xb") as file:
        async for data in request.content.iter_chunked(COPY_BYTES):
            received += len(data)
            if received > MOST_FILE_BYTES:
                raise bad_request(f"a segment has at most {MOST_FILE_BYTES} bytes")
            await asyncio.to_thread(file.write, data)
        file.flush()
        await asyncio.to_thread(os.fsync, file.fileno())


def _segment(request: web.Request) -> Segment:
    segment = Segment(int(request.match_info["first"]), int(request.match_info["last"]))
    if segment not in services(request).log.archivist.segments():
        raise ApiError(404, "not_found", f"this node has no segment of {segment.first} to {segment.last}")
    return segment


def _range(node: Services, body: dict[str, Any]) -> tuple[int, int]:
    """The positions that are asked for and not archived yet; none where the second is below the first."""
    before, before_ms = count_field(body, "before"), count_field(body, "before_ms")
    if (before is None) == (before_ms is None):
        raise bad_request("before, before_ms: one of both, a position or a time")
    with node.log.snapshot() as snapshot:
        last = (
            last_before(snapshot, before_ms - 1) if before_ms is not None else min((before or 0) - 1, snapshot.position)
        )
        return archived_to(snapshot.view(CUSTODY)) + 1, last


async def _plan(node: Services, first: int, last: int, size_bytes: int) -> tuple[ArchivedSegment, ...]:
    result: dict[str, Any] = {}
    arguments = (str(first), str(last), str(size_bytes))
    async with contextlib.aclosing(jobs.run("archive-plan", node.config.node.data_dir, *arguments)) as lines:
        async for line in lines:
            result = json.loads(line)
    if "result" not in result:
        raise ApiError(500, "internal", result.get("error", "the log could not be read"), "read the node's log")
    return tuple(
        ArchivedSegment(begin, end, bytes.fromhex(before), bytes.fromhex(after))
        for begin, end, before, after in result["result"]["segments"]
    )


def _size(path: Path) -> int | None:
    """None where the file is missing."""
    try:
        return path.stat().st_size
    except OSError:
        return None
