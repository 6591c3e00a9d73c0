"""The source's side: an application on `listen.region` that streams what a grant covers, in the log's order, live.

Who asks is said by a certificate of this cell's CA that names a grant; what the grant covers, and whether it still
holds, is in the log. It is read in short slices off the event loop, and sent only as fast as the follower takes it:
what is held in memory is one slice, or one record with its bodies.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from aiohttp import web

from actors import region
from actors.custody import CUSTODY
from actors.kind import decode, encode
from actors.region import REGION, Grant
from actors.sealing import SealBroken, seal
from actors.tenant import SEALED, sealed_place
from eventlog.errors import OutcomeUnknown
from eventlog.fold import Outcome
from eventlog.journal import KIND_NOOP
from eventlog.log import EventLog
from eventlog.record import (
    Event,
    RecordError,
    body_commitment,
    decode_with_header,
    event_commitment,
    leaves,
    raw_leaf,
)
from eventlog.store import GENESIS, Snapshot, StoredRecord
from nodes.follower import wire
from nodes.follower.erasures import erasure_in
from nodes.follower.scope import Scope, bodies_of, may_see_header
from nodes.http.errors import LOGGER, REFUSALS, TRACING, ApiError, answer_errors, bad_request
from nodes.refusals import Refusals
from nodes.resealed import Resealed
from nodes.services import Logger, Services
from nodes.state import NodeState
from nodes.tls.contexts import peer_follower

STATE = web.AppKey("state", NodeState)
OPEN = web.AppKey("open", Counter)
SLICE_POSITIONS = 256
SLICE_BYTES = 1024 * 1024
HEARTBEAT_S = 1.0
BARRIER_S = 3.0
MOST_STREAMS = 4  # of one grant: a follower's new leader may come before the old one's connection is known to be gone


class Slice(NamedTuple):
    """Frames, and the position up to which they go; `head` where that is the end of the log."""

    frames: list[bytes]
    reached: int
    horizon: wire.Horizon
    head: wire.Head | None


def application(state: NodeState, logger: Logger) -> web.Application:
    """The application for listen.region."""
    app = web.Application(middlewares=[answer_errors], client_max_size=0)
    app[STATE] = state
    app[LOGGER] = logger
    app[REFUSALS] = Refusals(state.metrics, logger)
    app[TRACING] = lambda: state.services.tracing if state.services is not None else None
    app[OPEN] = Counter()
    app.router.add_get("/v1/follow", _follow)
    return app


async def _follow(request: web.Request) -> web.StreamResponse:
    """?after=N&chain=HEX: what comes after a position whose chain the follower knows."""
    node = _services(request)
    after, chain = _place(request)
    try:
        await node.log.barrier(BARRIER_S)  # so that neither a grant nor a position is missed because this node lags
    except OutcomeUnknown:
        raise ApiError(503, "not_ready", "no majority of the cell answers", "another node of the cell") from None
    grant = _grant(request, node)
    _check_place(node.log, after, chain)
    streams = request.app[OPEN]
    if streams[grant.name] >= MOST_STREAMS:
        raise ApiError(503, "not_ready", f"{grant.name} follows from here {MOST_STREAMS} times already")
    streams[grant.name] += 1
    node.logger.info("a follower has come", grant=grant.name, after=after)
    try:
        return await _stream(request, node, grant, after)
    finally:
        streams[grant.name] -= 1
        node.logger.info("a follower has gone", grant=grant.name)


async def _stream(request: web.Request, node: Services, grant: Grant, position: int) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    await response.prepare(request)
    scope, seal_for = Scope(grant.tenant, grant.account), _sealer(node, grant)
    with contextlib.suppress(ConnectionError):
        while True:
            try:
                _grant(request, node)
            except ApiError as error:
                await response.write(wire.pack(wire.End(error.category, str(error))))
                break
            found = await asyncio.to_thread(read_slice, node.log, position + 1, scope, seal_for)
            await response.write(wire.pack(found.horizon))
            for frame in found.frames:
                await response.write(frame)
            position = found.reached
            if found.head is not None:
                await response.write(wire.pack(found.head))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(HEARTBEAT_S):
                        await node.log.applied(position + 1)
        await response.write_eof()
    return response


def _services(request: web.Request) -> Services:
    state = request.app[STATE]
    if state.services is None:
        raise ApiError(503, "not_ready", "; ".join(state.unready()), "another node of the cell")
    return state.services


def _grant(request: web.Request, node: Services) -> Grant:
    """The grant that the certificate names, if it holds. Raises ApiError."""
    peer = request.transport.get_extra_info("ssl_object") if request.transport is not None else None
    files = request.app[STATE].tls_files
    taken = files is None or files.admission.admits(peer)
    named = peer_follower(peer, node.config.node.cluster_id) if taken else None
    if named is None:
        raise ApiError(403, "forbidden", "this needs a follower's certificate of this cell", "mailraft region grant")
    with node.log.snapshot() as snapshot:
        grant = region.grant(snapshot.view(REGION), named[0])
    if grant is None:
        raise ApiError(403, "forbidden", f"this cell has no grant {named[0]}", "mailraft region grant")
    if grant.revoked_ms is not None or grant.fingerprint != named[1]:
        raise ApiError(403, "forbidden", f"the grant {grant.name} was revoked", code="grant_revoked")
    if grant.expires_ms < time.time_ns() // 1_000_000:
        raise ApiError(403, "forbidden", f"the grant {grant.name} has expired", code="grant_expired")
    return grant


def _place(request: web.Request) -> tuple[int, bytes]:
    try:
        after, chain = int(request.query["after"]), bytes.fromhex(request.query["chain"])
    except (KeyError, ValueError):
        raise bad_request("after: a position, and chain: its chain hash") from None
    if not 0 <= after < 2**63:
        raise bad_request("after: a position")
    return after, chain


def _check_place(log: EventLog, after: int, chain: bytes) -> None:
    """Raises ApiError where this log is not the one whose chain the follower knows."""
    with log.snapshot() as snapshot:
        last, stored = snapshot.position, snapshot.record(after)
    found = GENESIS if after == 0 else stored.chain if stored is not None and after <= last else None
    if found == chain:
        return
    what = f"it ends at position {last}" if found is None else f"its chain at position {after} is another"
    message = f"this is not the log that was followed up to position {after}: {what}; it was restored to before"
    raise ApiError(409, "diverged", message, "docs/operations.md, Replicas in another cell")


# -- what is sent


Sealer = Callable[[Event], Event | None]


def _sealer(node: Services, grant: Grant) -> Sealer:
    """Seals an event's secret anew, under the key that the grant carries: cluster keys stay at home."""
    key = node.directory.unseal(grant.sealed, grant_place(grant.name))
    resealed = Resealed(node.log, node.directory.keys)

    def sealed_anew(event: Event) -> Event | None:
        """None for what was sealed under a key that is gone, and never anew: nobody logs in with it here either."""
        fact: Any = decode(event.type, event.version, event.data)
        place = sealed_place(event.tenant, fact)
        if place is None:
            return event
        try:
            secret = resealed.unseal(event.stream, fact.sealed, place)
        except SealBroken:
            return None
        return event._replace(data=encode(replace(fact, sealed=seal(key, secret, place))))

    return sealed_anew


def grant_place(name: str) -> bytes:
    """What a grant's secret is bound to in the log."""
    return b"grant/" + name.encode()


def read_slice(log: EventLog, first: int, scope: Scope, sealed_anew: Sealer) -> Slice:
    """What is sent of the entries from `first` on: so many that memory stays bounded, at least one if there is one."""
    frames: list[bytes] = []
    skipped: list[tuple[int, int, int, int, bytes]] = []
    reached, size_bytes = first - 1, 0

    def flush() -> None:
        nonlocal size_bytes
        if skipped:
            frames.append(wire.pack(wire.Skipped(reached - len(skipped) + 1, tuple(skipped))))
            size_bytes += len(frames[-1])
            skipped.clear()

    with log.snapshot() as snapshot:
        for stored in snapshot.records(first, first + SLICE_POSITIONS - 1):
            made = list(_entry(snapshot, stored, scope, sealed_anew))
            if made:
                flush()
                frames += made
                size_bytes += sum(map(len, made))
            else:
                skipped.append(_skipped(stored))
            reached = stored.position
            if size_bytes > SLICE_BYTES:
                break
        flush()
        horizon = wire.Horizon(snapshot.position, snapshot.at_ms)
        at_end = reached >= snapshot.position
        head = wire.Head(snapshot.position, snapshot.at_ms, snapshot.chain) if at_end else None
    return Slice(frames, reached, horizon, head)


def _skipped(stored: StoredRecord) -> tuple[int, int, int, int, bytes]:
    assert stored.outcome is not None
    return stored.term, stored.kind, stored.at_ms, stored.outcome, b"".join(_leaves(stored))


def _leaves(stored: StoredRecord) -> list[bytes]:
    if stored.kind == KIND_NOOP:
        return []
    try:
        return leaves(*decode_with_header(stored.data))
    except RecordError:
        return [raw_leaf(stored.data)]


def _entry(snapshot: Snapshot, stored: StoredRecord, scope: Scope, sealed_anew: Sealer) -> Iterator[bytes]:
    """The frames of an entry, none where nothing of it is for the follower."""
    if stored.outcome != Outcome.COMMITTED or stored.kind == KIND_NOOP:
        return
    if scope.tenant not in stored.data and CUSTODY not in stored.data:
        return  # what names neither the tenant nor what was redacted need not be taken apart
    record, header = decode_with_header(stored.data)
    chosen = {number: event for number, event in enumerate(record.events) if scope.takes(event)}
    erasure = erasure_in(snapshot, record, scope)
    if not chosen and erasure is None:
        return
    wanted = bodies_of(chosen.values())
    bodies = [body for body in record.bodies if body.tenant == scope.tenant and body.digest in wanted]
    contents = [snapshot.body(body.tenant, body.digest) for body in bodies]
    whole_header = may_see_header(scope, record, snapshot)
    altered = {number: sealed_anew(event) for number, event in chosen.items() if event.type in SEALED}
    sent = {**chosen, **altered}
    assert stored.outcome is not None
    assert stored.chain is not None
    yield wire.pack(
        wire.Entry(
            (stored.position, stored.term, stored.kind, stored.at_ms, stored.outcome),
            stored.chain,
            header if whole_header else hashlib.sha256(header).digest(),
            whole_header,
            tuple(sent.get(n) or event_commitment(event) for n, event in enumerate(record.events)),
            tuple(body if body in bodies else body_commitment(body) for body in record.bodies),
            tuple((n, event_commitment(chosen[n])) for n, event in altered.items() if event is not None),
            tuple(content is not None for content in contents),
            erasure,
        )
    )
    for content in contents:
        for at in range(0, len(content or b""), wire.PIECE_BYTES):
            yield wire.pack(wire.Piece((content or b"")[at : at + wire.PIECE_BYTES]))
