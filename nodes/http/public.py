"""/healthz, /readyz and /metrics: what a load balancer, a service manager and Prometheus ask. In clear, no secrets."""

from __future__ import annotations

from aiohttp import web

from nodes.metrics import CONTENT_TYPE
from nodes.state import NodeState

STATE = web.AppKey("state", NodeState)


def application(state: NodeState) -> web.Application:
    """The application for listen.http."""
    app = web.Application()
    app[STATE] = state
    app.router.add_get("/healthz", _healthz)
    app.router.add_get("/readyz", _readyz)
    app.router.add_get("/metrics", _metrics)
    return app


async def _healthz(_request: web.Request) -> web.Response:
    """200 as long as the process answers at all."""
    return web.json_response({"ok": True})


async def _readyz(request: web.Request) -> web.Response:
    """200 when clients may be sent here, else 503 and why not."""
    reasons = request.app[STATE].unready()
    return web.json_response({"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200)


async def _metrics(request: web.Request) -> web.Response:
    state = request.app[STATE]
    state.measure()
    text = state.metrics.exposition() if state.crew is None else await state.crew.exposition()
    return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE})
