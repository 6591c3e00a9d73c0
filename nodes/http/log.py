"""The event log over the admin API: records by position, following the end, proof and refold.

A password's sealed verifiers are never shown. Proof and refold run in a process of their own
(nodes/jobs.py), so that a node that is asked for them goes on serving.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from typing import Any

from aiohttp import web

from eventlog.log import EventLog
from eventlog.store import Snapshot
from nodes import jobs
from nodes.heads import signed_head
from nodes.http.admin import STATE, answer, catch_up, json_body, number_query, services
from nodes.http.errors import bad_request, no_position
from nodes.log_selection import Selection, fits, selection
from nodes.record_json import record_json
from nodes.what_if import RuleError, read_rule

ROUTES = web.RouteTableDef()
MOST_RECORDS = 1000
MOST_WAIT_S = 20


@ROUTES.get("/v1/log")
async def read(request: web.Request) -> web.Response:
    """?last=N: the last N records. ?after=POSITION&wait_s=S: those after it, waiting for the first if there is none.

    ?wanted=JSON leaves out those that a selection (nodes/log_selection.py) does not ask for.
    """
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
        wanted = _selection(snapshot, _json_query(request, "wanted"))
        found = [
            record_json(snapshot, stored.position)
            for stored in snapshot.records(after + 1, end)
            if fits(wanted, stored)
        ]
    return web.json_response({"records": found, "position": end})


@ROUTES.post("/v1/log/records")
async def records(request: web.Request) -> web.StreamResponse:
    """Lines of JSON: {"record": ...} for each that the selection in the body asks for, then {"result": ...}."""
    body = await json_body(request)
    with services(request).log.snapshot() as snapshot:
        _selection(snapshot, body)  # what is wrong with it is said before the answer begins
    return await stream_job(request, "records", json.dumps(body))


@ROUTES.post("/v1/log/what-if")
async def what_if(request: web.Request) -> web.StreamResponse:
    """Lines of JSON: {"difference": ...} for each that {"rule", "selection"} of the body would have made."""
    body = await json_body(request)
    rule, chosen = body.get("rule"), body.get("selection", {})
    if not isinstance(rule, dict) or not isinstance(chosen, dict):
        raise bad_request("rule and selection: must be objects")
    with services(request).log.snapshot() as snapshot:
        _selection(snapshot, chosen)
    try:
        read_rule(rule)
    except RuleError as error:
        raise bad_request(str(error)) from None
    return await stream_job(request, "what-if", json.dumps(body))


@ROUTES.get("/v1/log/anchor")
async def anchor(request: web.Request) -> web.Response:
    """The chain at ?position=N (the newest where none is given), signed with the key of this node's certificate."""
    node = services(request)
    position = number_query(request, "position", None)
    stale = await catch_up(request)
    with node.log.snapshot() as snapshot:
        stored = snapshot.record(snapshot.position if position is None else position)
        if stored is None or stored.chain is None:
            raise no_position(position or 0, snapshot.position)
    return answer(signed_head(node.config, stored.position, stored.at_ms, stored.chain), stale=stale)


@ROUTES.get("/v1/log/heads")
async def heads(request: web.Request) -> web.Response:
    """The heads that this node has signed and keeps: ?after=POSITION&most=N, oldest first."""
    services(request)
    keeper = request.app[STATE].heads
    assert keeper is not None
    after, most = number_query(request, "after", 0), number_query(request, "most", MOST_RECORDS, MOST_RECORDS)
    assert after is not None
    wanted = [position for position in keeper.positions() if position > after][:most]
    return web.json_response({"heads": [found for one in wanted if (found := keeper.kept(one)) is not None]})


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
    """Lines of JSON: {"progress": [done, total]} any number of times, then {"result": ...} or {"error": ...}.

    A verification with ?at=N,M gives the chain at those positions too.
    """
    job = request.match_info["job"]
    return await stream_job(request, job, *([_positions(request)] if job == "verify" else []))


async def stream_job(request: web.Request, job: str, *arguments: str) -> web.StreamResponse:
    path = services(request).config.node.data_dir
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    # a client that goes away is no fault; the job's process ends with the block
    with contextlib.suppress(ConnectionResetError):
        await response.prepare(request)
        async with contextlib.aclosing(jobs.run(job, path, *arguments)) as lines:
            async for line in lines:
                await response.write(line)
        await response.write_eof()
    return response


def _positions(request: web.Request) -> str:
    text = request.query.get("at", "")
    if not re.fullmatch(r"(\d{1,19}(,\d{1,19}){0,99})?", text, re.ASCII):
        raise bad_request("at: positions, separated by commas")
    return text


def _json_query(request: web.Request, name: str) -> dict[str, Any]:
    try:
        value = json.loads(request.query.get(name, "{}"))
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise bad_request(f"{name}: must be a JSON object")
    return value


def _selection(snapshot: Snapshot, wanted: dict[str, Any]) -> Selection:
    try:
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
