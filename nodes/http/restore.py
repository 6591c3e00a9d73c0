"""Restore of a mailbox over the admin API: the difference to a moment of the past, then what undoes it."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from aiohttp import web
from pydantic import Field

from actors import directory
from nodes.http import places
from nodes.http.calls import Call
from nodes.http.endpoint import Endpoints
from nodes.http.errors import ApiError, bad_request, of_exception
from nodes.http.models import Count, Milliseconds, Model
from nodes.http.places import in_path
from nodes.http.streams import JobLine, lines_of, lines_response
from nodes.moments import Moment
from nodes.past import NotThen, PastMailbox
from nodes.restore import carry_out
from nodes.restore_plan import NothingThere, Plan, Scope, difference

ENDPOINTS = Endpoints("restore")


class Restore(Model):
    """`position` or `at_ms`; if not all is wanted, a folder, and UIDs in it."""

    position: Count | None = None
    at_ms: Milliseconds | None = None
    folder: str | None = Field(None, max_length=1024, examples=["INBOX"])
    uids: list[Count] | None = Field(None, description="Of the folder that is named.", examples=[None])
    drop_newer: bool = Field(False, description="Also take away what came later.")
    dry_run: bool = False


class RestoreLine(JobLine):
    """First the plan, as of which moment and position; then progress; then the result or an error."""

    plan: dict[str, Any] | None = None


@ENDPOINTS.post(
    "/v1/mailboxes/{address}/restore",
    "mailboxes:write",
    places.account(in_path("address")),
    lines_of(RestoreLine),
    once=False,
)
async def restore(call: Call, body: Restore) -> web.StreamResponse:
    """Make a mailbox as it was at a moment of the past. What is as it was already is left alone."""
    moment, scope, node = _moment(body), _scope(body), call.services
    with node.log.snapshot() as snapshot:
        target = directory.account_of(snapshot, call.path["address"])
    by = call.context
    try:
        past = await node.past.open(target, moment, by.by, by.cause)
    except NotThen as error:
        raise ApiError(
            404, "not_found", str(error), "another moment; mailraft log tail --account ADDRESS tells what there is"
        ) from None
    try:
        plan = await difference(node.log, target, past, scope)
        return await _answer(call, plan, past, target, body.dry_run)
    except NothingThere as error:
        raise ApiError(404, "not_found", str(error), "mailraft mailbox show ADDRESS --as-of TIME") from None
    finally:
        node.past.close(target, past)


async def _answer(
    call: Call, plan: Plan, past: PastMailbox, target: directory.Target, dry_run: bool
) -> web.StreamResponse:
    node = call.services
    response = lines_response(call.request)
    await response.prepare(call.request)

    async def say(value: Any) -> None:
        with contextlib.suppress(ConnectionResetError):  # a client that goes away does not leave it half done
            await response.write(json.dumps(value).encode() + b"\n")

    await say({"plan": plan.as_json(), "as_of": past.moment, "position": past.position})
    if not dry_run:
        try:
            async for done in carry_out(plan, node.log, node.runtime, target, call.context):
                await say({"progress": [done, plan.steps]})
        except NothingThere as error:
            await say({"error": str(error)})
            return response
        except Exception as error:
            known = of_exception(error)
            if known is None:
                raise
            await say({"error": f"{known}; what was done stays, and the command again goes on"})
            return response
    await say({"result": {"changed": not dry_run and not plan.is_empty}})
    await response.write_eof()
    return response


def _moment(body: Restore) -> Moment:
    if (body.position is None) == (body.at_ms is None):
        raise bad_request("position or at_ms: one of them")
    return Moment(body.position, body.at_ms)


def _scope(body: Restore) -> Scope:
    if body.uids is not None and body.folder is None:
        raise bad_request("uids: a list of UIDs, of a folder that is named")
    return Scope(body.folder, None if body.uids is None else frozenset(body.uids), body.drop_newer)
