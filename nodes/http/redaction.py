"""Custody of the log over the admin API: quarantine, redaction, and how far a node has come with erasing."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Annotated, Any

from pydantic import Field

from actors.custody import CUSTODY, MAX_REASON_CHARACTERS, Quarantine, Redact
from actors.errors import NoSuchItem, NotAllowed
from actors.kind import Command
from actors.mailbox import RedactFolderNames, RedactMessages
from actors.names import normalise_domain
from actors.queue import RemoveItem, item
from actors.redaction import PLACEHOLDER
from actors.runtime import Done, NewBody
from nodes import jobs
from nodes.http.calls import Call
from nodes.http.endpoint import Endpoints
from nodes.http.errors import ApiError, bad_request
from nodes.http.models import MOST_NUMBER, Count, Domain, Model, Query, TenantName
from nodes.http.places import CLUSTER
from nodes.redaction import Plan, unpacked
from nodes.services import Services

ENDPOINTS = Endpoints("redaction")
MOST_ROUNDS = 3
MOST_WAIT_S = 20
Digest = Annotated[str, Field(pattern="^[0-9a-fA-F]{64}$", description="A SHA-256.", examples=["00" * 32])]
Why = Annotated[str, Field(max_length=MAX_REASON_CHARACTERS, examples=["the person asked for it"])]


class QuarantineReason(Model):
    """For the audit trail."""

    reason: Annotated[Why, Field(min_length=1)]


class Position(Model):
    """Where the log says so."""

    position: int


class ErasureQuery(Query):
    """Answers once that redaction's bytes are gone, or after `wait_s`."""

    wait_for: int = Field(0, ge=0, le=MOST_NUMBER)
    wait_s: int = Field(0, ge=0, le=MOST_WAIT_S)


class Erasure(Model):
    """Positions of redactions, 0 for none: the newest folded here, and the newest whose bytes are gone."""

    redacted: int
    erased: int
    progress: float
    error: str | None = Field(description="Why the last attempt failed; it is made again.")
    indexed: bool = Field(description="Whether they are still in the full-text index, which goes on without them.")


class Target(Model):
    """One of message, body, position (with event), dkim and apop."""

    message: Digest | None = None
    body: Digest | None = None
    position: Count | None = None
    event: int | None = Field(None, ge=0, description="Of the record at the position; null: all of its events.")
    dkim: Domain | None = None
    apop: TenantName | None = None


class Redaction(Model):
    """What is to be erased. A dry run only tells what that is, and needs no reason."""

    target: Target = Field(examples=[{"message": "00" * 32}])
    reason: Why = ""
    dry_run: bool = False


class RedactedEvent(Model):
    """An event of the log."""

    position: int
    event: int


class RedactedBody(Model):
    """A body, and where it came into the log."""

    position: int
    sha256: str


class Redacted(Model):
    """What was found; after a dry run nothing more."""

    events: list[RedactedEvent]
    bodies: list[RedactedBody]
    mailboxes: int
    queue_items: int
    position: int | None = Field(None, description="Where the log says so.")
    complete: bool | None = Field(None, description="False where more of it keeps coming: once more.")


@ENDPOINTS.post("/v1/log/{position:\\d{1,18}}/quarantine", "log:write", CLUSTER, Position, reads="local")
async def quarantine(call: Call, body: QuarantineReason) -> dict[str, Any]:
    """Pass over the record at which the fold is stalled; answers once this node's fold goes on."""
    node, position, reason = call.services, int(call.path["position"]), body.reason
    status = node.log.status()
    if status.stalled is None:
        text = "the fold is not stalled: there is nothing to quarantine"
        raise ApiError(409, "conflict", text, code="not_stalled")
    if position != status.applied + 1:
        stalled_at = f"the fold is stalled at {status.applied + 1}, not at {position}"
        raise ApiError(409, "conflict", stalled_at, status.stalled, code="stalled_elsewhere")
    done = await node.runtime.ask(CUSTODY, Quarantine(position, reason), call.context)
    return {"position": done.position}


@ENDPOINTS.get("/v1/redactions", "redaction:read", CLUSTER, Erasure, reads="local")
async def erased(call: Call, query: ErasureQuery) -> dict[str, Any]:
    """Tell how far this node is with erasing what was redacted."""
    eraser, fulltext = call.services.log.eraser, call.services.fulltext
    wait_for, wait_s = query.wait_for, query.wait_s
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            while eraser.status().erased < wait_for or not (fulltext is None or fulltext.is_free_of(wait_for)):
                await asyncio.sleep(0.1)
    status = eraser.status()
    indexed = fulltext is not None and not fulltext.is_free_of(status.redacted)
    return {**status._asdict(), "indexed": indexed}


@ENDPOINTS.post("/v1/redactions", "redaction:write", CLUSTER, Redacted, reads="fresh", once=False)
async def redact(call: Call, body: Redaction) -> dict[str, Any]:
    """Find what holds something, and erase it; gives what was found. Erasing again what is erased changes nothing."""
    target, dry_run, node = _target(body.target), body.dry_run, call.services
    if not dry_run and not body.reason:
        raise bad_request("reason: is missing")
    if call.stale and not dry_run:
        text = "no majority of the cell answers, so nothing was redacted"
        raise ApiError(503, "not_ready", text, code="no_majority_answers")
    plan = await _plan(node, target)
    answer = _described(plan)
    if dry_run:
        return answer
    position, rounds = 0, 0
    while plan is not None and rounds < MOST_ROUNDS:  # what came while it was looked for is found the next time
        position = (await _erase(call, plan, body.reason)).position
        rounds += 1
        plan = await _plan(node, target, again=True)
    return {**answer, "position": position, "complete": plan is None}


def _target(given: Target) -> dict[str, Any]:
    """As the job that looks for it is told. Raises ApiError, InvalidName."""
    found = given.model_dump(exclude_none=True)
    kinds = set(found) - {"event"}
    if len(kinds) != 1 or ("event" in found and "position" not in found):
        what = "a message or a body by SHA-256, a position, a domain's DKIM keys, or a tenant's APOP"
        raise bad_request(f"target: {what}", "mailraft mailbox show")
    if given.dkim is not None:
        return {"dkim": normalise_domain(given.dkim)}
    if given.position is not None:
        return {"position": given.position, "event": given.event}
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
        raise ApiError(404, "not_found", found["nothing"], code="nothing_to_redact")
    return unpacked(bytes.fromhex(found["plan"]))


async def _erase(call: Call, plan: Plan, reason: str) -> Done:
    """One record: the redaction, and what each mailbox and queue does about it."""
    node = call.services
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
        return await node.runtime.transact(steps, call.context, [NewBody(tenant, PLACEHOLDER) for tenant in tenants])
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
