"""A mailbox over the admin API, now or as it was."""

from __future__ import annotations

import asyncio

from aiohttp import web

from actors import directory
from eventlog.log import EventLog
from nodes import jobs
from nodes.http.admin import answer_text, catch_up, number_query, services, stale_header
from nodes.http.errors import bad_request
from nodes.mailbox_json import mailbox_json

ROUTES = web.RouteTableDef()


@ROUTES.get("/v1/mailboxes/{address}")
async def show(request: web.Request) -> web.StreamResponse:
    """?position=N or ?at_ms=N shows it as of then."""
    log = services(request).log
    position = number_query(request, "position", None)
    at_ms = number_query(request, "at_ms", None)
    if position is not None and at_ms is not None:
        raise bad_request("position and at_ms: one of them only")
    stale = await catch_up(request)
    with log.snapshot() as snapshot:
        account = directory.account_of(snapshot, request.match_info["address"]).account
    if position is None and at_ms is None:
        return answer_text(await asyncio.to_thread(_now, log, account), stale=stale)
    return await _as_of(request, account, position, at_ms, stale)


def _now(log: EventLog, account: bytes) -> str:
    with log.snapshot() as snapshot:
        return "".join(mailbox_json(snapshot.view(account)))


async def _as_of(
    request: web.Request, account: bytes, position: int | None, at_ms: int | None, stale: bool
) -> web.StreamResponse:
    """Folds in a process of its own: a long history would keep the interpreter from the consensus thread."""
    moment = ("position", position) if position is not None else ("at_ms", at_ms)
    path = services(request).config.node.data_dir
    response = web.StreamResponse(headers={"Content-Type": "application/json", **stale_header(stale)})
    async with jobs.started("mailbox", path, account.hex(), moment[0], str(moment[1])) as process:
        first = await jobs.output(process)
        await response.prepare(request)
        await response.write(first)
        while data := await jobs.output(process):
            await response.write(data)
    await response.write_eof()
    return response
