"""Outbound mail that waits, over the admin API."""

from __future__ import annotations

import time
from typing import Any

from aiohttp import web

from actors import queue
from nodes.http.admin import answer, catch_up, services

ROUTES = web.RouteTableDef()


@ROUTES.get("/v1/queue")
async def list_items(request: web.Request) -> web.Response:
    stale = await catch_up(request)
    with services(request).log.snapshot() as snapshot:
        items = [
            _item_json(domain, item)
            for domain in queue.queues(snapshot)
            for item in queue.items(snapshot.view(queue.queue_stream(domain)))
        ]
    return answer({"items": items}, stale=stale)


def _item_json(domain: str, item: queue.Item) -> dict[str, Any]:
    now_ms = int(time.time() * 1000)
    held = item.claim is not None and item.claim.until_ms > now_ms
    return {
        "id": item.id.hex(),
        "domain": domain,
        "sender": item.sender,
        "recipients": [
            {"address": one.address, "state": one.state, "next_ms": one.next_ms, "reason": one.reason}
            for one in item.recipients
        ],
        "size": item.size,
        "sha256": item.digest.hex(),
        "attempts": item.attempts,
        "queued_ms": item.queued_ms,
        "next_ms": item.next_ms,
        "expires_ms": item.expires_ms,
        "held_by": item.claim.node if item.claim is not None and held else None,
    }
