"""A mailbox over the admin API, now or as it was.

Whose mailbox an address meant is asked of the log too: the name as it was held then, not as it is held now.
"""

from __future__ import annotations

import asyncio
import contextlib

from aiohttp import web
from pydantic import ConfigDict, Field

from actors import directory
from actors.errors import NoSuchAccount
from actors.names import NameHolder, address_name, holder, name_stream, normalise_address
from actors.registry import fold_event
from eventlog.log import EventLog
from eventlog.replay import view_as_of
from eventlog.store import Snapshot
from nodes import jobs
from nodes.http.calls import Call, stale_header
from nodes.http.endpoint import Endpoints
from nodes.http.errors import ApiError, bad_request, no_position
from nodes.http.models import MOST_NUMBER, Milliseconds, Model, Query
from nodes.http.places import Place, Subject
from nodes.logins.callers import knows
from nodes.mailbox_json import mailbox_json

ENDPOINTS = Endpoints("mailboxes")


class MomentQuery(Query):
    """As it is, or as it was at a position or time."""

    position: int | None = Field(None, ge=0, le=MOST_NUMBER)
    at_ms: Milliseconds | None = None


class Message(Model):
    """Never what it says."""

    model_config = ConfigDict(extra="allow")

    uid: int
    flags: list[str] = Field(examples=[["\\Seen"]])
    size: int
    sha256: str
    internaldate: str = Field(examples=["2026-11-01T10:00:00.000Z"])


class Folder(Model):
    """One folder with its messages."""

    name: str = Field(examples=["INBOX"])
    uidvalidity: int
    uidnext: int
    highestmodseq: int
    messages: list[Message]


class Mailbox(Model):
    """All folders of an account."""

    folders: list[Folder]


def _of_then(snapshot: Snapshot, call: Call) -> Subject:
    """Whose the address is, or was at the moment that is asked for."""
    query = call.query
    assert isinstance(query, MomentQuery)
    address = normalise_address(call.path["address"])
    if query.position is None and query.at_ms is None:
        found = directory.account_of(snapshot, address)
        return Subject(found.tenant, found.account)
    held = _holder_then(snapshot, address, query.position, query.at_ms)
    if held.purpose != "account" and knows(call.caller, held.tenant):
        hint = "the mailbox of an account that it led to: mailraft log tail and log show tell of AliasAdded"
        raise ApiError(404, "not_found", f"{address} was an alias then, and has no mailbox", hint, code="was_an_alias")
    return Subject(held.tenant, held.owner)


def _missing(call: Call) -> NoSuchAccount:
    address, query = normalise_address(call.path["address"]), call.query
    assert isinstance(query, MomentQuery)
    if query.position is None and query.at_ms is None:
        return NoSuchAccount(f"there is no account {address}")
    return NoSuchAccount(f"there was no account {address} then")


PLACE = Place("the account that has, or had, the address", _of_then, _missing)


@ENDPOINTS.get(
    "/v1/mailboxes/{address}", "mailboxes:read", PLACE, Mailbox, problems=("no_such_position", "no_such_account")
)
async def show(call: Call, query: MomentQuery) -> web.StreamResponse:
    """Show a mailbox, as it is or as it was: folders, UIDs, flags and digests, never what a message says."""
    if query.position is not None and query.at_ms is not None:
        raise bad_request("position and at_ms: one of them only")
    account = call.subject.account
    assert account is not None
    if query.position is None and query.at_ms is None:
        text = await asyncio.to_thread(_now, call.services.log, account)
        return web.Response(text=text, content_type="application/json", headers=stale_header(call.stale))
    return await _as_of(call, account, query.position, query.at_ms)


def _now(log: EventLog, account: bytes) -> str:
    with log.snapshot() as snapshot:
        return "".join(mailbox_json(snapshot.view(account)))


def _holder_then(snapshot: Snapshot, address: str, position: int | None, at_ms: int | None) -> NameHolder:
    """Who held the address then, which may be gone, or another than now. Raises ApiError, NoSuchAccount.

    A name's stream holds a handful of records, so this is folded in place.
    """
    if position is not None and not 1 <= position <= snapshot.position:
        raise no_position(position, snapshot.position)
    stream = name_stream(address_name(address))
    held = holder(view_as_of(snapshot, stream, fold_event, position=position, at_ms=at_ms))
    if held is None:
        raise NoSuchAccount
    return held


async def _as_of(call: Call, account: bytes, position: int | None, at_ms: int | None) -> web.StreamResponse:
    """Folds in a process of its own: a long history would keep the interpreter from the consensus thread."""
    moment = ("position", position) if position is not None else ("at_ms", at_ms)
    path = call.services.config.node.data_dir
    response = web.StreamResponse(headers={"Content-Type": "application/json", **stale_header(call.stale)})
    async with jobs.started("mailbox", path, account.hex(), moment[0], str(moment[1])) as process:
        data = await jobs.output(process)
        with contextlib.suppress(ConnectionResetError):  # a client that goes away is no fault
            await response.prepare(call.request)
            while data:
                await response.write(data)
                data = await jobs.output(process)
            await response.write_eof()
    return response
