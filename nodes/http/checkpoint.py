"""A checkpoint of this node over the admin API, for a node that joins. Made in a process of its own (nodes/jobs.py).

A node of the cell may ask for it with its own certificate, once the cell has added it.
"""

from __future__ import annotations

import asyncio
from typing import cast

from aiohttp import web

from nodes import jobs
from nodes.http.authority import STATE, node_name
from nodes.http.calls import Call
from nodes.http.endpoint import Bytes, Endpoints
from nodes.http.errors import LOGGER, ApiError
from nodes.http.places import CLUSTER
from nodes.services import Logger

ENDPOINTS = Endpoints("checkpoint")
MOST_AT_ONCE = 2  # each holds pages of the database while the tables go out
STALL_S = 60.0  # a receiver that takes nothing for so long is given up


@ENDPOINTS.get("/v1/checkpoint", "backup:read", CLUSTER, Bytes(), reads="strict", nodes=True)
async def send(call: Call) -> web.StreamResponse:
    """Send a checkpoint of this node, for a node that joins.

    It has what is folded here: all that was acknowledged before the request, at least. A node of the cell may ask for
    it with its own certificate, once the cell has added it.
    """
    _check_member(call)
    state = call.request.app[STATE]
    if state.checkpoints_under_way >= MOST_AT_ONCE:
        raise ApiError(503, "not_ready", "this node is sending checkpoints already", "another node, or later")
    state.checkpoints_under_way += 1
    try:
        return await _stream(call)
    finally:
        state.checkpoints_under_way -= 1


def _check_member(call: Call) -> None:
    name = node_name(call.request)
    members = [member.name for member in call.services.log.members()]
    if name is not None and name not in members:
        raise ApiError(403, "forbidden", f"{name} is no member of the cell", "mailraft cluster add-node DIR")


async def _stream(call: Call) -> web.StreamResponse:
    request, config = call.request, call.services.config
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    async with jobs.started("checkpoint", config.node.data_dir, config.node.cluster_id) as process:
        await response.prepare(request)
        try:
            while data := await jobs.output(process):
                async with asyncio.timeout(STALL_S):
                    await response.write(data)
            await response.write_eof()
        except (jobs.JobFailed, TimeoutError, ConnectionError) as error:
            # the receiver sees a torn stream, and leaves nothing of it
            cast(Logger, request.app[LOGGER]).warning(
                "a checkpoint was not sent to its end", reason=str(error) or type(error).__name__
            )
            if request.transport is not None:
                request.transport.abort()
    return response
