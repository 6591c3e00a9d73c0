"""The event log over the admin API: records by position, following the end, proof and refold.

A password's sealed verifiers are never shown. Proof and refold run in a process of their own
(nodes/jobs.py), so that a node that is asked for them goes on serving.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from aiohttp import web

from eventlog.log import EventLog
from nodes import jobs
from nodes.http.admin import answer, catch_up, number_query, services
from nodes.http.errors import no_position
from nodes.record_json import record_json

ROUTES = web.RouteTableDef()
MOST_RECORDS = 1000
MOST_WAIT_S = 20


@ROUTES.get("/v1/log")
async def read(request: web.Request) -> web.Response:
    """?last=N: the last N records. ?after=POSITION&wait_s=S: those after it, waiting for the first if there is none."""
    log = services(request).log
    last = number_query(request, "last", 20, MOST_RECORDS)
    wait_s = number_query(request, "wait_s", 0, MOST_WAIT_S)
    assert last is not None
    assert wait_s is not None
    after = number_query(request, "after", None)
    if after is None:
        after = max(0, _position(log) - last)
    elif wait_s:
        await _wait_beyond(log, after, wait_s)
    with log.snapshot() as snapshot:
        end = min(snapshot.position, after + MOST_RECORDS)
        found = [record_json(snapshot, position) for position in range(after + 1, end + 1)]
    return web.json_response({"records": found, "position": end})


@ROUTES.get("/v1/log/{position:\\d{1,30}}")
async def show(request: web.Request) -> web.Response:
    log = services(request).log
    position = int(request.match_info["position"])
    stale = await catch_up(request)
    with log.snapshot() as snapshot:
        if not 1 <= position <= snapshot.position:
            raise no_position(position, snapshot.position)
        return answer(record_json(snapshot, position), stale=stale)


@ROUTES.post("/v1/log/{job:verify|rebuild}")
async def run_job(request: web.Request) -> web.StreamResponse:
    """Lines of JSON: {"progress": [done, total]} any number of times, then {"result": ...} or {"error": ...}."""
    path = services(request).config.node.data_dir
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    # a client that goes away is no fault; the job's process ends with the block
    with contextlib.suppress(ConnectionResetError):
        await response.prepare(request)
        async with contextlib.aclosing(jobs.run(request.match_info["job"], path)) as lines:
            async for line in lines:
                await response.write(line)
        await response.write_eof()
    return response


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
