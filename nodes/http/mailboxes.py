"""A mailbox over the admin API, now or as it was.

Whose mailbox an address meant is asked of the log too: the name as it was held then, not as it is held now.
"""

from __future__ import annotations

import asyncio
import contextlib

from aiohttp import web

from actors import directory
from actors.names import address_name, holder, name_stream, normalise_address
from actors.registry import fold_event
from eventlog.log import EventLog
from eventlog.replay import view_as_of
from eventlog.store import Snapshot
from nodes import jobs
from nodes.http.admin import answer_text, catch_up, number_query, services, stale_header
from nodes.http.errors import ApiError, bad_request, no_position
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
    address = normalise_address(request.match_info["address"])
    if position is None and at_ms is None:
        return answer_text(await asyncio.to_thread(_now, log, address), stale=stale)
    with log.snapshot() as snapshot:
        account = _account_then(snapshot, address, position, at_ms)
    return await _as_of(request, account, position, at_ms, stale)


def _now(log: EventLog, address: str) -> str:
    with log.snapshot() as snapshot:
        account = directory.account_of(snapshot, address).account
        return "".join(mailbox_json(snapshot.view(account)))


def _account_then(snapshot: Snapshot, address: str, position: int | None, at_ms: int | None) -> bytes:
    """The account that held the address then, which may be gone, or another than now. Raises ApiError.

    A name's stream holds a handful of records, so this is folded in place.
    """
    if position is not None and not 1 <= position <= snapshot.position:
        raise no_position(position, snapshot.position)
    stream = name_stream(address_name(address))
    held = holder(view_as_of(snapshot, stream, fold_event, position=position, at_ms=at_ms))
    if held is None:
        raise ApiError(404, "not_found", f"there was no account {address} then", "a later moment, or another address")
    if held.purpose != "account":
        hint = "the mailbox of an account that it led to: mailraft log tail and log show tell of AliasAdded"
        raise ApiError(404, "not_found", f"{address} was an alias then, and has no mailbox", hint)
    return held.owner


async def _as_of(
    request: web.Request, account: bytes, position: int | None, at_ms: int | None, stale: bool
) -> web.StreamResponse:
    """Folds in a process of its own: a long history would keep the interpreter from the consensus thread."""
    moment = ("position", position) if position is not None else ("at_ms", at_ms)
    path = services(request).config.node.data_dir
    response = web.StreamResponse(headers={"Content-Type": "application/json", **stale_header(stale)})
    async with jobs.started("mailbox", path, account.hex(), moment[0], str(moment[1])) as process:
        data = await jobs.output(process)
        with contextlib.suppress(ConnectionResetError):  # a client that goes away is no fault
            await response.prepare(request)
            while data:
                await response.write(data)
                data = await jobs.output(process)
            await response.write_eof()
    return response
