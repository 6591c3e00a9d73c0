"""Who asks: an administrator or a node by a certificate of the cell's CA, anybody else by a token.

TLS is always there; who a token speaks for is found in the log (nodes/logins/identities.py), for each request anew.
"""

from __future__ import annotations

import ssl

from aiohttp import web

from actors.roles import CLUSTER_ADMIN
from eventlog.record import By, stream_id
from nodes.http import asking
from nodes.http.endpoint import ANYBODY, Endpoint
from nodes.http.errors import ApiError
from nodes.http.gate import Gate
from nodes.logins.callers import Caller
from nodes.services import Services
from nodes.state import NodeState
from nodes.tls.contexts import peer_admin_name, peer_node_name

STATE = web.AppKey("state", NodeState)
GATE = web.AppKey("gate", Gate)
NOBODY = Caller("nobody", "", None, frozenset(), By("client", bytes(16), "nobody"))


def services_of(request: web.Request) -> Services:
    """The node's parts. Raises ApiError while it has none."""
    state = request.app[STATE]
    if state.services is None:
        category = "quarantined" if state.phase == "quarantined" else "not_ready"
        raise ApiError(503, category, "; ".join(state.unready()), "another node of the cell")
    return state.services


def node_name(request: web.Request) -> str | None:
    """The node of this cell that asks; None for anybody else."""
    return peer_node_name(_peer(request), request.app[STATE].config.node.cluster_id)


def admin_name(request: web.Request) -> str | None:
    """The administrator whose certificate this is; None for anybody else."""
    return peer_admin_name(_peer(request), request.app[STATE].config.node.cluster_id)


def is_ours(tls: ssl.SSLObject | None, cell: str) -> bool:
    """Whether a peer shows the certificate of an administrator or a node of the cell."""
    return peer_admin_name(tls, cell) is not None or peer_node_name(tls, cell) is not None


def shows_ours(request: web.Request) -> bool:
    """The same of who asks."""
    return is_ours(_peer(request), request.app[STATE].config.node.cluster_id)


async def authenticate(endpoint: Endpoint, request: web.Request) -> Caller:
    """Who asks. Raises ApiError (401, 403)."""
    asker, node = identify(request), node_name(request)
    if asker is not None:
        return asker
    if node is not None and endpoint.nodes:
        by = By("node", stream_id("node", node), f"node {node} {request.remote}")
        return Caller(f"node {node}", CLUSTER_ADMIN, None, frozenset({endpoint.permission}), by)
    if endpoint.permission == ANYBODY:
        return NOBODY
    if node is not None:
        raise ApiError(403, "forbidden", "this needs an administrator's certificate of the cell", "DIR/admin")
    raise asking.unauthenticated("this needs an administrator's certificate of the cell, or a token")


def identify(request: web.Request) -> Caller | None:
    """Who shows a token, which then counts alone, or an administrator's certificate; None for anybody else.

    Raises ApiError: 401 for a token that is not good, 429 after many of them.
    """
    gate, remote = request.app[GATE], request.remote or ""
    try:
        return asking.identify(request, admin_name(request), request.app[STATE].identities)
    except ApiError as error:
        if error.status == 401 and "Authorization" in request.headers:
            gate.wrong_token(remote)
        raise


def _peer(request: web.Request) -> ssl.SSLObject | None:
    """The other side; None where its certificate, good when the connection was made, is so no more."""
    peer = request.transport.get_extra_info("ssl_object") if request.transport is not None else None
    files = request.app[STATE].tls_files
    return peer if files is None or files.admission.admits(peer) else None
