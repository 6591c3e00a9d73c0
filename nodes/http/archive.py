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
from pydantic import Field

from actors.custody import CUSTODY, ArchiveLog, archived_to
from actors.errors import NotAllowed
from eventlog.archived import Segment
from eventlog.custody import ArchivedSegment
from eventlog.erasure import ErasureError
from eventlog.segment_frames import SegmentError
from eventlog.segments import PARTIAL, SEGMENT_BYTES
from nodes import jobs
from nodes.http.calls import Call
from nodes.http.endpoint import Bytes, Endpoints
from nodes.http.errors import ApiError, bad_request
from nodes.http.models import Count, Model, Page, PageQuery
from nodes.http.pages import page
from nodes.http.places import CLUSTER
from nodes.http.streams import lines_of, stream_job
from nodes.log_selection import last_before
from nodes.services import Services

ENDPOINTS = Endpoints("archive")
MOST_FILE_BYTES = 1 << 30
COPY_BYTES = 256 * 1024
SEGMENT = r"/v1/log/archive/{first:\d{1,18}}-{last:\d{1,18}}"


class SegmentRange(Model):
    """Positions of the log."""

    first: int = Field(examples=[1])
    last: int = Field(examples=[1000])


class SegmentFile(SegmentRange):
    """A segment of this node; its size is null where its file is missing."""

    size_bytes: int | None


class ArchiveStatus(Page):
    """Last positions: that may be archived, that are in files, that have left the database."""

    wanted: int
    archived: int
    swept: int
    segments: int
    size_bytes: int
    error: str | None = Field(description="Why the last attempt failed; it is made again.", examples=[None])
    files: list[SegmentFile]


class Archival(Model):
    """`before` or `before_ms`: positions before it may leave the database."""

    before: Count | None = None
    before_ms: Count | None = None
    segment_bytes: Count | None = None
    dry_run: bool = False


class Archived(Model):
    """At most so many segments at once: where `last` is not reached, once more."""

    first: int
    last: int
    segments: list[SegmentRange]
    position: int = Field(description="Where the log says so; 0 where nothing was done.")


class Compacted(Model):
    """What the file had, and has."""

    before_bytes: int
    after_bytes: int


@ENDPOINTS.get("/v1/log/archive", "log:read", CLUSTER, ArchiveStatus, reads="local")
async def status(call: Call, query: PageQuery) -> dict[str, Any]:
    """Tell how far this node is with archiving, and which segments it has."""
    archivist, archive = call.services.log.archivist, call.services.log.store.archive
    files, following = page(
        archivist.segments(),
        lambda one: (one.first,),
        query,
        lambda one: {"first": one.first, "last": one.last, "size_bytes": _size(archive.path(one))},
    )
    return {**archivist.status()._asdict(), "files": files, "next": following}


@ENDPOINTS.post("/v1/log/archive", "log:write", CLUSTER, Archived, reads="fresh", once=False)
async def create(call: Call, body: Archival) -> dict[str, Any]:
    """Let positions of the log leave the databases."""
    node, dry_run = call.services, body.dry_run
    if call.stale and not dry_run:
        raise ApiError(503, "not_ready", "no majority of the cell answers, so nothing was archived")
    first, last = _range(node, body)
    size_bytes = body.segment_bytes or SEGMENT_BYTES
    segments = await _plan(node, first, last, size_bytes) if first <= last else ()
    position = 0
    if segments and not dry_run:
        try:
            position = (await node.runtime.ask(CUSTODY, ArchiveLog(segments), call.context)).position
        except NotAllowed as refusal:
            raise ApiError(409, "conflict", f"it changed meanwhile: {refusal}", "the command again") from None
    found = [{"first": one.first, "last": one.last} for one in segments]
    return {"first": first, "last": last, "segments": found, "position": position}


@ENDPOINTS.post("/v1/log/archive/verify", "log:read", CLUSTER, lines_of(), reads="local")
async def verify(call: Call) -> web.StreamResponse:
    """Prove every segment of this node against the chain.

    The result has `segments`, `last` and `damaged`.
    """
    return await stream_job(call, "archive-verify")


@ENDPOINTS.post("/v1/log/archive/compact", "cluster:write", CLUSTER, Compacted, reads="local", once=False)
async def compact(call: Call) -> dict[str, Any]:
    """Write this node's database anew, so that its file holds no room that is free.

    It answers when it has done so.
    """
    log = call.services.log
    file = log.store.path / "data.mdb"
    before_bytes = file.stat().st_size
    try:
        await log.eraser.rewrite()
    except ErasureError as error:
        raise ApiError(503, "internal", str(error), code="archive_failed") from None
    return {"before_bytes": before_bytes, "after_bytes": file.stat().st_size}


@ENDPOINTS.get(SEGMENT, "backup:read", CLUSTER, Bytes(), reads="local")
async def send(call: Call) -> web.StreamResponse:
    """Send a segment as this node has it."""
    return web.FileResponse(call.services.log.store.archive.path(_segment(call)))


@ENDPOINTS.put(SEGMENT, "backup:write", CLUSTER, SegmentRange, reads="local", body=Bytes())
async def install(call: Call) -> dict[str, Any]:
    """Give this node a segment that another made (/v1/log/segment), for one that is missing or damaged here.

    Refused if it is not what the chain says.
    """
    segment, log = _segment(call), call.services.log
    partial = log.store.archive.path(segment).with_suffix(f".sent-{os.urandom(4).hex()}{PARTIAL}")
    log.store.archive.folder.mkdir(mode=0o700, exist_ok=True)
    try:
        await _receive(call.request, partial)
        call.still_good()
        await log.archivist.install(segment, partial)
    except SegmentError as error:
        raise ApiError(422, "refused", str(error), "the segment of another node") from None
    finally:
        partial.unlink(missing_ok=True)
    return {"first": segment.first, "last": segment.last}


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


def _segment(call: Call) -> Segment:
    segment = Segment(int(call.path["first"]), int(call.path["last"]))
    if segment not in call.services.log.archivist.segments():
        raise ApiError(404, "not_found", f"this node has no segment of {segment.first} to {segment.last}")
    return segment


def _range(node: Services, body: Archival) -> tuple[int, int]:
    """The positions that are asked for and not archived yet; none where the second is below the first."""
    before, before_ms = body.before, body.before_ms
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
