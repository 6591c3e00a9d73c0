"""The log as somebody of one tenant sees it: the tenant's events and bodies, and nothing of others'.

A record that holds nothing of the tenant is not there for them. That positions are numbered without gaps is no secret.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

from aiohttp import web

from actors import mailbox
from actors.directory import domain_tenant
from actors.errors import InvalidName
from actors.names import normalise_address
from eventlog.store import Snapshot, StoredRecord
from nodes import jobs
from nodes.http.calls import Call
from nodes.http.streams import JSON_LINES
from nodes.record_json import record_json


def record_shown(tenant: bytes | None, snapshot: Snapshot, stored: StoredRecord) -> dict[str, Any] | None:
    """The record as JSON; for a tenant without what is others', None where nothing is left."""
    if tenant is None:
        return record_json(snapshot, stored.position)
    record = stored.record
    if record is None or not any(event.tenant == tenant for event in record.events):
        return None
    found = record_json(snapshot, stored.position)
    found["events"] = [shown for shown, event in zip(found["events"], record.events) if event.tenant == tenant]
    if record.by.kind == "account" and mailbox.tenant_of(snapshot.view(record.by.id)) != tenant:
        found["by"] = {"kind": "account", "id": None, "origin": "another tenant", "address": None}
    found["bodies"] = [shown for shown, body in zip(found["bodies"], record.bodies) if body.tenant == tenant]
    return found


def own_selection(tenant: bytes, snapshot: Snapshot, wanted: dict[str, Any]) -> None:
    """Raises ValueError where a selection names an address of others, as for one that nobody ever had."""
    address = wanted.get("account")
    if not isinstance(address, str):
        return
    try:
        domain = normalise_address(address).rpartition("@")[2]
    except InvalidName:
        return  # the selection says what is wrong with it
    if domain_tenant(snapshot, domain) != tenant:
        raise ValueError(f"account: the log knows of no {address}")


async def stream_own_records(call: Call, tenant: bytes, wanted: str) -> web.StreamResponse:
    """What the job `records` prints, of this tenant alone."""
    log, path = call.services.log, call.services.config.node.data_dir
    response = web.StreamResponse(headers={"Content-Type": JSON_LINES})
    count = 0
    with contextlib.suppress(ConnectionResetError):  # a client that goes away is no fault
        await response.prepare(call.request)
        async with contextlib.aclosing(jobs.run("records", path, wanted)) as lines:
            async for line in lines:
                told = json.loads(line)
                if "record" in told:
                    with log.snapshot() as snapshot:
                        stored = snapshot.record(told["record"]["position"])
                        shown = record_shown(tenant, snapshot, stored) if stored is not None else None
                    if shown is None:
                        continue
                    count, told = count + 1, {"record": shown}
                elif "result" in told:
                    told["result"]["records"] = count
                await response.write(json.dumps(told).encode() + b"\n")
        await response.write_eof()
    return response
