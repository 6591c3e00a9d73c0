"""A mailbox over the admin API, now or as it was: folders, UIDs, flags and digests, never what a message says."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from aiohttp import web

from actors import directory, mailbox
from actors.registry import fold_event
from eventlog.replay import view_as_of
from eventlog.store import Snapshot
from eventlog.views import View
from nodes.http.admin import answer_text, catch_up, number_query, services
from nodes.http.errors import bad_request

ROUTES = web.RouteTableDef()
SLICE = 500
_encode = json.JSONEncoder().encode


@ROUTES.get("/v1/mailboxes/{address}")
async def show(request: web.Request) -> web.Response:
    """?position=N or ?at_ms=N shows it as of then."""
    log = services(request).log
    position = number_query(request, "position", None)
    at_ms = number_query(request, "at_ms", None)
    if position is not None and at_ms is not None:
        raise bad_request("position and at_ms: one of them only")
    stale = await catch_up(request)

    def read() -> str:
        with log.snapshot() as snapshot:
            return _read(snapshot, request.match_info["address"], position, at_ms)

    # folding a long history takes a while: not on the event loop
    return answer_text(await asyncio.to_thread(read), stale=stale)


def _read(snapshot: Snapshot, address: str, position: int | None, at_ms: int | None) -> str:
    account = directory.account_of(snapshot, address).account
    view: View = snapshot.view(account)
    if position is not None or at_ms is not None:
        view = view_as_of(snapshot, account, fold_event, position=position, at_ms=at_ms)
    folders = ", ".join(_folder_json(view, folder) for folder in mailbox.folders(view))
    return f'{{"folders": [{folders}]}}'


def _folder_json(view: View, folder: mailbox.Folder) -> str:
    counters = mailbox.counters(view, folder.id)
    head = {
        "name": folder.name,
        "uidvalidity": folder.uidvalidity,
        "uidnext": counters.uidnext,
        "highestmodseq": counters.highestmodseq,
    }
    return f'{_encode(head)[:-1]}, "messages": [{", ".join(_message_slices(view, folder.id))}]}}'


def _message_slices(view: View, folder_id: bytes) -> Iterator[str]:
    """JSON of so many messages at a time: encoding holds Python's lock, and the consensus thread must have its turn."""
    messages = mailbox.messages(view, folder_id)
    while some := [_message_json(message) for message in itertools.islice(messages, SLICE)]:
        yield _encode(some)[1:-1]


def _message_json(message: mailbox.Message) -> dict[str, Any]:
    seconds, milliseconds = divmod(message.internaldate_ms, 1000)
    return {
        "uid": message.uid,
        "flags": list(message.flags),
        "size": message.size,
        "sha256": message.digest.hex(),
        "internaldate": f"{_to_the_second(seconds)}.{milliseconds:03}Z",
    }


@lru_cache(4096)
def _to_the_second(seconds: int) -> str:
    # mail comes in bursts: of a hundred thousand messages, many share their second
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
