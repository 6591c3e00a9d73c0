"""Restore of a mailbox over the admin API: the difference to a moment of the past, then what undoes it."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from aiohttp import web

from actors import directory
from actors.names import normalise_address
from nodes.http.admin import context, count_field, directory_for_change, json_body, services
from nodes.http.errors import ApiError, bad_request, of_exception
from nodes.moments import Moment
from nodes.past import NotThen, PastMailbox
from nodes.restore import carry_out
from nodes.restore_plan import NothingThere, Plan, Scope, difference

ROUTES = web.RouteTableDef()


@ROUTES.post("/v1/mailboxes/{address}/restore")
async def restore(request: web.Request) -> web.StreamResponse:
    """Lines of JSON: {"plan": ...}, {"progress": [done, total]} any number of times, {"result": ...} or {"error": ...}.

    In the body: position or at_ms, and if not all is wanted folder and uids; drop_newer; dry_run.
    """
    body = await json_body(request)
    moment, scope = _moment(body), _scope(body)
    node = services(request)
    await directory_for_change(request)
    by = context(request)
    with node.log.snapshot() as snapshot:
        target = directory.account_of(snapshot, normalise_address(request.match_info["address"]))
    by = by._replace(tenant=target.tenant)
    try:
        past = await node.past.open(target, moment, by.by, by.cause)
    except NotThen as error:
        raise ApiError(
            404, "not_found", str(error), "another moment; mailraft log tail --account ADDRESS tells what there is"
        ) from None
    try:
        plan = await difference(node.log, target, past, scope)
        return await _answer(request, plan, past, target, body.get("dry_run") is True)
    except NothingThere as error:
        raise ApiError(404, "not_found", str(error), "mailraft mailbox show ADDRESS --as-of TIME") from None
    finally:
        node.past.close(target, past)


async def _answer(
    request: web.Request, plan: Plan, past: PastMailbox, target: directory.Target, dry_run: bool
) -> web.StreamResponse:
    node = services(request)
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)

    async def say(value: Any) -> None:
        with contextlib.suppress(ConnectionResetError):  # a client that goes away does not leave it half done
            await response.write(json.dumps(value).encode() + b"\n")

    await say({"plan": plan.as_json(), "as_of": past.moment, "position": past.position})
    if not dry_run:
        by = context(request)._replace(tenant=target.tenant)
        try:
            async for done in carry_out(plan, node.log, node.runtime, target, by):
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


def _moment(body: dict[str, Any]) -> Moment:
    position, at_ms = count_field(body, "position"), count_field(body, "at_ms")
    if (position is None) == (at_ms is None):
        raise bad_request("position or at_ms: one of them")
    return Moment(position, at_ms)


def _scope(body: dict[str, Any]) -> Scope:
    folder, uids = body.get("folder"), body.get("uids")
    if folder is not None and not isinstance(folder, str):
        raise bad_request("folder: must be a name")
    if uids is not None and (
        folder is None or not isinstance(uids, list) or not all(type(uid) is int and uid > 0 for uid in uids)
    ):
        raise bad_request("uids: a list of UIDs, of a folder that is named")
    return Scope(folder, None if uids is None else frozenset(uids), body.get("drop_newer") is True)
