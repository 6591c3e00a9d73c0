"""The log as somebody of one tenant sees it: the tenant's events and bodies, and nothing of others'.

A record that holds nothing of the tenant is not there for them. That positions are numbered without gaps is no secret.
"""

from __future__ import annotations

import contextlib
import json
from collections import deque
from typing import Any

from aiohttp import web

from actors import mailbox
from actors.directory import domain_tenant
from actors.errors import InvalidName
from actors.names import normalise_address
from eventlog.log import EventLog
from eventlog.record import By, Record
from eventlog.store import Snapshot, StoredRecord
from nodes import jobs
from nodes.http.calls import Call
from nodes.http.streams import lines_response
from nodes.log_selection import Selection, fits, fits_record, selection
from nodes.record_json import record_json

OTHERS = "another tenant"
MOST_NEWEST = 1000  # records kept until the last of them is known


def is_shown(tenant: bytes | None, snapshot: Snapshot, stored: StoredRecord, wanted: Selection) -> bool:
    """Whether a record fits by what the tenant sees of it: a selection finds nothing by what is others'."""
    if tenant is None:
        return fits(wanted, stored)
    record = stored.record
    return record is not None and fits(wanted, stored) and fits_record(wanted, _own(tenant, snapshot, record))


def _own(tenant: bytes, snapshot: Snapshot, record: Record) -> Record:
    foreign = record.by.kind == "account" and mailbox.tenant_of(snapshot.view(record.by.id)) != tenant
    events = tuple(event for event in record.events if event.tenant == tenant)
    return record._replace(by=By("account", bytes(16), OTHERS) if foreign else record.by, events=events)


def record_shown(tenant: bytes | None, snapshot: Snapshot, stored: StoredRecord) -> dict[str, Any] | None:
    """The record as JSON; for a tenant without what is others', None where nothing is left."""
    if tenant is None:
        return record_json(snapshot, stored.position)
    record = stored.record
    if record is None or not any(event.tenant == tenant for event in record.events):
        return None
    found = record_json(snapshot, stored.position)
    by_others = record.by != _own(tenant, snapshot, record).by
    found["events"] = [shown for shown, event in zip(found["events"], record.events) if event.tenant == tenant]
    if by_others:
        found["by"] = {"kind": "account", "id": None, "origin": OTHERS, "address": None}
        found["cause"] = ""
    if len(found["events"]) < len(record.events):
        found["guards"] = None  # how many there are tells of the others' events
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
    asked = json.loads(wanted)
    newest = asked.pop("newest", None)  # of what is shown, which the job does not know
    with log.snapshot() as snapshot:
        chosen = selection(snapshot, asked)
    last: deque[dict[str, Any]] = deque(maxlen=newest if newest is None else min(newest, MOST_NEWEST))
    response = lines_response(call.request)
    count = 0
    with contextlib.suppress(ConnectionResetError):  # a client that goes away is no fault
        await response.prepare(call.request)
        async with contextlib.aclosing(jobs.run("records", path, json.dumps(asked))) as lines:
            async for line in lines:
                told = json.loads(line)
                if "record" in told:
                    shown = _shown_at(tenant, log, told["record"]["position"], chosen)
                    if shown is None:
                        continue
                    count, told = count + 1, {"record": shown}
                    if newest is not None:
                        last.append(told)
                        continue
                elif "result" in told:
                    for one in last:
                        await response.write(json.dumps(one).encode() + b"\n")
                    told["result"]["records"] = count if newest is None else len(last)
                await response.write(json.dumps(told).encode() + b"\n")
        await response.write_eof()
    return response


def _shown_at(tenant: bytes, log: EventLog, position: int, wanted: Selection) -> dict[str, Any] | None:
    with log.snapshot() as snapshot:
        stored = snapshot.record(position)
        if stored is None or not is_shown(tenant, snapshot, stored, wanted):
            return None
        return record_shown(tenant, snapshot, stored)
