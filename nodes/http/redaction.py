"""Custody of the log over the admin API: quarantine, redaction, and how far a node has come with erasing."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from aiohttp import web

from actors.custody import CUSTODY, MAX_REASON_CHARACTERS, Quarantine, Redact
from actors.errors import NoSuchItem, NotAllowed
from actors.kind import Command
from actors.mailbox import RedactFolderNames, RedactMessages
from actors.names import normalise_domain
from actors.queue import RemoveItem, item
from actors.redaction import PLACEHOLDER
from actors.runtime import Done, NewBody
from nodes import jobs
from nodes.http.admin import catch_up, context, json_body, number_query, services, text_field
from nodes.http.errors import ApiError, bad_request
from nodes.redaction import Plan, unpacked
from nodes.services import Services

ROUTES = web.RouteTableDef()
MOST_ROUNDS = 3
DIGEST_CHARACTERS = 64


@ROUTES.post("/v1/log/{position:\\d{1,18}}/quarantine")
async def quarantine(request: web.Request) -> web.Response:
    """{"reason"}: passes over the record at which the fold is stalled; answers once this node's fold goes on."""
    node, position = services(request), int(request.match_info["position"])
    reason = text_field(await json_body(request), "reason", MAX_REASON_CHARACTERS)
    status = node.log.status()
    if status.stalled is None:
        raise ApiError(409, "conflict", "the fold is not stalled: there is nothing to quarantine")
    if position != status.applied + 1:
        stalled_at = f"the fold is stalled at {status.applied + 1}, not at {position}"
        raise ApiError(409, "conflict", stalled_at, status.stalled)
    done = await node.runtime.ask(CUSTODY, Quarantine(position, reason), context(request))
    return web.json_response({"position": done.position})


@ROUTES.get("/v1/redactions")
async def erased(request: web.Request) -> web.Response:
    """How far this node is: ?wait_for=POSITION answers once that redaction's bytes are gone, or after wait_s.

    "indexed": whether they are still in the full-text index, which goes on without them.
    """
    eraser, fulltext = services(request).log.eraser, services(request).fulltext
    wait_for = number_query(request, "wait_for", 0)
    wait_s = number_query(request, "wait_s", 0, 20)
    assert wait_for is not None
    assert wait_s is not None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            while eraser.status().erased < wait_for or not (fulltext is None or fulltext.is_free_of(wait_for)):
                await asyncio.sleep(0.1)
    status = eraser.status()
    indexed = fulltext is not None and not fulltext.is_free_of(status.redacted)
    return web.json_response({**status._asdict(), "indexed": indexed})


@ROUTES.post("/v1/redactions")
async def redact(request: web.Request) -> web.Response:
    """{"target": {...}, "reason", "dry_run"}: finds what holds the target and erases it; gives what was found.

    A target is {"message": SHA-256}, {"body": SHA-256}, {"position": N, "event": N or null}, {"dkim": DOMAIN} or
    {"apop": TENANT}.
    """
    body = await json_body(request)
    target, dry_run = _target(body.get("target")), body.get("dry_run") is True
    reason = "" if dry_run else text_field(body, "reason", MAX_REASON_CHARACTERS)
    node = services(request)
    if await catch_up(request) and not dry_run:
        raise ApiError(503, "not_ready", "no majority of the cell answers, so nothing was redacted")
    plan = await _plan(node, target)
    answer = _described(plan)
    if dry_run:
        return web.json_response(answer)
    position, rounds = 0, 0
    while plan is not None and rounds < MOST_ROUNDS:  # what came while it was looked for is found the next time
        position = (await _erase(request, plan, reason)).position
        rounds += 1
        plan = await _plan(node, target, again=True)
    return web.json_response({**answer, "position": position, "complete": plan is None})


def _target(given: Any) -> dict[str, Any]:
    match given:
        case {"message": str(digest)} | {"body": str(digest)} if len(digest) == DIGEST_CHARACTERS:
            try:
                bytes.fromhex(digest)
            except ValueError:
                raise bad_request("a SHA-256 has 64 hexadecimal digits") from None
        case {"position": int(position), "event": int() | None} if position > 0:
            pass
        case {"dkim": str(domain)}:
            return {"dkim": normalise_domain(domain)}
        case {"apop": str(tenant)}:
            return {"apop": tenant}
        case _:
            what = "a message or a body by SHA-256, a position, a domain's DKIM keys, or a tenant's APOP"
            raise bad_request(f"target: {what}", "mailraft mailbox show")
    found: dict[str, Any] = given
    return found


async def _plan(node: Services, target: dict[str, Any], *, again: bool = False) -> Plan | None:
    result: dict[str, Any] = {}
    async with contextlib.aclosing(jobs.run("redaction", node.config.node.data_dir, json.dumps(target))) as lines:
        async for line in lines:
            result = json.loads(line)
    found = result.get("result")
    if found is None:
        raise ApiError(500, "internal", result.get("error", "the log could not be read"), "read the node's log")
    if "nothing" in found:
        if again:
            return None
        raise ApiError(404, "not_found", found["nothing"])
    return unpacked(bytes.fromhex(found["plan"]))


async def _erase(request: web.Request, plan: Plan, reason: str) -> Done:
    """One record: the redaction, and what each mailbox and queue does about it."""
    node = services(request)
    steps: list[tuple[bytes, Command]] = [(CUSTODY, Redact(plan.events, plan.bodies, reason))]
    for stream, _ in plan.mailboxes:
        if plan.digest is not None or plan.message_ids:
            steps.append((stream, RedactMessages(plan.digest, plan.message_ids)))
        if plan.names:
            steps.append((stream, RedactFolderNames(plan.names)))
    with node.log.snapshot() as snapshot:
        steps += [
            (stream, RemoveItem(id_, force=True)) for stream, id_ in plan.items if item(snapshot.view(stream), id_)
        ]
    tenants = dict.fromkeys(tenant for _, tenant in plan.mailboxes) if plan.digest is not None else {}
    try:
        return await node.runtime.transact(
            steps, context(request), [NewBody(tenant, PLACEHOLDER) for tenant in tenants]
        )
    except (NotAllowed, NoSuchItem) as refusal:
        raise ApiError(409, "conflict", f"it changed meanwhile: {refusal}", "the command again") from None


def _described(plan: Plan | None) -> dict[str, Any]:
    assert plan is not None
    return {
        "events": [{"position": one.position, "event": one.ordinal} for one in plan.events],
        "bodies": [{"position": one.position, "sha256": one.key[-32:].hex()} for one in plan.bodies],
        "mailboxes": len(plan.mailboxes),
        "queue_items": len(plan.items),
    }
